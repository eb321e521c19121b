//! Transactions: what becomes visible, who is fenced, what is refused.

use std::time::{Duration, Instant};

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, Commit, Log, PartitionOffset, Producer, Record, Rotation, kafka::Kafka},
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

/// Sends them in transactions, one after the other, until it is known which are too large; answers those.
async fn blamed(
    kafka: &Kafka,
    id: &str,
    records: impl Fn() -> Vec<Record>,
) -> (Box<dyn Producer>, Vec<usize>) {
    for _ in 0..4 {
        let mut producer = kafka.producer(id).await.expect("producer");
        producer.begin().await.expect("begin");
        producer.send(records()).await.expect("send");
        match producer.acknowledged().await {
            Ok(refusals) => return (producer, refusals.iter().map(|refusal| refusal.index).collect()),
            Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
        }
        producer.abort().await;
    }
    panic!("smaller batches are too large, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_blames_no_record_that_is_not() {
    let lab = Lab::builder().postgres(false).kafka_setting("message.max.bytes", 20_000);
    let lab = tokio::task::spawn_blocking(|| lab.start().expect("lab")).await.expect("lab");
    let mut config = config();
    config.brokers = lab.kafka_url();
    config.linger = Duration::from_millis(50);
    config.transaction_timeout = Duration::from_secs(4);
    config.socket_timeout = Duration::from_secs(2);
    let kafka = Kafka::new(config.clone()).expect("settings are fine");
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let id = unique("producer");
    let small = || -> Vec<Record> { (0..2_000).map(|_| record(&topic, 0, vec![b'x'; 100])).collect() };
    let mixed = || {
        let mut records = small();
        records.insert(1_000, record(&topic, 0, vec![b'y'; 60_000]));
        records.insert(100, record(&topic, 0, vec![b'y'; 60_000]));
        records
    };
    let (mut producer, refused) = blamed(&kafka, &id, mixed).await;
    // What comes behind a refusal is not sent any more.
    assert_eq!(refused, [100]);
    producer.abort().await;

    let mut producer = kafka.producer(&id).await.expect("rotation");
    publish(&kafka, &mut producer, small()).await;
    // One by one they are slow: a backlog would not fit into the time of a transaction.
    let batches = batches(&lab, &topic);
    assert!((10..100).contains(&batches.len()), "{batches:?}");

    // Not for ever: larger ones are faster.
    tokio::time::sleep(4 * config.transaction_timeout).await;
    sent(&mut *producer, vec![record(&topic, 0, "alone")]).await;
    committed(producer.commit().await);
    assert_eq!(producer.must_rotate(), Some(Rotation::Batches));
    let mut producer = kafka.producer(&id).await.expect("rotation");
    producer.begin().await.expect("begin");
    producer.send(small()).await.expect("send");
    producer.acknowledged().await.expect_err("together they are too large");
    producer.abort().await;
    let (_, refused) = blamed(&kafka, &id, small).await;
    assert!(refused.is_empty(), "{refused:?}");
}

/// The number of records of each batch in partition 0, also of aborted transactions, from the broker's file. Markers are no
/// batches of records.
fn batches(lab: &Lab, topic: &str) -> Vec<u32> {
    let mut directories = vec![lab.broker(0).directory().to_owned()];
    let mut found = None;
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().expect("directory").map(|entry| entry.expect("entry").path()) {
            if entry.is_dir() && entry.ends_with(format!("{topic}-0")) {
                found = Some(entry.join("00000000000000000000.log"));
            } else if entry.is_dir() {
                directories.push(entry);
            }
        }
    }
    let log = std::fs::read(found.expect("the partition's directory")).expect("log");
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().expect("four bytes"));
    let (mut batches, mut at) = (Vec::new(), 0);
    // Offset (8 bytes), length of what follows (4), leader epoch (4), magic (1), CRC (4), attributes (2), ..., records at 57.
    while at + 61 <= log.len() && number(at + 8) > 0 {
        let control = log[at + 22] & 0x20 != 0;
        if !control {
            batches.push(number(at + 57));
        }
        at += 12 + number(at + 8) as usize;
    }
    batches
}
