//! What the embedded log does otherwise than Kafka: the list in its documentation, line by line, but for what stands
//! beside: that nothing is late or lost unless faults say so in `faults.rs`, cleaning in `topics.rs`. The other half is in
//! `tests/log_kafka/differences.rs`.

use std::time::Duration;

use futures_util::FutureExt as _;
use tidelock::{
    error::Kind,
    log::{
        Assignor, Bounds, Cleanup, Commit, Log as _, Record, TopicSpec,
        embedded::{Embedded, EmbeddedConfig},
    },
};
use tokio::time::Instant;

use super::{Member, committed, next_of, publish, record, sent, topic};

#[tokio::test(start_paused = true)]
async fn members_hear_of_a_rebalance_at_once_and_nobody_is_waited_for() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 2, Cleanup::Any).await;
    let started = Instant::now();
    let mut first = Member::join(&log, "group", &topic, Assignor::Eager).await;
    assert_eq!(first.assigned().await.len(), 2);
    assert_eq!(started.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    let _second = Member::join(&log, "group", &topic, Assignor::Eager).await;
    drop(first.revoked().await);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_refused_at_once_and_not_created() {
    let log = Embedded::in_memory();
    let mut producer = log.producer("id").await.expect("producer");
    producer.begin().await.expect("begin");
    let started = Instant::now();
    producer.send(vec![record("absent", 0, "nowhere")]).await.expect("send");
    let refused = producer.acknowledged().await.expect("refusals");
    assert_eq!((refused.len(), started.elapsed()), (1, Duration::ZERO));
    assert_eq!(log.bounds("absent", 0).await.expect_err("not created").kind(), Kind::Unavailable);
    let _member = Member::join(&log, "group", "absent", Assignor::Eager).await;
    assert_eq!(log.bounds("absent", 0).await.expect_err("not created").kind(), Kind::Unavailable);
    let spec = TopicSpec { name: "absent".to_owned(), partitions: Some(1), cleanup: Cleanup::Any };
    assert_eq!(log.topic(&spec).await.expect("created"), 1);
}

#[tokio::test(start_paused = true)]
async fn records_without_a_key_go_round() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 6, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    let none = || Record { partition: None, key: None, ..record(&topic, 0, "none") };
    sent(&mut *producer, (0..600).map(|_| none()).collect()).await;
    for partition in 0..6 {
        assert_eq!(log.bounds(&topic, partition).await.expect("bounds").end, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_as_large_as_its_key_its_payload_and_its_headers() {
    let limit = EmbeddedConfig { max_message_bytes: 1_000, ..EmbeddedConfig::default() };
    let log = Embedded::in_memory_with(limit).expect("settings");
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let of_size = |size: usize| {
        let mut one = record(&topic, 0, vec![b'x'; size - 101]);
        one.headers.push("n".repeat(50), "v".repeat(50));
        assert_eq!(one.size(), size);
        one
    };
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, vec![of_size(1_000)]).await;
    producer.begin().await.expect("begin");
    producer.send(vec![of_size(1_001)]).await.expect("send");
    assert_eq!(producer.acknowledged().await.expect("refusals").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_memory_is_complete_at_once_with_its_marker() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    for round in 0..100 {
        sent(&mut *producer, vec![record(&topic, 0, "one")]).await;
        let answer = producer.commit().now_or_never();
        assert!(matches!(answer, Some(Commit::Committed)), "{answer:?}");
        assert_eq!(log.bounds(&topic, 0).await.expect("bounds").end, 2 * round + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_the_appending_record_by_record() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    let stamped = |text, time_ms| Record { time_ms: Some(time_ms), ..record(&topic, 0, text) };
    publish(&mut *producer, vec![stamped("1970", 1), stamped("2100", 4_102_444_800_000)]).await;
    tokio::time::sleep(Duration::from_secs(6 * 24 * 60 * 60)).await;
    publish(&mut *producer, vec![stamped("1970", 1)]).await;
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds"), Bounds { start: 0, end: 5 });
    tokio::time::sleep(Duration::from_secs(2 * 24 * 60 * 60)).await;
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds"), Bounds { start: 2, end: 5 });
}

#[tokio::test(start_paused = true)]
async fn offsets_and_transactional_ids_never_expire() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    let mut producer = log.producer("id").await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "1")]).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&next_of(&held[0], 1), proof).await.expect("offsets");
    committed(producer.commit().await);
    member.close().await;
    tokio::time::sleep(Duration::from_secs(366 * 24 * 60 * 60)).await;
    publish(&mut *producer, vec![record(&topic, 0, "2")]).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    assert_eq!(member.consumer.committed(&held[0]).await.expect("known"), Some(1));
}
