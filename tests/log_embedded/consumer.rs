//! Reading: from where, until when, and what a group knows.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, ConsumerEvent, Log, embedded::Embedded},
};

use super::{Member, next_of, publish, record, sent, topic};

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_take_holds_up_only_itself() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    for _ in 0..40 {
        publish(&mut *producer, vec![record(&topic, 0, vec![b'x'; (1 << 20) - 1_000])]).await;
    }
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let records = member.records(&held[0], |all| all.len() == 40).await;
    assert!(records.iter().map(|record| record.offset).eq((0..40).map(|number| number * 2)));
}

#[tokio::test(start_paused = true)]
async fn proof_of_another_log_is_refused() {
    let (log, other) = (Embedded::in_memory(), Embedded::in_memory());
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    let mut producer = other.producer("id").await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    let refused = producer.send_offsets(&next_of(&held[0], 1), proof).await.expect_err("another log");
    assert_eq!(refused.kind(), Kind::Config);
}

#[tokio::test(start_paused = true)]
async fn old_records_are_thrown_away() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, vec![record(&topic, 0, "old"), record(&topic, 0, "old")]).await;
    tokio::time::sleep(Duration::from_secs(4 * 24 * 60 * 60)).await;
    publish(&mut *producer, vec![record(&topic, 0, "newer")]).await;
    tokio::time::sleep(Duration::from_secs(4 * 24 * 60 * 60)).await;
    let bounds = log.bounds(&topic, 0).await.expect("bounds");
    assert_eq!((bounds.start, bounds.end), (2, 5));
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start only seeks");
    assert!(matches!(member.event().await, ConsumerEvent::Failed(..)));
}
