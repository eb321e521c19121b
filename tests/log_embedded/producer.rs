//! Transactions: what becomes visible, who is fenced, what is refused.

use std::time::Duration;

use bytes::Bytes;
use tidelock::log::{Cleanup, Commit, Log, Record, Rotation, embedded::Embedded};

use super::{publish, record, seen, sent, text, topic, within};

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
