//! Brokers and topics as they must be.

use tidelock::{
    error::Kind,
    log::{Cleanup, Log, TopicSpec, kafka::Kafka},
};

use super::{config, kafka, topic, unique};

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
async fn a_topic_is_created_once_and_checked_from_then_on() {
    let kafka = kafka();
    let spec = TopicSpec { name: unique("orders"), partitions: Some(3), cleanup: Cleanup::Compact };
    let (first, second) = tokio::join!(kafka.topic(&spec), kafka.topic(&spec));
    assert_eq!((first.expect("created"), second.expect("created")), (3, 3));
    let wrong = TopicSpec { partitions: Some(6), ..spec.clone() };
    let error = kafka.topic(&wrong).await.expect_err("another count");
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(error.to_string(), format!("topic {:?} has 3 partitions, config expects 6", spec.name));

    let any = topic(&kafka, 2, Cleanup::Any).await;
    let compacted = TopicSpec { name: any, partitions: None, cleanup: Cleanup::Compact };
    let error = kafka.topic(&compacted).await.expect_err("not compacted");
    assert!(error.to_string().contains("cleanup.policy=delete"), "{error}");

    let mut strict = config();
    strict.create_topics = false;
    strict.replication_factor = Some(3);
    strict.min_insync_replicas = Some(2);
    let strict = Kafka::new(strict).expect("settings are fine");
    let text = strict.topic(&spec).await.expect_err("one broker").to_string();
    assert!(text.contains("has 1 replicas") && text.contains("min.insync.replicas=1"), "{text}");
    let absent = TopicSpec { name: unique("absent"), ..spec };
    let error = strict.topic(&absent).await.expect_err("not created");
    assert!(error.to_string().contains("does not exist"), "{error}");
}
