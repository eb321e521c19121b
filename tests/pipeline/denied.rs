//! The right to write to one topic is missing: its messages go to the quarantine, and nobody else waits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidelock::prelude::*;
use tidelock_lab::Lab;

use super::{Stage, eventually};
use crate::witness;

#[derive(Serialize, Deserialize)]
struct Open {
    n: i64,
}

impl Event for Open {
    const TYPE: &'static str = "Open";
    const TOPIC: &'static str = "denied.open";

    fn key(&self) -> Key {
        self.n.into()
    }
}

#[derive(Serialize, Deserialize)]
struct Shut {
    n: i64,
}

impl Event for Shut {
    const TYPE: &'static str = "Shut";
    const TOPIC: &'static str = "denied.shut";

    fn key(&self) -> Key {
        (self.n % 3).into()
    }
}

#[derive(Serialize, Deserialize)]
struct Passed {
    n: i64,
}

impl Event for Passed {
    const TYPE: &'static str = "Passed";
    const TOPIC: &'static str = "denied.passed";

    fn key(&self) -> Key {
        self.n.into()
    }
}

/// Emits to a topic that it may write to, and to one that it may not.
struct Both;

#[async_trait]
impl Handler<Postgres> for Both {
    type Event = Open;

    async fn handle(
        &self,
        message: &Message<Open>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let n = message.event.n;
        context.emit(&Passed { n })?;
        context.emit(&Shut { n: 100 + n })?;
        Ok(Outcome::Done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_topic_wait_and_all_others_flow() {
    let start = || Lab::builder().postgres(false).authorizer(true).start().unwrap();
    let lab = tokio::task::spawn_blocking(start).await.unwrap();
    let mut stage = Stage::new("denied").await;
    stage.kafka_url = lab.kafka_url();
    for topic in [Open::TOPIC, Shut::TOPIC, Passed::TOPIC] {
        witness::create_topic(&stage.kafka_url, topic, 2, &[]).await;
    }
    let lab = tokio::task::spawn_blocking(move || {
        lab.cluster().deny_writes(Shut::TOPIC).unwrap();
        lab
    })
    .await
    .unwrap();
    let mut business = stage.postgres.outbox().begin().await.unwrap();
    for n in 0..10 {
        business.enqueue(&Open { n }).unwrap();
        business.enqueue(&Shut { n }).unwrap();
    }
    business.commit().await.unwrap();
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .relay(RelayConfig::new(&stage.name))
        .processor(Processor::new(&stage.name).handle(Both))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    assert_eq!(stage.committed_at_least(Passed::TOPIC, 10).await.len(), 10);
    eventually("all that is refused waits", async || {
        stage.postgres.quarantine(100).await.unwrap().len() == 20
    })
    .await;
    let waiting = stage.postgres.quarantine(100).await.unwrap();
    assert!(waiting.iter().all(|entry| entry.topic == Shut::TOPIC), "{waiting:?}");
    assert!(waiting.iter().any(|entry| entry.reason.contains("right to write to topic \"denied.shut\"")));
    eventually("nobody is in trouble", async || pipeline.is_ready()).await;
    assert!(stage.committed(Shut::TOPIC).await.is_empty());

    let _lab = tokio::task::spawn_blocking(move || {
        lab.cluster().allow_writes(Shut::TOPIC).unwrap();
        lab
    })
    .await
    .unwrap();
    eventually("all are released", async || {
        for entry in stage.postgres.quarantine(100).await.unwrap() {
            if !entry.release_asked {
                // It may be on its way already.
                let _ = stage.postgres.release(entry.id).await;
            }
        }
        stage.postgres.quarantine(100).await.unwrap().is_empty()
    })
    .await;
    let mut found: Vec<i64> = stage
        .committed_at_least(Shut::TOPIC, 20)
        .await
        .iter()
        .map(|record| record.json()["n"].as_i64().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..10).chain(100..110).collect::<Vec<_>>());
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}
