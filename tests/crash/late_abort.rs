//! The process of the test of rotation: one transaction is aborted, the next one is committed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use tidelock::{
    commit::Commit,
    log::{
        Log, Producer, Record,
        kafka::{Kafka, KafkaConfig},
    },
    message::Headers,
};

pub(crate) const TOPIC: &str = "late";
const KAFKA: &str = "TIDELOCK_TEST_LATE_ABORT";
const MARKER: &str = "TIDELOCK_TEST_MARKER";

pub(crate) fn start(kafka: &str, marker: &Path, without_rotation: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::late_abort::child", "--exact", "--ignored"]).env(KAFKA, kafka).env(MARKER, marker);
    if without_rotation {
        command.env("TIDELOCK_VARIANTS", "no-rotation");
    }
    command.spawn().unwrap()
}

#[tokio::test]
#[ignore = "not a test: the process of the test of rotation"]
async fn child() {
    let Ok(brokers) = std::env::var(KAFKA) else { return };
    let marker = PathBuf::from(std::env::var(MARKER).unwrap());
    let kafka = Kafka::new(KafkaConfig { brokers, ..KafkaConfig::default() }).unwrap();
    let mut producer = kafka.producer("late-abort").await.unwrap();
    producer.begin().await.unwrap();
    send(producer.as_mut(), 0, "aborted").await;
    producer.abort().await;
    if producer.begin().await.is_err() {
        assert!(producer.must_rotate().is_some());
        producer = kafka.producer("late-abort").await.unwrap();
        producer.begin().await.unwrap();
    }
    send(producer.as_mut(), 0, "first").await;
    std::fs::write(&marker, b"").unwrap();
    while marker.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    send(producer.as_mut(), 1, "second").await;
    assert!(matches!(producer.commit().await, Commit::Committed));
}

async fn send(producer: &mut dyn Producer, partition: i32, key: &'static str) {
    let record = Record {
        topic: TOPIC.into(),
        partition: Some(partition),
        key: Some(key.into()),
        payload: Some("x".into()),
        headers: Headers::new(),
        time_ms: None,
    };
    producer.send(vec![record]).await.unwrap();
    assert!(producer.acknowledged().await.unwrap().is_empty());
}
