//! How to reach Kafka, and what to demand of it.

use std::time::Duration;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use super::options::Options;
use crate::{
    config::{Fields, Problems, Secret},
    retry::Backoff,
};

/// The longest wait after a lost connection; librdkafka's 10 s turn a coordinator that moves into 7 to 10 s of
/// standstill.
const RECONNECT_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long a consumer that is faster than its prefetch queue sleeps; librdkafka's 1 s costs two thirds of the rate.
const FETCH_QUEUE_BACKOFF: Duration = Duration::from_millis(5);
/// How long a broker holds an idle fetch; a partition that is started joins only the fetch after it.
const FETCH_WAIT: Duration = Duration::from_millis(100);
/// How often a client looks at its topics again: so long one that may be seen again, or has more partitions, is not read.
/// librdkafka's default is 5 min.
const METADATA_REFRESH: Duration = Duration::from_secs(30);
/// How long a topic that brokers say is unknown may still turn up; librdkafka's 30 s exceed the transaction.
const TOPIC_PROPAGATION: Duration = Duration::from_secs(5);
/// What a transaction may hold in memory on its way out, in KiB.
const SEND_BUFFER_KIB: usize = 64 * 1024;
/// librdkafka's default of `batch.size`.
const BATCH_SIZE: usize = 1_000_000;
/// What librdkafka takes for `message.max.bytes` and `fetch.message.max.bytes`.
const LARGEST_MESSAGE: usize = 64_000_000;

/// How to reach Kafka, and what to demand of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// The brokers to ask first, `host:port` separated by commas. Defaults to nothing: it must be set.
    pub brokers: String,
    /// The name that brokers see in their logs and quotas. Defaults to `tidelock`.
    pub client_id: String,
    /// Whether absent topics are created. Defaults to true.
    pub create_topics: bool,
    /// Partitions of a topic that is created without a number of its own. Defaults to 6.
    pub topic_partitions: i32,
    /// Replicas of created topics, and the fewest that existing ones may have; `None` leaves it to the brokers.
    /// Defaults to `None`.
    pub replication_factor: Option<i32>,
    /// `min.insync.replicas` of created topics, and the least that existing ones may have; `None` leaves it to the
    /// brokers. Defaults to `None`.
    pub min_insync_replicas: Option<i32>,
    /// How long a transaction may stay open before brokers abort it, and a record may take to be acknowledged: what
    /// a crashed owner can hold back readers and its successor. Defaults to 15 s.
    pub transaction_timeout: Duration,
    /// After how much silence a group gives up a member. Defaults to 10 s.
    pub session_timeout: Duration,
    /// How often a member tells that it lives. Defaults to 3 s.
    pub heartbeat_interval: Duration,
    /// How long a group waits for a member to finish with revoked partitions. Defaults to 60 s.
    pub max_poll_interval: Duration,
    /// How long one request may stay unanswered; it alone bounds a request that is in flight. Defaults to 5 s.
    pub socket_timeout: Duration,
    /// The first wait before a request is repeated; calls that took most of it count as silently repeated. Defaults to
    /// 250 ms.
    pub retry_backoff: Duration,
    /// The longest wait before a request is repeated. Defaults to 1 s.
    pub retry_backoff_max: Duration,
    /// How long a record waits for others to travel with; those that come while others are on their way travel
    /// together anyhow. Defaults to 0.
    pub linger: Duration,
    /// How long one call within a transaction may take; the commit, which waits for the records first, twice that, and the
    /// call that adds the offsets, which is two requests, twice `socket_timeout` if that is shorter. After 2 s more its
    /// producer is given up. Defaults to 20 s.
    pub call_timeout: Duration,
    /// How long a new producer may take to be initialised, retries included. Defaults to 45 s.
    pub init_timeout: Duration,
    /// How long a question may take: offsets, topics, settings of brokers. Defaults to 10 s.
    pub query_timeout: Duration,
    /// The largest record in bytes; larger ones are refused. Defaults to 1,000,000.
    pub max_message_size: usize,
    /// What a consumer may fetch ahead, in KiB. Defaults to 16,384.
    pub fetch_ahead_kib: usize,
    /// The SASL password. Defaults to none.
    pub sasl_password: Option<Secret>,
    /// Further settings of librdkafka, for TLS and SASL: `security.protocol`, `sasl.mechanisms`, `ssl.ca.location`.
    /// In the environment `name=value` separated by `;`. Defaults to none.
    pub options: Options,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            client_id: "tidelock".to_owned(),
            create_topics: true,
            topic_partitions: 6,
            replication_factor: None,
            min_insync_replicas: None,
            transaction_timeout: Duration::from_secs(15),
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(60),
            socket_timeout: Duration::from_secs(5),
            retry_backoff: Duration::from_millis(250),
            retry_backoff_max: Duration::from_secs(1),
            linger: Duration::ZERO,
            call_timeout: Duration::from_secs(20),
            init_timeout: Duration::from_secs(45),
            query_timeout: Duration::from_secs(10),
            max_message_size: 1_000_000,
            fetch_ahead_kib: 16 * 1024,
            sasl_password: None,
            options: Options::default(),
        }
    }
}

