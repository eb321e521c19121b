//! Reads the topics to their end, read committed; those of Kafka without the framework: what a judge may believe.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    message::Headers as _,
};
use tidelock::{
    log::{Assignor, Cleanup, ConsumerEvent, Log as _, Subscription, TopicSpec, embedded::Embedded},
    prelude::BoxError,
};

const TOPICS: [&str; 4] = ["orders", "inventory", "payments", "shipping"];
const WAIT: Duration = Duration::from_secs(20);
/// Longer than the time-out of a transaction that a killed process left open.
const OPEN_TRANSACTIONS: Duration = Duration::from_secs(60);

/// A committed record.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) topic: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// `ce_type`
    pub(crate) event_type: Option<String>,
    /// `ce_id`
    pub(crate) id: Option<String>,
}

/// Where the topics are.
#[derive(Debug, Clone)]
pub(crate) enum Topics {
    /// At these brokers.
    Kafka(String),
    /// In this process.
    Embedded(Embedded),
}

impl Topics {
    /// Every committed record of the four topics. Waits for open transactions to end first.
    pub(crate) async fn read(&self) -> Result<Vec<Record>, BoxError> {
        match self.clone() {
            Self::Kafka(brokers) => Ok(tokio::task::spawn_blocking(move || read(&brokers)).await??),
            Self::Embedded(log) => read_embedded(&log).await,
        }
    }
}

/// Its errors come from `poll` as well, where they are acted upon; the end of a partition is one of them.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

type Reader = BaseConsumer<Quiet>;

async fn read_embedded(log: &Embedded) -> Result<Vec<Record>, BoxError> {
    let mut left: HashMap<(&str, i32), i64> = HashMap::new();
    for topic in TOPICS {
        let spec = TopicSpec { name: topic.to_owned(), partitions: None, cleanup: Cleanup::Any };
        for partition in 0..log.topic(&spec).await? {
            if let Some(last) = log.last_record(topic, partition).await? {
                left.insert((topic, partition), last.offset);
            }
        }
    }
    let subscription = Subscription {
        group: "orders-verification".to_owned(),
        topics: TOPICS.map(str::to_owned).to_vec(),
        instance: None,
        assignor: Assignor::Eager,
    };
    let (consumer, mut events) = log.consumer(&subscription).await?;
    let mut found = Vec::new();
    while !left.is_empty() {
        match events.recv().await {
            Some(ConsumerEvent::Assigned(partitions)) => {
                for each in partitions {
                    let start = log.bounds(&each.topic, each.partition).await?.start;
                    consumer.start(&each, start).await?;
                }
            }
            Some(ConsumerEvent::Records { records, .. }) => {
                for record in records {
                    let Some(topic) = TOPICS.into_iter().find(|topic| **topic == *record.topic) else {
                        continue;
                    };
                    if left.get(&(topic, record.partition)).is_some_and(|last| record.offset >= *last) {
                        left.remove(&(topic, record.partition));
                    }
                    let header = |name: &str| record.headers.get_str(name).map(str::to_owned);
                    found.push(Record {
                        topic,
                        event_type: header("ce_type"),
                        id: header("ce_id"),
                        key: record.key.map(Vec::from).unwrap_or_default(),
                        payload: record.payload.map(Vec::from).unwrap_or_default(),
                    });
                }
            }
            Some(ConsumerEvent::Revoked { .. }) => {}
            Some(
                ConsumerEvent::Failed(_, error) | ConsumerEvent::Denied(error) | ConsumerEvent::Fatal(error),
            ) => return Err(error.into()),
            None => return Err("the embedded log closed its reader".into()),
        }
    }
    let given_back = async { while events.recv().await.is_some() {} };
    tokio::join!(consumer.close(), given_back);
    Ok(found)
}

fn read(brokers: &str) -> Result<Vec<Record>, BoxError> {
    let committed = consumer(brokers, "read_committed")?;
    let uncommitted = consumer(brokers, "read_uncommitted")?;
    let mut records = Vec::new();
    for topic in TOPICS {
        let partitions = partitions(&committed, topic)?;
        for partition in 0..partitions {
            wait_for_open_transactions(&committed, &uncommitted, topic, partition)?;
        }
        read_topic(&committed, topic, partitions, &mut records)?;
    }
    Ok(records)
}

fn consumer(brokers: &str, isolation: &str) -> KafkaResult<Reader> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "orders-verification")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "error")
        // Questions wait behind a fetch on the same connection.
        .set("fetch.wait.max.ms", "10")
        .create_with_context(Quiet)
}

fn partitions(consumer: &Reader, topic: &str) -> Result<i32, BoxError> {
    let metadata = consumer.fetch_metadata(Some(topic), WAIT)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if partitions == 0 {
        return Err(format!("there is no topic {topic:?}").into());
    }
    Ok(i32::try_from(partitions)?)
}

/// While a transaction is open, the committed end stays behind the end.
fn wait_for_open_transactions(
    committed: &Reader,
    uncommitted: &Reader,
    topic: &str,
    partition: i32,
) -> Result<(), BoxError> {
    let deadline = Instant::now() + OPEN_TRANSACTIONS;
    loop {
        let (_, end) = uncommitted.fetch_watermarks(topic, partition, WAIT)?;
        let (_, stable) = committed.fetch_watermarks(topic, partition, WAIT)?;
        if stable >= end {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{topic}[{partition}] has an open transaction: {stable} of {end} can be read"
            )
            .into());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Reads until every partition has told its end.
fn read_topic(
    consumer: &Reader,
    topic: &'static str,
    partitions: i32,
    records: &mut Vec<Record>,
) -> Result<(), BoxError> {
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut at_end = vec![false; usize::try_from(partitions)?];
    let mut heard = Instant::now();
    while at_end.contains(&false) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let header = |name: &str| {
                    let headers = message.headers()?;
                    let value = headers.iter().find(|header| header.key == name)?.value?;
                    Some(String::from_utf8_lossy(value).into_owned())
                };
                records.push(Record {
                    topic,
                    key: message.key().unwrap_or_default().to_vec(),
                    payload: message.payload().unwrap_or_default().to_vec(),
                    event_type: header("ce_type"),
                    id: header("ce_id"),
                });
                heard = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end[usize::try_from(partition)?] = true;
                heard = Instant::now();
            }
            // Brokers that are away for a moment come as errors too.
            Some(Err(_)) | None if heard.elapsed() < OPEN_TRANSACTIONS => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(format!("{topic} does not come to its end").into()),
        }
    }
    Ok(())
}
