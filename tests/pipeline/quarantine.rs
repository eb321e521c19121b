//! What Kafka refuses for good waits in quarantine; everything else flows, and nothing is lost.

use std::time::Duration;

use bytes::Bytes;
use tidelock::{outbox::Outgoing, pipeline::Pipeline, relay::RelayConfig};

use super::{Stage, eventually};
use crate::witness;

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