impl KafkaConfig {
    pub(crate) fn read(&mut self, fields: &mut Fields<'_>) {
        fields.field("brokers", &mut self.brokers);
        fields.field("client_id", &mut self.client_id);
        fields.field("create_topics", &mut self.create_topics);
        fields.field("topic_partitions", &mut self.topic_partitions);
        fields.field("replication_factor", &mut self.replication_factor);
        fields.field("min_insync_replicas", &mut self.min_insync_replicas);
        fields.field("transaction_timeout", &mut self.transaction_timeout);
        fields.field("session_timeout", &mut self.session_timeout);
        fields.field("heartbeat_interval", &mut self.heartbeat_interval);
        fields.field("max_poll_interval", &mut self.max_poll_interval);
        fields.field("socket_timeout", &mut self.socket_timeout);
        fields.field("retry_backoff", &mut self.retry_backoff);
        fields.field("retry_backoff_max", &mut self.retry_backoff_max);
        fields.field("linger", &mut self.linger);
        fields.field("call_timeout", &mut self.call_timeout);
        fields.field("init_timeout", &mut self.init_timeout);
        fields.field("query_timeout", &mut self.query_timeout);
        fields.field("max_message_size", &mut self.max_message_size);
        fields.field("fetch_ahead_kib", &mut self.fetch_ahead_kib);
        fields.field("sasl_password", &mut self.sasl_password);
        fields.field("options", &mut self.options);
    }

    pub(crate) fn report(&self, problems: &mut Problems) {
        problems.check(!self.brokers.trim().is_empty(), || "kafka brokers are not set".to_owned());
        let mut positive = |name: &str, value: Option<i32>| {
            problems.check(value.is_none_or(|value| value > 0), || {
                format!("kafka {name} is {}, expected 1 or more", value.unwrap_or_default())
            });
        };
        positive("topic_partitions", Some(self.topic_partitions));
        positive("replication_factor", self.replication_factor);
        positive("min_insync_replicas", self.min_insync_replicas);
        if let (Some(replicas), Some(in_sync)) = (self.replication_factor, self.min_insync_replicas) {
            problems.check(in_sync <= replicas, || {
                format!("kafka min_insync_replicas is {in_sync}, more than replication_factor {replicas}")
            });
        }
        self.report_times(problems);
        problems.check((1_000..=LARGEST_MESSAGE).contains(&self.max_message_size), || {
            format!("kafka max_message_size is {}, expected 1000 to {LARGEST_MESSAGE}", self.max_message_size)
        });
        problems.check((1_024..=1_048_576).contains(&self.fetch_ahead_kib), || {
            format!("kafka fetch_ahead_kib is {}, expected 1024 to 1048576", self.fetch_ahead_kib)
        });
        self.options.report(problems);
    }

    fn report_times(&self, problems: &mut Problems) {
        let mut within = |name: &str, value: Duration, least: Duration, most: Duration| {
            problems.check((least..=most).contains(&value), || {
                format!("kafka {name} is {value:?}, expected {least:?} to {most:?}")
            });
        };
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        within("transaction_timeout", self.transaction_timeout, s(1), s(900));
        within("session_timeout", self.session_timeout, s(1), s(1_800));
        within("heartbeat_interval", self.heartbeat_interval, ms(100), self.session_timeout / 2);
        within("max_poll_interval", self.max_poll_interval, self.session_timeout, s(3_600));
        within("socket_timeout", self.socket_timeout, ms(500), s(60));
        within("retry_backoff", self.retry_backoff, ms(50), ms(500));
        within("retry_backoff_max", self.retry_backoff_max, self.retry_backoff, s(10));
        within("linger", self.linger, ms(0), ms(100));
        within("call_timeout", self.call_timeout, self.socket_timeout, s(900));
        within("init_timeout", self.init_timeout, self.socket_timeout, s(900));
        within("query_timeout", self.query_timeout, ms(500), s(300));
    }

