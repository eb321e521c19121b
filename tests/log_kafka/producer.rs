//! Transactions: what becomes visible, who is fenced, what is refused.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tidelock::{
    error::Kind,
    log::{Cleanup, Commit, Log, Record, Rotation, kafka::Kafka},
};
use tidelock_lab::Lab;

use super::{committed, config, kafka, producer, publish, record, seen, sent, topic, unique, within};

#[tokio::test]
async fn only_what_is_committed_is_seen() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut first = kafka.producer(&id).await.expect("producer");
    publish(&kafka, &mut first, vec![record(&topic, 0, "a")]).await;
    sent(&mut *first, vec![record(&topic, 0, "b")]).await;
    first.abort().await;
    assert_eq!(first.must_rotate(), Some(Rotation::Aborted));
    let refused = first.begin().await.expect_err("an aborted producer is used up");
    assert_eq!(refused.kind(), Kind::Conflict);

    let mut second = kafka.producer(&id).await.expect("rotation");
    publish(&kafka, &mut second, vec![record(&topic, 0, "c")]).await;
    sent(&mut *second, vec![record(&topic, 0, "d")]).await;
    drop(second);
    let mut third = kafka.producer(&id).await.expect("rotation");
    publish(&kafka, &mut third, vec![record(&topic, 0, "e")]).await;
    assert_eq!(seen(&kafka, &topic, 0, "e").await, ["a", "c", "e"]);
}

#[tokio::test]
async fn a_newer_producer_fences_the_older() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut older = kafka.producer(&id).await.expect("producer");
    sent(&mut *older, vec![record(&topic, 0, "older")]).await;
    let mut newer = kafka.producer(&id).await.expect("producer");
    let outcome = older.commit().await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert_eq!(older.must_rotate(), Some(Rotation::Fenced));
    older.abort().await;
    publish(&kafka, &mut newer, vec![record(&topic, 0, "newer")]).await;
    assert_eq!(seen(&kafka, &topic, 0, "newer").await, ["newer"]);
}

#[tokio::test]
async fn refused_records_are_named_and_the_others_go_through_after_a_rotation() {
    let mut config = config();
    config.max_message_size = 10_000;
    let kafka = Kafka::new(config).expect("settings are fine");
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let compacted = super::topic(&kafka, 1, Cleanup::Compact).await;
    let id = unique("producer");
    let cases: [(Record, &str); 4] = [
        (record(&topic, 0, vec![b'x'; 20_000]), "too large"),
        (record(&topic, 7, "no such partition"), "partition"),
        (record(&unique("absent"), 0, "no such topic"), "topic"),
        (Record { key: None, ..record(&compacted, 0, "no key") }, "record"),
    ];
    let mut last = String::new();
    for (place, (bad, reason)) in cases.into_iter().enumerate() {
        let mut producer = kafka.producer(&id).await.expect("producer");
        producer.begin().await.expect("begin");
        let good = record(&topic, 0, format!("good {place}"));
        producer.send(vec![good.clone(), bad]).await.expect("refusals come later");
        producer.send(vec![good.clone()]).await.expect("send");
        let refusals = within(20, producer.acknowledged()).await.expect("refusals");
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert_eq!(refusals[0].index, 1);
        let said = refusals[0].reason.to_lowercase();
        assert!(said.contains(reason), "{said}");
        assert!(matches!(producer.commit().await, Commit::Aborted(_)));
        producer.abort().await;
        assert!(producer.must_rotate().is_some());

        let mut producer = kafka.producer(&id).await.expect("rotation");
        last = format!("good {place}");
        publish(&kafka, &mut producer, vec![good]).await;
    }
    assert_eq!(seen(&kafka, &topic, 0, &last).await, ["good 0", "good 1", "good 2", "good 3"]);
}

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

#[tokio::test]
async fn order_is_kept_over_ten_thousand_records() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let mut producer = producer(&kafka).await.expect("producer");
    let all: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    for chunk in all.chunks(2_500) {
        let records = chunk.iter().map(|text| record(&topic, 0, text.as_str())).collect();
        publish(&kafka, &mut producer, records).await;
    }
    assert_eq!(seen(&kafka, &topic, 0, "9999").await, all);
}

#[tokio::test]
async fn an_empty_transaction_commits() {
    let kafka = kafka();
    let mut producer = producer(&kafka).await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    committed(producer.commit().await);
}

#[tokio::test]
async fn a_cancelled_commit_leaves_a_producer_that_must_be_rotated() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut producer = kafka.producer(&id).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "either way")]).await;
    let answer = producer.commit().now_or_never();
    assert!(answer.is_none(), "{answer:?}");
    assert_eq!(producer.must_rotate(), Some(Rotation::Unknown));
    assert!(matches!(producer.commit().await, Commit::Unknown(_)));
    let mut next = kafka.producer(&id).await.expect("rotation");
    publish(&kafka, &mut next, vec![record(&topic, 0, "after")]).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_blames_no_record_that_is_not() {
    let lab = Lab::builder().postgres(false).kafka_setting("message.max.bytes", 50_000);
    let lab = tokio::task::spawn_blocking(|| lab.start().expect("lab")).await.expect("lab");
    let mut config = config();
    config.brokers = lab.kafka_url();
    config.linger = Duration::from_millis(50);
    let kafka = Kafka::new(config).expect("settings are fine");
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
}
