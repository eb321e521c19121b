//! What Kafka does otherwise than the embedded log: the list in that one's documentation, line by line. The other half is
//! in `tests/log_embedded/differences.rs`.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt as _;
use tidelock::{
    error::Kind,
    log::{
        Assignor, Bounds, Cleanup, Commit, Log as _, Producer, Record, TopicSpec,
        kafka::{Kafka, KafkaConfig},
    },
};
use tidelock_lab::Lab;

use super::{Member, committed, config, kafka, producer, publish, record, sent, topic, unique, within};
use crate::conformance::next_of;

/// The broker's limit for a record and what goes with it.
const LARGEST: usize = 50_000;

/// A broker with settings that production has, or shorter ones: the lab's own are made for tests that do not wait.
async fn as_in_production() -> Kafka {
    static LAB: OnceLock<Lab> = OnceLock::new();
    let start = || {
        let settings: [(&str, usize); 11] = [
            ("group.initial.rebalance.delay.ms", 3_000),
            ("message.max.bytes", LARGEST),
            ("log.initial.task.delay.ms", 500),
            ("log.retention.ms", 3_000),
            ("log.retention.check.interval.ms", 500),
            ("log.segment.delete.delay.ms", 100),
            ("offsets.retention.minutes", 1),
            ("offsets.retention.check.interval.ms", 1_000),
            ("transactional.id.expiration.ms", 2_000),
            ("transaction.remove.expired.transaction.cleanup.interval.ms", 500),
            ("producer.id.expiration.ms", 86_400_000),
        ];
        let mut lab = Lab::builder().postgres(false).kafka_setting("auto.create.topics.enable", true);
        for (name, value) in settings {
            lab = lab.kafka_setting(name, value);
        }
        lab.start().expect("lab")
    };
    let lab = tokio::task::spawn_blocking(move || LAB.get_or_init(start)).await.expect("lab");
    Kafka::new(KafkaConfig { brokers: lab.kafka_url(), ..config() }).expect("settings are fine")
}

async fn aborted(mut producer: Box<dyn Producer>) {
    producer.abort().await;
}

#[tokio::test]
async fn a_member_hears_of_a_rebalance_with_its_next_heartbeat() {
    let heartbeat_interval = Duration::from_secs(6);
    let session_timeout = Duration::from_secs(30);
    let kafka =
        Kafka::new(KafkaConfig { heartbeat_interval, session_timeout, ..config() }).expect("settings");
    let (topic, group) = (topic(&kafka, 2, Cleanup::Any).await, unique("group"));
    let mut first = Member::join(&kafka, &group, &topic, Assignor::Eager).await;
    assert_eq!(first.assigned().await.len(), 2);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    let _second = Member::join(&kafka, &group, &topic, Assignor::Eager).await;
    drop(first.revoked().await);
    assert!(started.elapsed() > Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_group_waits_for_more_members_at_its_first_start() {
    let kafka = as_in_production().await;
    let topic = topic(&kafka, 2, Cleanup::Any).await;
    let started = Instant::now();
    let mut member = Member::join(&kafka, &unique("group"), &topic, Assignor::Eager).await;
    assert_eq!(member.assigned().await.len(), 2);
    assert!(started.elapsed() > Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_unknown_topic_is_waited_for() {
    let kafka = kafka();
    let mut producer = producer(&kafka).await.expect("producer");
    producer.begin().await.expect("begin");
    let started = Instant::now();
    producer.send(vec![record(&unique("absent"), 0, "nowhere")]).await.expect("send");
    let refused = within(60, producer.acknowledged()).await.expect("refusals");
    assert_eq!(refused.len(), 1);
    assert!(started.elapsed() > Duration::from_secs(2), "{:?}", started.elapsed());
    aborted(producer).await;
}

/// Also where brokers create what they are asked for: a topic that was deleted would come again as another one.
#[tokio::test]
async fn no_broker_creates_the_topic_of_a_record() {
    let kafka = as_in_production().await;
    let mut producer = producer(&kafka).await.expect("producer");
    let name = unique("absent");
    producer.begin().await.expect("begin");
    producer.send(vec![record(&name, 0, "nowhere")]).await.expect("send");
    assert_eq!(within(60, producer.acknowledged()).await.expect("refusals").len(), 1);
    aborted(producer).await;
    assert!(kafka.bounds(&name, 0).await.is_err());
}

#[tokio::test]
async fn records_without_a_key_stick_together() {
    let kafka = kafka();
    let topic = topic(&kafka, 6, Cleanup::Any).await;
    let mut producer = producer(&kafka).await.expect("producer");
    let none = || Record { partition: None, key: None, ..record(&topic, 0, "none") };
    sent(&mut *producer, (0..600).map(|_| none()).collect()).await;
    let mut counts = Vec::new();
    for partition in 0..6 {
        counts.push(kafka.bounds(&topic, partition).await.expect("bounds").end);
    }
    assert_eq!(counts.iter().sum::<i64>(), 600);
    assert!(counts.iter().any(|count| *count != 100), "{counts:?}: in turn");
    aborted(producer).await;
}

/// Embedded in a batch it is larger.
#[tokio::test]
async fn what_goes_with_a_record_counts_too() {
    let kafka = as_in_production().await;
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let of_size = |size: usize| {
        let one = record(&topic, 0, vec![b'x'; size - 1]);
        assert_eq!(one.size(), size);
        one
    };
    let mut small = producer(&kafka).await.expect("producer");
    publish(&kafka, &mut small, vec![of_size(LARGEST - 500)]).await;
    let mut large = producer(&kafka).await.expect("producer");
    large.begin().await.expect("begin");
    large.send(vec![of_size(LARGEST)]).await.expect("send");
    assert_eq!(large.acknowledged().await.expect("refusals").len(), 1);
    aborted(large).await;
}

/// The answer comes once the outcome is decided, which is before the partitions have heard of it.
#[tokio::test]
async fn a_commit_takes_time_and_its_marker_may_come_later() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let mut late = false;
    for round in 0..500 {
        let mut producer = producer(&kafka).await.expect("producer");
        sent(&mut *producer, vec![record(&topic, 0, "one")]).await;
        committed(producer.commit().await);
        if kafka.bounds(&topic, 0).await.expect("bounds").end < 2 * round + 2 {
            late = true;
            break;
        }
    }
    assert!(late, "one of three is");
    let mut producer = producer(&kafka).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "cancelled")]).await;
    assert!(producer.commit().now_or_never().is_none());
    assert!(matches!(producer.commit().await, Commit::Unknown(_)));
}

