//! A processor with one insert per message and the inbox on, against the same with one message per commit.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidelock::{pipeline::Pipeline, prelude::*, processor::ProcessorConfig};

use crate::{
    Bench, median, report,
    witness::{self, Sent},
};

const PARTITIONS: i32 = 6;

#[derive(Serialize, Deserialize)]
struct Ping {
    n: i64,
}

impl Event for Ping {
    const TYPE: &'static str = "Ping";
    const TOPIC: &'static str = "handler";

    fn key(&self) -> Key {
        self.n.into()
    }
}

struct Insert;

#[async_trait]
impl Handler<Postgres> for Insert {
    type Event = Ping;

    async fn handle(
        &self,
        message: &Message<Ping>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        sqlx::query("INSERT INTO effect VALUES ($1)")
            .bind(message.event.n)
            .execute(context.connection())
            .await?;
        Ok(Outcome::Done)
    }
}

pub(crate) async fn run(bench: &Bench, messages: usize) {
    let postgres = bench.postgres().await;
    sqlx::query("CREATE TABLE effect (n bigint)").execute(postgres.pool()).await.unwrap();
    witness::create_topic(&bench.lab.kafka_url(), Ping::TOPIC, PARTITIONS, &[]).await;
    let padding = "x".repeat(bench.payload.saturating_sub(30));
    let sent: Vec<Sent> = (0..messages)
        .map(|n| Sent {
            key: format!("key-{}", n % 10_000),
            payload: format!("{{\"n\":{n},\"padding\":\"{padding}\"}}"),
            headers: vec![
                ("ce_id".into(), uuid::Uuid::now_v7().to_string()),
                ("ce_type".into(), "Ping".into()),
            ],
        })
        .collect();
    let kafka = bench.lab.kafka_url();
    tokio::task::spawn_blocking(move || {
        sent.chunks(50_000).for_each(|chunk| witness::write(&kafka, Ping::TOPIC, chunk))
    })
    .await
    .unwrap();
    let (mut batched, mut single) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        let default = ProcessorConfig::default();
        batched.push(read(bench, &postgres, &format!("batched-{round}"), default.max_batch, messages).await);
        single.push(read(bench, &postgres, &format!("single-{round}"), 1, (messages / 20).max(1)).await);
    }
    report("handler with one insert, batches of up to 500", &batched);
    report("the same, one message per commit", &single);
    println!("ratio: {:.1}", median(batched) / median(single));
}

/// Messages per second of a new group, until `messages` effects are committed.
async fn read(bench: &Bench, postgres: &Postgres, group: &str, max_batch: usize, messages: usize) -> f64 {
    sqlx::query("TRUNCATE effect").execute(postgres.pool()).await.unwrap();
    let config = ProcessorConfig { max_batch, ..ProcessorConfig::default() };
    let pipeline = Pipeline::builder(bench.kafka(), postgres.clone())
        .processor(Processor::new(group).config(config).handle(Insert))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    // Joining the group is not what is measured: the clock starts with the first effect.
    let first = effects_at_least(postgres, 1).await;
    let started = Instant::now();
    let last = effects_at_least(postgres, messages.max(first + 1)).await;
    let took = started.elapsed();
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
    (last - first) as f64 / took.as_secs_f64()
}

async fn effects_at_least(postgres: &Postgres, least: usize) -> usize {
    loop {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM effect").fetch_one(postgres.pool()).await.unwrap();
        if count as usize >= least {
            return count as usize;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
