//! Kafka as a stranger sees it: clients that read and nothing else.

mod groups;
mod reader;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use groups::Groups;
pub(crate) use reader::{Reader, Turn};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};

use crate::{Error, Result};

/// How long one question to a broker may take.
const ASK: Duration = Duration::from_secs(5);
/// How long to wait before a question is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the topics are, and how they are read.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port[,…]`.
    pub brokers: String,
    /// The header with the identity; its last occurrence counts.
    pub header: String,
    /// Settings of librdkafka, such as those of a login; last, and so stronger than the checker's own.
    pub options: Vec<(String, String)>,
    /// How long nothing may come, or no broker answer, before the checker gives up.
    pub patience: Duration,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".into(),
            header: "check".into(),
            options: Vec::new(),
            patience: Duration::from_secs(60),
        }
    }
}

/// `isolation.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    Committed,
    Uncommitted,
}

impl Kafka {
    fn client(&self, group: &str, isolation: Isolation) -> Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        let isolation = if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" };
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("client.id", "checker")
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.timeout.ms", "10000")
            .set("allow.auto.create.topics", "false");
        self.options.iter().for_each(|(name, value)| {
            config.set(name, value);
        });
        config.create().map_err(Error::kafka(format!("a client of {}", self.brokers)))
    }

    /// Asks until there is an answer, or patience ends.
    fn insist<T>(
        &self,
        what: impl Fn() -> String,
        mut ask: impl FnMut() -> std::result::Result<T, KafkaError>,
    ) -> Result<T> {
        let deadline = Instant::now() + self.patience;
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() >= deadline => return Err(Error::kafka(what())(error)),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// First offset and end of a partition: up to an open transaction, where the client is read_committed.
    fn bounds(&self, client: &BaseConsumer, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let what = || format!("the offsets of {topic}[{partition}]");
        self.insist(what, || client.fetch_watermarks(topic, partition, ASK))
    }

    fn partitions(&self, client: &BaseConsumer, topic: &str) -> Result<i32> {
        self.insist(
            || format!("the partitions of {topic}"),
            || {
                let metadata = client.fetch_metadata(Some(topic), ASK)?;
                let found = metadata.topics().iter().find(|each| each.name() == topic);
                let count = found.map_or(0, |topic| topic.partitions().len());
                let unknown =
                    KafkaError::MetadataFetch(rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition);
                if count > 0 { Ok(count as i32) } else { Err(unknown) }
            },
        )
    }
}