#[tokio::test]
async fn a_compacted_topic_is_not_cleaned_where_it_is_written() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Compact).await;
    let mut producer = producer(&kafka).await.expect("producer");
    for _ in 0..4 {
        let records = (0..500).map(|number| record(&topic, 0, number.to_string())).collect();
        publish(&kafka, &mut producer, records).await;
    }
    let mut member = Member::join(&kafka, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    assert_eq!(member.records(&held[0], |all| all.len() >= 2_000).await.len(), 2_000);
}

/// By the time stamp, and a segment at a time.
#[tokio::test]
async fn age_counts_from_the_time_stamp_of_the_youngest_of_a_segment() {
    let kafka = as_in_production().await;
    let topic = topic(&kafka, 2, Cleanup::Any).await;
    let mut producer = producer(&kafka).await.expect("producer");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than 1970").as_millis() as i64;
    let stamped = |time_ms| Record { time_ms: Some(time_ms), ..record(&topic, 1, "to come") };
    let records = vec![record(&topic, 0, "now"), record(&topic, 1, "now"), stamped(now + 1_800_000)];
    publish(&kafka, &mut producer, records).await;
    let gone = async {
        while kafka.bounds(&topic, 0).await.expect("bounds") != (Bounds { start: 2, end: 2 }) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(60, gone).await;
    assert_eq!(kafka.bounds(&topic, 1).await.expect("bounds"), Bounds { start: 0, end: 3 });
}

#[tokio::test]
async fn transactional_ids_expire() {
    let kafka = as_in_production().await;
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let id = unique("idle");
    let mut producer = kafka.producer(&id).await.expect("producer");
    publish(&kafka, &mut producer, vec![record(&topic, 0, "1")]).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let again = async {
        producer.begin().await?;
        producer.send(vec![record(&topic, 0, "2")]).await?;
        producer.acknowledged().await
    };
    let error = within(60, again).await.expect_err("nobody knows the id any more");
    assert_ne!(error.kind(), Kind::Refused, "{error}");
    producer.abort().await;
    let mut producer = kafka.producer(&id).await.expect("rotation");
    publish(&kafka, &mut producer, vec![record(&topic, 0, "2")]).await;
}

#[tokio::test]
async fn offsets_of_a_group_without_members_expire() {
    let kafka = as_in_production().await;
    let (name, group) = (unique("topic"), unique("group"));
    let spec = TopicSpec { name: name.clone(), partitions: Some(1), cleanup: Cleanup::Any };
    kafka.topic(&spec).await.expect("topic");
    let mut member = Member::join(&kafka, &group, &name, Assignor::Eager).await;
    let held = member.assigned().await;
    let mut producer = producer(&kafka).await.expect("producer");
    sent(&mut *producer, vec![record(&name, 0, "1")]).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&next_of(&held[0], 1), proof).await.expect("offsets");
    committed(producer.commit().await);
    assert_eq!(member.consumer.committed(&held[0]).await.expect("known"), Some(1));
    member.close().await;
    tokio::time::sleep(Duration::from_secs(75)).await;
    let mut member = Member::join(&kafka, &group, &name, Assignor::Eager).await;
    let held = member.assigned().await;
    assert_eq!(member.consumer.committed(&held[0]).await.expect("answer"), None);
}
