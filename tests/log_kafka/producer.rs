//! Transactions: what becomes visible, who is fenced, what is refused.

use std::time::{Duration, Instant};

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, Commit, Log, PartitionOffset, Record, Rotation, kafka::Kafka},
};
use tidelock_lab::Lab;

use super::{Member, committed, config, kafka, producer, publish, record, seen, sent, topic, unique, within};

#[tokio::test]
async fn a_commit_does_not_wait_for_a_flush() {
    let kafka = kafka();
    let topic = topic(&kafka, 2, Cleanup::Any).await;
    let mut producer = producer(&kafka).await.expect("producer");
    let mut fastest = Duration::MAX;
    for round in 0..30 {
        let records = (0..10).map(|index| record(&topic, index % 2, format!("{round} {index}"))).collect();
        sent(&mut *producer, records).await;
        let started = Instant::now();
        committed(producer.commit().await);
        fastest = fastest.min(started.elapsed());
        if producer.must_rotate().is_some() {
            producer = kafka.producer(producer.transactional_id()).await.expect("rotation");
        }
    }
    // Through rdkafka's own flush every commit takes 100 ms.
    assert!(fastest.as_millis() < 90, "{fastest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_unknown_until_the_next_producer() {
    let lab = tokio::task::spawn_blocking(|| Lab::builder().postgres(false).start().expect("lab"))
        .await
        .expect("lab");
    let mut config = config();
    config.brokers = lab.kafka_url();
    config.socket_timeout = Duration::from_secs(1);
    config.call_timeout = Duration::from_secs(2);
    let kafka = Kafka::new(config).expect("settings are fine");
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut producer = kafka.producer(&id).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "unknown")]).await;
    lab.broker(0).pause().expect("pause");
    let outcome = within(15, producer.commit()).await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert!(producer.must_rotate().is_some());
    within(15, producer.abort()).await;
    lab.broker(0).resume().expect("resume");
    let mut next = within(30, kafka.producer(&id)).await.expect("rotation");
    // The initialisation has decided: whatever became of it stays.
    let decided = kafka.last_record(&topic, 0).await.expect("decided");
    publish(&kafka, &mut next, vec![record(&topic, 0, "after")]).await;
    let all = seen(&kafka, &topic, 0, "after").await;
    assert_eq!(all.len(), 1 + usize::from(decided.is_some()), "{all:?}");
}

/// A coordinator that is gone must not keep a transaction until the time-out of the other calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_without_an_answer_are_given_up_after_the_time_of_their_requests() {
    let lab = tokio::task::spawn_blocking(|| Lab::builder().postgres(false).start().expect("lab"))
        .await
        .expect("lab");
    let mut config = config();
    config.brokers = lab.kafka_url();
    config.socket_timeout = Duration::from_secs(1);
    config.call_timeout = Duration::from_secs(40);
    config.transaction_timeout = Duration::from_secs(60);
    let kafka = Kafka::new(config).expect("settings are fine");
    let (topic, id, group) = (topic(&kafka, 1, Cleanup::Any).await, unique("producer"), unique("group"));
    let mut member = Member::join(&kafka, &group, &topic, Assignor::Cooperative).await;
    let held = member.gained(1).await;
    let mut producer = kafka.producer(&id).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "not yet")]).await;
    lab.broker(0).pause().expect("pause");
    let offsets = [PartitionOffset { topic: topic.as_str().into(), partition: 0, offset: 7 }];
    let metadata = member.consumer.metadata(&held).expect("metadata");
    let error = within(20, producer.send_offsets(&offsets, metadata)).await.expect_err("nobody answers");
    assert!(producer.must_rotate().is_some(), "{error}");
    lab.broker(0).resume().expect("resume");
    let mut next = within(30, kafka.producer(&id)).await.expect("rotation");
    publish(&kafka, &mut next, vec![record(&topic, 0, "after")]).await;
    assert_eq!(seen(&kafka, &topic, 0, "after").await.len(), 1);
    member.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_blames_no_record_that_is_not() {
    let lab = Lab::builder().postgres(false).kafka_setting("message.max.bytes", 50_000);
    let lab = tokio::task::spawn_blocking(|| lab.start().expect("lab")).await.expect("lab");
    let mut config = config();
    config.brokers = lab.kafka_url();
    config.linger = Duration::from_millis(50);
    config.transaction_timeout = Duration::from_secs(4);
    config.socket_timeout = Duration::from_secs(2);
    let kafka = Kafka::new(config.clone()).expect("settings are fine");
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let id = unique("producer");
    let small = || -> Vec<Record> { (0..200).map(|_| record(&topic, 0, vec![b'x'; 1_000])).collect() };
    let mut producer = kafka.producer(&id).await.expect("producer");
    producer.begin().await.expect("begin");
    producer.send(small()).await.expect("send");
    let error = producer.acknowledged().await.expect_err("together they are too large");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    producer.abort().await;

    let mut producer = kafka.producer(&id).await.expect("rotation");
    let mut records = small();
    records.insert(100, record(&topic, 0, vec![b'y'; 60_000]));
    producer.begin().await.expect("begin");
    producer.send(records).await.expect("send");
    let refusals = producer.acknowledged().await.expect("refusals");
    let blamed: Vec<usize> = refusals.iter().map(|refusal| refusal.index).collect();
    assert_eq!(blamed, [100]);
    producer.abort().await;

    let mut producer = kafka.producer(&id).await.expect("rotation");
    publish(&kafka, &mut producer, small()).await;

    // Not for ever: one by one they are slow.
    tokio::time::sleep(4 * config.transaction_timeout).await;
    sent(&mut *producer, vec![record(&topic, 0, "alone")]).await;
    committed(producer.commit().await);
    assert_eq!(producer.must_rotate(), Some(Rotation::Batches));
    let mut producer = kafka.producer(&id).await.expect("rotation");
    producer.begin().await.expect("begin");
    producer.send(small()).await.expect("send");
    producer.acknowledged().await.expect_err("together they are too large");
}
