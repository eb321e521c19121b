//! Without a database: what is emitted and the offset are one Kafka transaction.

use std::time::Duration;

use tidelock::{database::NoDatabase, prelude::*};

use super::Stage;
use crate::witness::{self, Sent};

events! {
    Number: "kafka_only.in", n => n;
    Double: "kafka_only.out", n => n;
}

struct Doubler;

#[async_trait]
impl Handler<NoDatabase> for Doubler {
    type Event = Number;

    async fn handle(
        &self,
        message: &Message<Number>,
        context: &mut Context<'_, NoDatabase>,
    ) -> Result<Outcome, BoxError> {
        // One in ten fails at its first execution: what it emitted must not come out.
        context.emit(&Double { n: message.event.n * 2 })?;
        if message.event.n % 10 == 0 && message.attempt == 1 {
            return Err("not yet".into());
        }
        Ok(Outcome::Done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn emits_exactly_once_without_a_database() {
    let stage = Stage::new("kafka_only").await;
    witness::create_topic(&stage.kafka_url, Number::TOPIC, 3, &[]).await;
    let sent: Vec<Sent> = (1..=50)
        .map(|n| Sent { key: n.to_string(), payload: format!("{{\"n\":{n}}}"), headers: vec![] })
        .collect();
    stage.write(Number::TOPIC, sent).await;
    let config =
        tidelock::processor::ProcessorConfig { retry_first: Duration::from_millis(10), ..Default::default() };
    let pipeline = Pipeline::builder(stage.kafka(), NoDatabase)
        .processor_defaults(config)
        .processor(Processor::new(&stage.name).handle(Doubler))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    stage.committed_at_least(Double::TOPIC, 50).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
    let mut doubles: Vec<i64> = stage
        .committed(Double::TOPIC)
        .await
        .iter()
        .map(|record| record.json()["n"].as_i64().unwrap())
        .collect();
    doubles.sort_unstable();
    assert_eq!(doubles, (1..=50).map(|n| n * 2).collect::<Vec<_>>());
}
