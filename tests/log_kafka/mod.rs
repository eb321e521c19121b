//! The log seam on a real broker.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tidelock::{
    error::Result,
    log::{
        Assignment, Assignor, Cleanup, Commit, Consumer, ConsumerEvent, ConsumerEvents, Handback, Log,
        Producer, Received, Record, Rotation, Subscription, TopicSpec,
        kafka::{Kafka, KafkaConfig, Options},
    },
    message::Headers,
};
use tidelock_lab::Lab;

mod consumer;
mod figures;
mod implicit;
mod last_record;
mod producer;
mod rebalance;
mod topics;

/// `RUST_LOG=tidelock=debug` shows what happens; `TIDELOCK_TEST_RDKAFKA_DEBUG=cgrp,fetch` lets librdkafka tell more.
fn config() -> KafkaConfig {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let options = match std::env::var("TIDELOCK_TEST_RDKAFKA_DEBUG") {
        Ok(contexts) => Options::default().with("debug", contexts),
        Err(_) => Options::default(),
    };
    KafkaConfig { options, brokers: Lab::shared().kafka_url(), ..KafkaConfig::default() }
}

fn kafka() -> Kafka {
    Kafka::new(config()).expect("settings are fine")
}

fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::now_v7().simple())
}

async fn topic(kafka: &Kafka, partitions: i32, cleanup: Cleanup) -> String {
    let spec = TopicSpec { name: unique("topic"), partitions: Some(partitions), cleanup };
    assert_eq!(kafka.topic(&spec).await.expect("topic"), partitions);
    spec.name
}

fn record(topic: &str, partition: i32, payload: impl Into<Vec<u8>>) -> Record {
    let payload: Vec<u8> = payload.into();
    Record {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(Bytes::from_static(b"k")),
        payload: Some(payload.into()),
        headers: Headers::new(),
        time_ms: None,
    }
}

/// Sends and waits for every acknowledgement; the transaction stays open.
async fn sent(producer: &mut dyn Producer, records: Vec<Record>) {
    producer.begin().await.expect("begin");
    producer.send(records).await.expect("send");
    let refused = producer.acknowledged().await.expect("acknowledged");
    assert!(refused.is_empty(), "{refused:?}");
}

/// One transaction by a producer that is rotated when it must be.
async fn publish(kafka: &Kafka, producer: &mut Box<dyn Producer>, records: Vec<Record>) {
    sent(&mut **producer, records).await;
    committed(producer.commit().await);
    if let Some(why) = producer.must_rotate() {
        assert!(matches!(why, Rotation::SlowCommit | Rotation::SlowOffsets), "{why}");
        *producer = kafka.producer(producer.transactional_id()).await.expect("rotation");
    }
}

fn committed(outcome: Commit) {
    assert!(matches!(outcome, Commit::Committed), "{outcome:?}");
}

/// Fails with the caller's line when it takes too long.
#[track_caller]
fn within<T>(seconds: u64, what: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(seconds), what).await {
            Ok(value) => value,
            Err(_) => panic!("not within {seconds} s, waited for at {caller}"),
        }
    }
}

/// A group member and what it was told.
struct Member {
    consumer: std::sync::Arc<dyn Consumer>,
    events: ConsumerEvents,
}

impl Member {
    async fn join(kafka: &Kafka, group: &str, topic: &str, assignor: Assignor) -> Self {
        Self::named(kafka, group, topic, assignor, None).await
    }

    async fn named(
        kafka: &Kafka,
        group: &str,
        topic: &str,
        assignor: Assignor,
        instance: Option<&str>,
    ) -> Self {
        let subscription = Subscription {
            group: group.to_owned(),
            topics: vec![topic.to_owned()],
            instance: instance.map(str::to_owned),
            assignor,
        };
        let (consumer, events) = kafka.consumer(&subscription).await.expect("consumer");
        Self { consumer, events }
    }

    /// Closes without listening: whoever listens is asked for a handback first.
    async fn close(self) {
        drop(self.events);
        self.consumer.close().await;
    }

    #[track_caller]
    fn event(&mut self) -> impl Future<Output = ConsumerEvent> {
        let next = within(30, self.events.recv());
        async { next.await.expect("events ended") }
    }

    #[track_caller]
    fn assigned(&mut self) -> impl Future<Output = Vec<Assignment>> {
        let event = self.event();
        async {
            match event.await {
                ConsumerEvent::Assigned(partitions) => partitions,
                other => panic!("expected an assignment, got {other:?}"),
            }
        }
    }

    #[track_caller]
    fn revoked(&mut self) -> impl Future<Output = (Vec<Assignment>, bool, Handback)> {
        let event = self.event();
        async {
            match event.await {
                ConsumerEvent::Revoked { partitions, lost, handback } => (partitions, lost, handback),
                other => panic!("expected a revocation, got {other:?}"),
            }
        }
    }

    /// Records of one partition until `enough`.
    async fn records(&mut self, from: &Assignment, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let mut all = Vec::new();
        while !enough(&all) {
            match self.event().await {
                ConsumerEvent::Records { assignment, records, .. } => {
                    assert_eq!(assignment, *from);
                    all.extend(records);
                }
                other => panic!("expected records, got {other:?}"),
            }
        }
        all
    }
}

/// What a read_committed reader sees of a partition, up to a record with that payload.
async fn seen(kafka: &Kafka, topic: &str, partition: i32, last: &str) -> Vec<String> {
    let mut member = Member::join(kafka, &unique("reader"), topic, Assignor::Eager).await;
    let assigned = member.assigned().await;
    let assignment = assigned.iter().find(|each| each.partition == partition).expect("assigned");
    member.consumer.start(assignment, 0).await.expect("start");
    let records =
        member.records(assignment, |all| all.last().is_some_and(|record| text(record) == last)).await;
    member.close().await;
    records.iter().map(text).collect()
}

fn text(record: &Received) -> String {
    String::from_utf8_lossy(record.payload.as_deref().unwrap_or_default()).into_owned()
}

async fn producer(kafka: &Kafka) -> Result<Box<dyn Producer>> {
    kafka.producer(&unique("producer")).await
}
