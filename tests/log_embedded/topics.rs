//! Topics as they must be.

use tidelock::{
    error::Kind,
    log::{
        Assignor, Cleanup, Log,
        embedded::{Embedded, EmbeddedConfig},
    },
};

use super::{Member, publish, record, topic};

#[tokio::test(start_paused = true)]
async fn settings_that_make_no_sense_are_refused() {
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
