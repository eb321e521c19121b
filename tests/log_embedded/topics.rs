//! Topics as they must be.

use tidelock::{
    error::Kind,
    log::{
        Assignor, Cleanup, Log, TopicSpec,
        embedded::{Embedded, EmbeddedConfig},
    },
};

use super::{Member, publish, record, topic};

#[tokio::test(start_paused = true)]
async fn a_topic_is_created_once_and_checked_from_then_on() {
    let log = Embedded::in_memory();
    log.check().await.expect("nothing can be wrong");
    let spec = TopicSpec { name: "orders".to_owned(), partitions: Some(3), cleanup: Cleanup::Compact };
    assert_eq!(log.topic(&spec).await.expect("created"), 3);
    assert_eq!(log.topic(&spec).await.expect("there"), 3);
    let wrong = TopicSpec { partitions: Some(6), ..spec.clone() };
    let error = log.topic(&wrong).await.expect_err("another count");
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(error.to_string(), "topic \"orders\" has 3 partitions, config expects 6");
    let default = TopicSpec { name: "any".to_owned(), partitions: None, cleanup: Cleanup::Any };
    assert_eq!(log.topic(&default).await.expect("created"), 6);
    let compacted = TopicSpec { cleanup: Cleanup::Compact, ..default.clone() };
    let error = log.topic(&compacted).await.expect_err("not compacted");
    assert!(error.to_string().contains("cleanup.policy=delete"), "{error}");
    let illegal = TopicSpec { name: "a b".to_owned(), ..default.clone() };
    assert_eq!(log.topic(&illegal).await.expect_err("no name").kind(), Kind::Config);
    assert_eq!(log.bounds("absent", 0).await.expect_err("absent").kind(), Kind::Config);
    assert_eq!(log.last_record("any", 6).await.expect_err("absent").kind(), Kind::Config);

    let config = EmbeddedConfig { create_topics: false, ..EmbeddedConfig::default() };
    let strict = Embedded::in_memory_with(config).expect("settings are fine");
    let error = strict.topic(&default).await.expect_err("not created");
    assert!(error.to_string().contains("does not exist"), "{error}");
    let wrong = EmbeddedConfig { topic_partitions: 0, ..EmbeddedConfig::default() };
    assert_eq!(Embedded::in_memory_with(wrong).expect_err("no partitions").kind(), Kind::Config);
}

#[tokio::test(start_paused = true)]
async fn members_get_a_topic_that_is_created_later() {
    let log = Embedded::in_memory();
    let mut member = Member::join(&log, "group", "later", Assignor::Cooperative).await;
    assert!(member.assigned().await.is_empty());
    topic(&log, "later", 2, Cleanup::Any).await;
    assert_eq!(member.assigned().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_compacted_topic_keeps_the_last_record_of_each_key() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Compact).await;
    let mut producer = log.producer("id").await.expect("producer");
    for round in 0..1_500 {
        let mut one = record(&topic, 0, round.to_string());
        one.key = Some(format!("key {}", round % 3).into());
        publish(&mut *producer, vec![one]).await;
    }
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    let last = 2 * 1_499;
    let records =
        member.records(&held[0], |all| all.last().is_some_and(|record| record.offset == last)).await;
    assert_eq!(records[0].offset, 2 * 997);
    assert_eq!(records.len(), 503);
}
