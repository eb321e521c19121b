//! The log seam on a real broker.

use tidelock::{
    error::Result,
    log::{
        Cleanup, Log, Producer, Record, Rotation, TopicSpec,
        kafka::{Kafka, KafkaConfig, Options},
    },
};
use tidelock_lab::Lab;

use crate::conformance::{Member, committed, record, seen, sent, text, unique, within};

mod figures;
mod implicit;
mod last_record;
mod late;
mod producer;
mod rebalance;
mod topics;

/// `RUST_LOG=tidelock=debug` shows what happens; `TIDELOCK_TEST_RDKAFKA_DEBUG=cgrp,fetch` lets librdkafka tell more.
pub(crate) fn options() -> Options {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    match std::env::var("TIDELOCK_TEST_RDKAFKA_DEBUG") {
        Ok(contexts) => Options::default().with("debug", contexts),
        Err(_) => Options::default(),
    }
}

fn config() -> KafkaConfig {
    KafkaConfig { options: options(), brokers: Lab::shared().kafka_url(), ..KafkaConfig::default() }
}

fn kafka() -> Kafka {
    Kafka::new(config()).expect("settings are fine")
}

async fn topic(kafka: &Kafka, partitions: i32, cleanup: Cleanup) -> String {
    let spec = TopicSpec { name: unique("topic"), partitions: Some(partitions), cleanup };
    assert_eq!(kafka.topic(&spec).await.expect("topic"), partitions);
    spec.name
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

async fn producer(kafka: &Kafka) -> Result<Box<dyn Producer>> {
    kafka.producer(&unique("producer")).await
}
