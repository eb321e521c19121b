//! What Kafka refuses for good waits in quarantine; everything else flows, and nothing is lost.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidelock::{outbox::Outgoing, prelude::*, relay::RelayConfig};

use super::{Stage, eventually};
use crate::witness::{self, Sent};

fn payload(n: u32, size: usize) -> Option<Bytes> {
    Some(format!("{n} {}", "x".repeat(size)).into())
}

fn numbers(found: &[crate::witness::Found], key: &str) -> Vec<u32> {
    let of_key = found.iter().filter(|record| record.key == key);
    of_key
        .map(|record| str::from_utf8(&record.payload).unwrap().split(' ').next().unwrap().parse().unwrap())
        .collect()
}

/// A record that the topic's limit refuses takes later ones of its key along; released, all come in order, and before
/// a message of the key that was committed, but not read, when the release was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_and_their_key_come_back_in_order() {
    let stage = Stage::new("quarantine").await;
    let topic = format!("{}.large", stage.name);
    witness::create_topic(&stage.kafka_url, &topic, 2, &[("max.message.bytes", "20000")]).await;
    let outbox = stage.postgres.outbox();
    let enqueue = async |key: &'static str, numbers: std::ops::Range<u32>, size: usize| {
        let mut last = None;
        for n in numbers {
            let mut transaction = outbox.begin().await.unwrap();
            last = Some(transaction.enqueue_message(Outgoing::raw(topic.clone(), key, payload(n, size))));
            transaction.commit().await.unwrap();
        }
        last.unwrap()
    };
    enqueue("a", 1..3, 10).await;
    let large = enqueue("a", 3..4, 50_000).await;
    enqueue("a", 4..6, 10).await;
    enqueue("b", 1..6, 10).await;
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .relay(RelayConfig::new(&stage.name))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    let found = stage.committed_at_least(&topic, 7).await;
    assert_eq!(numbers(&found, "a"), [1, 2]);
    assert_eq!(numbers(&found, "b"), [1, 2, 3, 4, 5]);
    eventually("the refused message and two behind it are held", async || {
        stage.postgres.quarantine(10).await.unwrap().len() == 3
    })
    .await;
    let held = stage.postgres.quarantine(10).await.unwrap();
    assert_eq!(held[0].id, large);
    assert!(held[0].reason.contains("large"), "{}", held[0].reason);
    assert!(held[1].reason.contains("behind"), "{}", held[1].reason);
    enqueue("a", 6..8, 10).await;
    enqueue("b", 6..7, 10).await;
    eventually("later messages of the key are held too", async || {
        stage.postgres.quarantine(10).await.unwrap().len() == 5
    })
    .await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();

    assert!(stage.postgres.release(tidelock::message::MessageId::new()).await.is_err());
    assert_eq!(stage.postgres.release(large).await.unwrap(), 5);
    enqueue("a", 8..10, 10).await;
    witness::set_topic(&stage.kafka_url, &topic, "max.message.bytes", "1000000").await;
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .relay(RelayConfig::new(&stage.name))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    let found = stage.committed_at_least(&topic, 15).await;
    assert_eq!(numbers(&found, "a"), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(numbers(&found, "b"), [1, 2, 3, 4, 5, 6]);
    eventually("the quarantine is empty", async || stage.postgres.quarantine(10).await.unwrap().is_empty())
        .await;
    eventually("the outbox is empty", async || {
        stage.count("SELECT count(*) FROM tidelock.outbox").await == 0
    })
    .await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

/// A topic that may not be created refuses its rows, not the others.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_stops_nothing_else() {
    let stage = Stage::new("unknown_topic").await;
    let known = format!("{}.known", stage.name);
    witness::create_topic(&stage.kafka_url, &known, 1, &[]).await;
    witness::create_topic(
        &stage.kafka_url,
        &format!("tidelock.{}.progress", stage.name),
        1,
        &[("cleanup.policy", "compact")],
    )
    .await;
    let outbox = stage.postgres.outbox();
    let mut transaction = outbox.begin().await.unwrap();
    transaction.enqueue_message(Outgoing::raw("no.such.topic", "k", payload(1, 1)));
    transaction.enqueue_message(Outgoing::raw(known.clone(), "k", payload(2, 1)));
    transaction.commit().await.unwrap();
    let pipeline =
        Pipeline::builder(stage.kafka_with(|config| config.create_topics = false), stage.postgres.clone())
            .relay(RelayConfig::new(&stage.name))
            .build()
            .unwrap();
    pipeline.start().await.unwrap();
    assert_eq!(numbers(&stage.committed_at_least(&known, 1).await, "k"), [2]);
    eventually("one is held", async || stage.postgres.quarantine(10).await.unwrap().len() == 1).await;
    let held = stage.postgres.quarantine(10).await.unwrap();
    assert!(held[0].reason.contains("no.such.topic"), "{}", held[0].reason);
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

#[derive(Serialize, Deserialize)]
struct Ask {
    key: String,
    n: u32,
    size: usize,
}

impl Event for Ask {
    const TYPE: &'static str = "Ask";
    const TOPIC: &'static str = "held.asks";

    fn key(&self) -> Key {
        Key::NONE
    }
}

#[derive(Serialize, Deserialize)]
struct Answer {
    key: String,
    n: u32,
    text: String,
}

impl Event for Answer {
    const TYPE: &'static str = "Answer";
    const TOPIC: &'static str = "held.answers";

    fn key(&self) -> Key {
        if self.key.is_empty() { Key::NONE } else { self.key.as_str().into() }
    }
}

struct Echo;

#[async_trait]
impl Handler<Postgres> for Echo {
    type Event = Ask;

    async fn handle(
        &self,
        message: &Message<Ask>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let Ask { key, n, size } = &message.event;
        context.emit(&Answer { key: key.clone(), n: *n, text: "x".repeat(*size) })?;
        Ok(Outcome::Done)
    }
}

async fn ask(stage: &Stage, asks: impl IntoIterator<Item = (&'static str, u32, usize)>) {
    let sent: Vec<Sent> = asks
        .into_iter()
        .map(|(key, n, size)| Sent {
            key: String::new(),
            payload: serde_json::to_string(&Ask { key: key.into(), n, size }).unwrap(),
            headers: vec![],
        })
        .collect();
    stage.write(Ask::TOPIC, sent).await;
}

/// An output that the topic's limit refuses keeps back later ones of its key, in later batches and after a restart, while
/// others flow; released under load, they come in order, and the key flows again.
#[tokio::test(flavor = "multi_thread")]
async fn refused_outputs_and_their_key_come_back_in_order() {
    let stage = Stage::new("held_outputs").await;
    witness::create_topic(&stage.kafka_url, Ask::TOPIC, 1, &[]).await;
    witness::create_topic(&stage.kafka_url, Answer::TOPIC, 2, &[("max.message.bytes", "20000")]).await;
    let start = async || {
        let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
            .relay(RelayConfig::new(&stage.name))
            .processor(Processor::new(&stage.name).handle(Echo))
            .build()
            .unwrap();
        pipeline.start().await.unwrap();
        pipeline
    };
    let found = async |key: &'static str| -> Vec<u64> {
        let found = stage.committed(Answer::TOPIC).await;
        let of_key = found.iter().filter(|record| record.key == key);
        of_key.map(|record| record.json()["n"].as_u64().unwrap()).collect()
    };
    let held = async || stage.postgres.quarantine(1_000).await.unwrap();
    let pipeline = start().await;
    ask(&stage, [("a", 1, 10)]).await;
    stage.committed_at_least(Answer::TOPIC, 1).await;
    ask(&stage, [("a", 2, 50_000), ("b", 1, 10), ("a", 3, 10), ("", 1, 50_000), ("", 2, 10), ("b", 2, 10)])
        .await;
    let others = async || (found("b").await, found("").await);
    let come = async { while others().await != (vec![1, 2], vec![2]) {} };
    if tokio::time::timeout(Duration::from_secs(60), come).await.is_err() {
        let reasons: Vec<String> = held().await.into_iter().map(|entry| entry.reason).collect();
        panic!("found {:?}, held {reasons:?}, health {:?}", others().await, pipeline.health());
    }
    ask(&stage, [("a", 4, 10), ("b", 3, 10), ("", 3, 10), ("a", 5, 10)]).await;
    eventually("two are refused and three wait", async || held().await.len() == 5).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();

    let pipeline = start().await;
    ask(&stage, [("a", 6, 10), ("b", 4, 10), ("", 4, 10)]).await;
    eventually("after a restart, too", async || held().await.len() == 6).await;
    eventually("the others come", async || found("b").await == [1, 2, 3, 4] && found("").await.len() == 3)
        .await;
    assert_eq!(found("a").await, [1]);
    let entries = held().await;
    assert!(entries.iter().all(|entry| entry.emitted && !entry.release_asked));
    assert!(entries[0].reason.contains("large"), "{}", entries[0].reason);
    assert!(entries[5].reason.contains("behind"), "{}", entries[5].reason);

    witness::set_topic(&stage.kafka_url, Answer::TOPIC, "max.message.bytes", "1000000").await;
    assert_eq!(stage.postgres.release(entries[0].id).await.unwrap(), 5);
    for n in 0..20 {
        ask(&stage, (0..5).map(|m| ("a", 7 + 5 * n + m, 10))).await;
    }
    let last = 7 + 5 * 20 - 1;
    eventually("all of the key come", async || found("a").await.len() >= last as usize).await;
    eventually("one without a key is left", async || held().await.len() == 1).await;
    ask(&stage, [("a", last + 1, 10), ("b", 5, 10)]).await;
    eventually("the key flows", async || {
        found("a").await.len() > last as usize && found("b").await.len() == 5
    })
    .await;
    assert_eq!(found("a").await, (1..=u64::from(last) + 1).collect::<Vec<u64>>());
    assert_eq!(found("b").await, [1, 2, 3, 4, 5]);
    assert_eq!(held().await.len(), 1);
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}
