//! What a record is, and which are refused.

use bytes::Bytes;
use tidelock::{
    log::{Cleanup, Commit, Log, Record},
    message::Headers,
};

use super::{Limits, LogUnderTest, publish, publish_once, read, record, seen, topic, unique, within};

pub(super) async fn every_field_comes_back(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let mut headers = Headers::new();
    headers.push("name", "value");
    headers.push_raw("none", None);
    headers.push("name", "again");
    headers.push("empty", "");
    headers.push("bytes", vec![0, 0xff]);
    headers.push("", "no name");
    headers.push("Grüße", "ß");
    let wanted = Record {
        key: Some(Bytes::from_static(b"\0key\xff")),
        payload: Some(Bytes::from_static(b"\xff\0last")),
        headers,
        time_ms: Some(1_700_000_000_123),
        ..record(&topic, 1, "")
    };
    publish_once(&*log, vec![record(&topic, 1, "first"), wanted.clone(), record(&topic, 1, "end")]).await;
    let found = read(&*log, &topic, 1, "end").await.remove(1);
    assert_eq!((&*found.topic, found.partition, found.offset), (topic.as_str(), 1, 1));
    assert_eq!(
        (&found.key, &found.payload, found.time_ms),
        (&wanted.key, &wanted.payload, 1_700_000_000_123)
    );
    assert_eq!(found.headers, wanted.headers);
}

pub(super) async fn tombstones_and_empty_payloads_are_told_apart(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Compact).await;
    let tombstone = Record { payload: None, ..record(&topic, 0, "") };
    let keyed = |key: &'static str, record: Record| Record { key: Some(key.into()), ..record };
    let records = vec![keyed("a", tombstone), keyed("b", record(&topic, 0, "")), record(&topic, 0, "end")];
    publish_once(&*log, records).await;
    let found: Vec<_> =
        read(&*log, &topic, 0, "end").await.into_iter().map(|record| record.payload).collect();
    assert_eq!(found, [None, Some(Bytes::new()), Some(Bytes::from_static(b"end"))]);
}

pub(super) async fn no_key_and_an_empty_key_are_told_apart(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let keys = [None, Some(Bytes::new()), Some(Bytes::from_static(b"k"))];
    let records = keys.clone().map(|key| Record { key, ..record(&topic, 0, "x") });
    publish_once(&*log, records.into_iter().chain([record(&topic, 0, "end")]).collect()).await;
    let found: Vec<_> = read(&*log, &topic, 0, "end").await.into_iter().map(|record| record.key).collect();
    assert_eq!(found[..3], keys);
}

/// Where the only record of a key is, among six partitions.
async fn place(log: &dyn Log, key: &'static str) -> i64 {
    let topic = topic(log, 6, Cleanup::Any).await;
    let keyed = Record { partition: None, key: Some(key.into()), ..record(&topic, 0, "x") };
    publish_once(log, vec![keyed.clone(), keyed]).await;
    let mut found = Vec::new();
    for partition in 0..6 {
        if log.bounds(&topic, partition).await.expect("bounds").end > 0 {
            found.push(i64::from(partition));
        }
    }
    assert_eq!(found.len(), 1, "{key:?} in {found:?}");
    found[0]
}

pub(super) async fn keys_go_where_java_sends_them(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    // murmur2 & 0x7fffffff
    let hashes = [
        ("21", 1_173_551_340),
        ("a-little-bit-long-string", 1_161_502_112),
        ("abc", 479_470_107),
        ("", 275_646_681),
    ];
    for (key, hash) in hashes {
        assert_eq!(place(&*log, key).await, hash % 6, "{key:?}");
    }
}

pub(super) async fn a_record_without_a_time_is_stamped(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    publish_once(&*log, vec![record(&topic, 0, "1")]).await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    publish_once(&*log, vec![record(&topic, 0, "2")]).await;
    let found = read(&*log, &topic, 0, "2").await;
    assert!(found[0].time_ms > 1_600_000_000_000, "{}", found[0].time_ms);
    assert!(found[1].time_ms >= found[0].time_ms + 20);
}

pub(super) async fn times_before_1970_are_read_as_its_start_and_that_is_stamped(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let timed = |time_ms| Record { time_ms: Some(time_ms), ..record(&topic, 0, time_ms.to_string()) };
    publish_once(&*log, vec![timed(0), timed(-1), timed(-5_000), timed(1)]).await;
    let found = read(&*log, &topic, 0, "1").await;
    assert!(found[0].time_ms > 1_600_000_000_000, "{}", found[0].time_ms);
    assert_eq!(found[1..].iter().map(|record| record.time_ms).collect::<Vec<_>>(), [0, 0, 1]);
}

pub(super) async fn a_record_of_nearly_a_megabyte_goes_through(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let large = vec![b'x'; 990_000];
    publish_once(&*log, vec![record(&topic, 0, large.clone()), record(&topic, 0, "end")]).await;
    assert_eq!(read(&*log, &topic, 0, "end").await[0].payload.as_deref(), Some(&large[..]));
}

/// A refused record is named, nothing of its transaction is seen, and the others go through after a rotation.
async fn refused(under: &dyn LogUnderTest, bad: impl AsyncFnOnce(&dyn Log, &str) -> Record) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let bad = bad(&*log, &topic).await;
    let id = unique("producer");
    let mut producer = log.producer(&id).await.expect("producer");
    producer.begin().await.expect("begin");
    producer.send(vec![record(&topic, 0, "aborted"), bad]).await.expect("refusals come later");
    producer.send(vec![record(&topic, 0, "aborted")]).await.expect("send");
    let refusals = within(60, producer.acknowledged()).await.expect("refusals");
    assert_eq!(refusals.iter().map(|refusal| refusal.index).collect::<Vec<_>>(), [1], "{refusals:?}");
    assert!(!refusals[0].reason.is_empty());
    assert!(matches!(producer.commit().await, Commit::Aborted(_)));
    producer.abort().await;
    assert!(producer.must_rotate().is_some());
    let mut producer = log.producer(&id).await.expect("rotation");
    publish(&*log, &mut producer, vec![record(&topic, 0, "good")]).await;
    assert_eq!(seen(&*log, &topic, 0, "good").await, ["good"]);
}

pub(super) async fn a_record_that_is_too_large_is_refused(under: &dyn LogUnderTest) {
    refused(under, async |_, topic| record(topic, 0, vec![b'x'; 2_000_000])).await;
}

pub(super) async fn a_partition_that_is_not_there_is_refused(under: &dyn LogUnderTest) {
    refused(under, async |_, topic| record(topic, 7, "nowhere")).await;
}

pub(super) async fn a_topic_that_is_not_there_is_refused(under: &dyn LogUnderTest) {
    refused(under, async |_, _| record(&unique("absent"), 0, "nowhere")).await;
}

pub(super) async fn a_compacted_topic_refuses_records_without_a_key(under: &dyn LogUnderTest) {
    refused(under, async |log, _| {
        let compacted = topic(log, 1, Cleanup::Compact).await;
        Record { key: None, ..record(&compacted, 0, "no key") }
    })
    .await;
}

pub(super) async fn a_header_with_a_nul_in_its_name_is_refused(under: &dyn LogUnderTest) {
    refused(under, async |_, topic| {
        let mut bad = record(topic, 0, "header");
        bad.headers.push("a\0b", "value");
        bad
    })
    .await;
}
