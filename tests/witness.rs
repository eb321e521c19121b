//! Reads and writes topics without the framework: what a judge may believe.
//!
//! One of the few files outside of the Kafka room that name rdkafka; `architecture.rs` lists them.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::{Header, Headers as _, OwnedHeaders},
    producer::DefaultProducerContext,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};

const WAIT: Duration = Duration::from_secs(20);

/// A record as found in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Found {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).expect("the payload is JSON")
    }
}

fn consumer(kafka: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "witness")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("a consumer")
}

/// All committed records of a topic, partition by partition; open transactions must have ended before.
pub(crate) fn committed(kafka: &str, topic: &str) -> Vec<Found> {
    read(kafka, topic, "read_committed")
}

/// All records of a topic, those of aborted and open transactions too.
pub(crate) fn everything(kafka: &str, topic: &str) -> Vec<Found> {
    read(kafka, topic, "read_uncommitted")
}

fn read(kafka: &str, topic: &str, isolation: &str) -> Vec<Found> {
    let deadline = Instant::now() + WAIT;
    // A read_committed client would be told the last stable offset, and take an open transaction for the end.
    let outsider = consumer(kafka, "read_uncommitted");
    let consumer = consumer(kafka, isolation);
    let partitions = partitions(&outsider, topic);
    let mut list = TopicPartitionList::new();
    let mut ends = Vec::new();
    for partition in 0..partitions {
        let (low, high) = watermarks(&outsider, topic, partition, deadline);
        list.add_partition_offset(topic, partition, Offset::Offset(low)).expect("a partition");
        ends.push(high);
    }
    consumer.assign(&list).expect("assign");
    let mut found = Vec::new();
    loop {
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => found.push(Found {
                partition: message.partition(),
                offset: message.offset(),
                key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                payload: message.payload().unwrap_or_default().to_vec(),
                headers: message.headers().map(texts).unwrap_or_default(),
            }),
            Some(Err(_)) | None => {
                let position = consumer.position().expect("position");
                let done = (0..partitions).all(|partition| {
                    let end = ends[partition as usize];
                    let at = position.find_partition(topic, partition).map(|element| element.offset());
                    end == 0
                        || matches!(at, Some(Offset::Offset(at)) if at >= end)
                        || watermarks(&outsider, topic, partition, deadline).0 >= end
                });
                if done {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "{topic} is not readable to its end {ends:?}: {position:?}"
                );
            }
        }
    }
    found.sort_by_key(|record| (record.partition, record.offset));
    found
}

fn texts(headers: &rdkafka::message::BorrowedHeaders) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|Header { key, value }| {
            (key.to_owned(), String::from_utf8_lossy(value.unwrap_or_default()).into_owned())
        })
        .collect()
}

/// First and end offset; a topic that was created a moment ago may have no leader yet.
fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32, deadline: Instant) -> (i64, i64) {
    loop {
        match consumer.fetch_watermarks(topic, partition, WAIT) {
            Ok(bounds) => return bounds,
            Err(error) => assert!(Instant::now() < deadline, "{topic}[{partition}]: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    let deadline = Instant::now() + WAIT;
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), WAIT).expect("metadata");
        let count = metadata
            .topics()
            .iter()
            .find(|each| each.name() == topic)
            .map_or(0, |each| each.partitions().len());
        if count > 0 {
            return count as i32;
        }
        assert!(Instant::now() < deadline, "there is no topic {topic}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn admin(kafka: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", kafka).create().expect("an admin client")
}

/// Creates a topic with settings of its own.
pub(crate) async fn create_topic(kafka: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin = admin(kafka);
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let results = admin.create_topics([&new], &AdminOptions::new()).await.expect("an answer");
    results[0].as_ref().unwrap_or_else(|(topic, code)| panic!("{topic}: {code}"));
}

/// A record to write.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) key: String,
    pub(crate) payload: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// Writes records in order, idempotently, and waits for all of them.
pub(crate) fn write(kafka: &str, topic: &str, records: &[Sent]) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .create()
        .expect("a producer");
    for sent in records {
        let mut headers = OwnedHeaders::new();
        for (name, value) in &sent.headers {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
        let record = BaseRecord::to(topic).key(&sent.key).payload(&sent.payload).headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("room for a record");
    }
    producer.flush(WAIT).expect("all delivered");
}

/// The group's committed offsets, one per partition; `None` where there is none.
pub(crate) fn offsets(kafka: &str, group: &str, topic: &str) -> Vec<Option<i64>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions(&consumer, topic) {
        list.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(list, WAIT).expect("committed offsets");
    let offset = |offset| {
        if let Offset::Offset(at) = offset { Some(at) } else { None }
    };
    committed.elements().iter().map(|element| offset(element.offset())).collect()
}

/// Commits an offset of a group that has no members.
pub(crate) fn commit_offset(kafka: &str, group: &str, topic: &str, partition: i32, offset: i64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a partition");
    let deadline = Instant::now() + WAIT;
    while let Err(error) = consumer.commit(&list, CommitMode::Sync) {
        assert!(Instant::now() < deadline, "{group}: {error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Changes one setting of a topic.
pub(crate) async fn set_topic(kafka: &str, topic: &str, name: &str, value: &str) {
    use rdkafka::admin::{AlterConfig, ResourceSpecifier};
    let admin = admin(kafka);
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let results = admin.alter_configs([&change], &AdminOptions::new()).await.expect("an answer");
    results[0].as_ref().unwrap_or_else(|error| panic!("{topic}: {error:?}"));
}

/// Deletes a topic, and waits until no broker knows it.
pub(crate) async fn delete_topic(kafka: &str, topic: &str) {
    let admin = admin(kafka);
    let results = admin.delete_topics(&[topic], &AdminOptions::new()).await.expect("an answer");
    results[0].as_ref().unwrap_or_else(|(topic, code)| panic!("{topic}: {code}"));
    let deadline = Instant::now() + WAIT;
    while admin
        .inner()
        .fetch_metadata(Some(topic), WAIT)
        .expect("metadata")
        .topics()
        .iter()
        .any(|each| each.error().is_none())
    {
        assert!(Instant::now() < deadline, "{topic} is not deleted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Gives a topic more partitions.
pub(crate) async fn add_partitions(kafka: &str, topic: &str, count: usize) {
    let admin = admin(kafka);
    let more = [NewPartitions::new(topic, count)];
    let results = admin.create_partitions(&more, &AdminOptions::new()).await.expect("an answer");
    results[0].as_ref().unwrap_or_else(|(topic, code)| panic!("{topic}: {code}"));
}
