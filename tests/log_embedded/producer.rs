//! Transactions: what becomes visible, who is fenced, what is refused.

use std::time::Duration;

use bytes::Bytes;
use tidelock::{
    error::Kind,
    log::{
        Bounds, Cleanup, Commit, Log, Record, Rotation,
        embedded::{Embedded, EmbeddedConfig},
    },
    message::Headers,
};

use super::{committed, publish, record, seen, sent, text, topic, within};

#[tokio::test(start_paused = true)]
async fn only_what_is_committed_is_seen() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut first = log.producer("id").await.expect("producer");
    publish(&mut *first, vec![record(&topic, 0, "a")]).await;
    sent(&mut *first, vec![record(&topic, 0, "b")]).await;
    first.abort().await;
    assert_eq!(first.must_rotate(), Some(Rotation::Aborted));
    let refused = first.begin().await.expect_err("an aborted producer is used up");
    assert_eq!(refused.kind(), Kind::Conflict);
    let mut second = log.producer("id").await.expect("rotation");
    publish(&mut *second, vec![record(&topic, 0, "c")]).await;
    sent(&mut *second, vec![record(&topic, 0, "d")]).await;
    drop(second);
    let mut third = log.producer("id").await.expect("rotation");
    publish(&mut *third, vec![record(&topic, 0, "e")]).await;
    assert_eq!(seen(&log, &topic, 0, "e").await, ["a", "c", "e"]);
    // Five records and five markers.
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds"), Bounds { start: 0, end: 10 });
}

#[tokio::test(start_paused = true)]
async fn a_newer_producer_fences_the_older() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut older = log.producer("id").await.expect("producer");
    sent(&mut *older, vec![record(&topic, 0, "older")]).await;
    let mut newer = log.producer("id").await.expect("producer");
    let outcome = older.commit().await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert_eq!(older.must_rotate(), Some(Rotation::Fenced));
    older.abort().await;
    publish(&mut *newer, vec![record(&topic, 0, "newer")]).await;
    let mut late = log.producer("other").await.expect("producer");
    late.begin().await.expect("begin");
    let mut other = log.producer("other").await.expect("producer");
    late.send(vec![record(&topic, 0, "late")]).await.expect("the answer comes later");
    assert_eq!(late.acknowledged().await.expect_err("fenced").kind(), Kind::Fenced);
    assert_eq!(late.must_rotate(), Some(Rotation::Fenced));
    publish(&mut *other, vec![record(&topic, 0, "other")]).await;
    assert_eq!(seen(&log, &topic, 0, "other").await, ["newer", "other"]);
}

