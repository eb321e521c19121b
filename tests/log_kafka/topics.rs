//! Brokers and topics as they must be.

use tidelock::{
    error::Kind,
    log::{Cleanup, Log, TopicSpec, kafka::Kafka},
};

use super::{config, kafka, topic};

#[tokio::test]
async fn a_recent_broker_will_do() {
    kafka().check().await.expect("a broker of ours is fine");
    let mut absent = config();
    absent.brokers = "127.0.0.1:1".to_owned();
    absent.query_timeout = std::time::Duration::from_secs(1);
    let error = Kafka::new(absent).expect("settings are fine").check().await.expect_err("nobody there");
    assert!(matches!(error.kind(), Kind::Unavailable | Kind::Timeout), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn too_few_replicas_are_refused() {
    let kafka = kafka();
    let name = topic(&kafka, 3, Cleanup::Compact).await;
    let mut strict = config();
    strict.create_topics = false;
    strict.replication_factor = Some(3);
    strict.min_insync_replicas = Some(2);
    let strict = Kafka::new(strict).expect("settings are fine");
    let spec = TopicSpec { name, partitions: Some(3), cleanup: Cleanup::Compact };
    let text = strict.topic(&spec).await.expect_err("one broker").to_string();
    assert!(text.contains("has 1 replicas") && text.contains("min.insync.replicas=1"), "{text}");
}