    /// What every client is set to.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("topic.metadata.refresh.interval.ms", ms(METADATA_REFRESH));
        for (name, value) in self.options.iter() {
            config.set(name, value);
        }
        if let Some(password) = &self.sasl_password {
            config.set("sasl.password", password.expose());
        }
        // rdkafka asks the `log` crate, which nobody may have set up. Lines of level debug come only with `debug`.
        config.set_log_level(RDKafkaLogLevel::Debug);
        config
            .set("bootstrap.servers", &self.brokers)
            // A topic that is gone must not come again by a question about it, with one partition and no settings.
            .set("allow.auto.create.topics", "false")
            .set("client.id", &self.client_id)
            .set("socket.timeout.ms", ms(self.socket_timeout))
            .set("socket.nagle.disable", "true")
            .set("retry.backoff.ms", ms(self.retry_backoff))
            .set("retry.backoff.max.ms", ms(self.retry_backoff_max))
            .set("reconnect.backoff.max.ms", ms(RECONNECT_BACKOFF_MAX));
        config
    }

    /// The most bytes of a batch while every topic takes it.
    pub(super) fn batch_size(&self) -> usize {
        let option = self.options.iter().find(|(name, _)| *name == "batch.size");
        let bytes = option.and_then(|(_, value)| value.parse().ok()).unwrap_or(BATCH_SIZE);
        bytes.min(self.max_message_size)
    }

    /// A transactional producer; `batch_size`: the most bytes that records may have to travel together.
    pub(super) fn producer(&self, transactional_id: &str, batch_size: usize) -> ClientConfig {
        let mut config = self.client();
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", ms(self.transaction_timeout))
            .set("message.timeout.ms", ms(self.transaction_timeout))
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", ms(self.linger))
            .set("batch.size", batch_size.to_string())
            .set("message.max.bytes", self.max_message_size.to_string())
            .set("queue.buffering.max.kbytes", SEND_BUFFER_KIB.to_string())
            .set("queue.buffering.max.messages", "0")
            .set("topic.metadata.propagation.max.ms", ms(TOPIC_PROPAGATION));
        config
    }

    /// A consumer that reads what it is told to, from offsets it is told.
    pub(super) fn reader(&self, group: &str, committed_only: bool) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("isolation.level", isolation(committed_only))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", ms(FETCH_WAIT))
            .set("fetch.queue.backoff.ms", ms(FETCH_QUEUE_BACKOFF))
            .set("queued.max.messages.kbytes", self.fetch_ahead_kib.to_string())
            .set("fetch.max.bytes", self.max_message_size.max(8 << 20).to_string())
            .set("fetch.message.max.bytes", self.max_message_size.max(1 << 20).to_string());
        config
    }

    /// A client for questions, which see open transactions too.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.client();
        config.set("isolation.level", isolation(false));
        config
    }

    /// From how long on a call of a transaction counts as silently repeated.
    pub(super) fn slow_call(&self) -> Duration {
        self.retry_backoff.mul_f64(0.8).min(self.retry_backoff_max).min(Duration::from_millis(500))
    }

    /// The waits between attempts to initialise a producer.
    pub(super) fn init_backoff(&self) -> Backoff {
        Backoff { first: self.retry_backoff, most: self.retry_backoff_max }
    }

    /// How long a rebalance waits for a handback: the half leaves the group time to go on before it expels us.
    pub(super) fn patience(&self) -> Duration {
        self.max_poll_interval / 2
    }
}

pub(super) fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn isolation(committed_only: bool) -> &'static str {
    match committed_only {
        true => "read_committed",
        false => "read_uncommitted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_listed_and_secrets_are_not() {
        let config = KafkaConfig {
            topic_partitions: 0,
            session_timeout: Duration::from_millis(5),
            sasl_password: Some("hunter2".into()),
            options: Options::default().with("enable.idempotence", "false").with("sasl.password", "hunter2"),
            ..KafkaConfig::default()
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        let mut problems = Problems::default();
        config.report(&mut problems);
        let text = problems.into_result().expect_err("must be refused").to_string();
        for part in [
            "brokers are not set",
            "topic_partitions is 0",
            "session_timeout is 5ms",
            "option enable.idempotence",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text:?}");
        }
        assert!(!text.contains("hunter2"));
    }
}