#[tokio::test(start_paused = true)]
async fn refused_records_are_named_and_the_others_go_through_after_a_rotation() {
    let config = EmbeddedConfig { max_message_bytes: 10_000, ..EmbeddedConfig::default() };
    let log = Embedded::in_memory_with(config).expect("settings are fine");
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let compacted = super::topic(&log, "c", 1, Cleanup::Compact).await;
    let mut nul = record(&topic, 0, "header");
    nul.headers.push("a\0b", "value");
    let cases: [(Record, &str); 5] = [
        (record(&topic, 0, vec![b'x'; 20_000]), "too large"),
        (record(&topic, 7, "no such partition"), "partition"),
        (record("absent", 0, "no such topic"), "topic"),
        (Record { key: None, ..record(&compacted, 0, "no key") }, "record"),
        (nul, "header"),
    ];
    for (place, (bad, reason)) in cases.into_iter().enumerate() {
        let mut producer = log.producer("id").await.expect("producer");
        producer.begin().await.expect("begin");
        let good = record(&topic, 0, format!("good {place}"));
        producer.send(vec![good.clone(), bad]).await.expect("refusals come later");
        producer.send(vec![good.clone()]).await.expect("send");
        let refusals = producer.acknowledged().await.expect("refusals");
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert_eq!(refusals[0].index, 1);
        assert!(refusals[0].reason.contains(reason), "{refusals:?}");
        assert!(matches!(producer.commit().await, Commit::Aborted(_)));
        producer.abort().await;
        assert!(producer.must_rotate().is_some());
        let mut producer = log.producer("id").await.expect("rotation");
        publish(&mut *producer, vec![good]).await;
    }
    let expected = ["good 0", "good 1", "good 2", "good 3", "good 4"];
    assert_eq!(seen(&log, &topic, 0, "good 4").await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut slow = log.producer("slow").await.expect("producer");
    let mut quick = log.producer("quick").await.expect("producer");
    sent(&mut *slow, vec![record(&topic, 0, "slow")]).await;
    publish(&mut *quick, vec![record(&topic, 0, "quick")]).await;
    let started = tokio::time::Instant::now();
    // The open transaction holds back what was committed after it began.
    assert_eq!(seen(&log, &topic, 0, "quick").await, ["quick"]);
    assert_eq!(started.elapsed().as_secs(), 15);
    slow.begin().await.expect_err("a transaction is open");
    let mut slow = log.producer("slow").await.expect("producer");
    sent(&mut *slow, vec![record(&topic, 0, "slow")]).await;
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert!(matches!(slow.commit().await, Commit::Unknown(_)));
    assert_eq!(slow.must_rotate(), Some(Rotation::Fenced));
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_over_ten_thousand_records() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    let all: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    for chunk in all.chunks(2_500) {
        let records = chunk.iter().map(|text| record(&topic, 0, text.as_str())).collect();
        publish(&mut *producer, records).await;
    }
    assert_eq!(seen(&log, &topic, 0, "9999").await, all);
}

#[tokio::test(start_paused = true)]
async fn calls_out_of_order_are_refused() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    producer.send(vec![record(&topic, 0, "outside")]).await.expect_err("no transaction");
    sent(&mut *producer, Vec::new()).await;
    committed(producer.commit().await);
    assert!(matches!(producer.commit().await, Commit::Unknown(_)));
    let mut producer = log.producer("id").await.expect("producer");
    producer.begin().await.expect("begin");
    producer.begin().await.expect_err("open already");
    assert!(producer.must_rotate().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_last_record_is_the_last_committed_one() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Compact).await;
    assert_eq!(log.last_record(&topic, 0).await.expect("empty"), None);
    let mut headers = Headers::new();
    headers.push("name", "value");
    headers.push_raw("none", None);
    headers.push("name", "again");
    headers.push("bytes", vec![0, 0xff]);
    let wanted = Record { headers, time_ms: Some(1_700_000_000_000), ..record(&topic, 0, "wanted") };
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, vec![record(&topic, 0, "before"), wanted.clone()]).await;
    sent(&mut *producer, vec![record(&topic, 0, "aborted")]).await;
    producer.abort().await;
    let last = log.last_record(&topic, 0).await.expect("read").expect("committed");
    assert_eq!((last.offset, last.time_ms), (1, 1_700_000_000_000));
    assert_eq!((&last.key, &last.payload, &last.headers), (&wanted.key, &wanted.payload, &wanted.headers));

    let mut producer = log.producer("id").await.expect("producer");
    let tombstone = Record { payload: None, ..record(&topic, 0, "") };
    publish(&mut *producer, vec![tombstone]).await;
    let last = log.last_record(&topic, 0).await.expect("read").expect("committed");
    assert_eq!((last.payload, last.key), (None, Some(Bytes::from_static(b"k"))));

    // Open transactions count in the bounds and hold the answer back until they are decided.
    let mut open = log.producer("open").await.expect("producer");
    let before = log.bounds(&topic, 0).await.expect("bounds").end;
    sent(&mut *open, vec![record(&topic, 0, "open")]).await;
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds").end, before + 1);
    let (last, outcome) = tokio::join!(log.last_record(&topic, 0), open.commit());
    committed(outcome);
    assert_eq!(last.expect("decided").map(|record| text(&record)).as_deref(), Some("open"));
}

#[tokio::test(start_paused = true)]
async fn the_last_record_waits_for_an_open_transaction_to_time_out() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut open = log.producer("id").await.expect("producer");
    sent(&mut *open, vec![record(&topic, 0, "open")]).await;
    let started = tokio::time::Instant::now();
    assert_eq!(within(20, log.last_record(&topic, 0)).await.expect("decided"), None);
    assert_eq!(started.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn keys_go_where_java_sends_them_and_no_key_goes_round() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 6, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    let keyed = |key: &'static str| Record {
        partition: None,
        key: Some(Bytes::from_static(key.as_bytes())),
        ..record(&topic, 0, key)
    };
    let none = || Record { partition: None, key: None, ..record(&topic, 0, "none") };
    publish(&mut *producer, vec![keyed("21"), keyed("a-little-bit-long-string"), keyed("abc")]).await;
    let mut placed = Vec::new();
    for partition in 0..6 {
        let last = log.last_record(&topic, partition).await.expect("read");
        placed.extend(last.map(|record| (text(&record), partition)));
    }
    // murmur2 & 0x7fffffff: 1173551340, 1161502112, 479470107.
    let expected = [
        ("21", 1_173_551_340 % 6),
        ("a-little-bit-long-string", 1_161_502_112 % 6),
        ("abc", 479_470_107 % 6),
    ];
    for (key, partition) in expected {
        assert!(placed.contains(&(key.to_owned(), partition)), "{key} in {placed:?}");
    }
    let before: Vec<i64> = ends(&log, &topic).await;
    publish(&mut *producer, (0..12).map(|_| none()).collect()).await;
    let after = ends(&log, &topic).await;
    assert!(before.iter().zip(&after).all(|(before, after)| after - before == 3), "{before:?} {after:?}");
}

async fn ends(log: &Embedded, topic: &str) -> Vec<i64> {
    let mut ends = Vec::new();
    for partition in 0..6 {
        ends.push(log.bounds(topic, partition).await.expect("bounds").end);
    }
    ends
}
