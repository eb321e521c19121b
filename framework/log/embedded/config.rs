//! Limits and time-outs of the embedded log.

use std::time::Duration;

use crate::config::Problems;

/// Limits and time-outs of the embedded log; named and preset as the ones of Kafka where there are such, but for the
/// largest record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// Whether absent topics are created. Defaults to true.
    pub create_topics: bool,
    /// Partitions of a topic that is created without a number of its own. Defaults to 6.
    pub topic_partitions: i32,
    /// How long a transaction may stay open before it is aborted. Defaults to 15 s.
    pub transaction_timeout: Duration,
    /// After how much silence a group gives up a member. Defaults to 10 s.
    pub session_timeout: Duration,
    /// How often a member tells that it lives. Defaults to 3 s.
    pub heartbeat_interval: Duration,
    /// How long a group waits for a member to finish with revoked partitions. Defaults to 60 s.
    pub max_poll_interval: Duration,
    /// From how long on a call of a transaction counts as silently repeated, so that its producer must be rotated.
    /// Defaults to 200 ms.
    pub slow_call: Duration,
    /// How long a new producer may take to be initialised. Defaults to 45 s.
    pub init_timeout: Duration,
    /// How long a question for offsets waits for an open transaction. Defaults to 10 s.
    pub query_timeout: Duration,
    /// The largest record in bytes; larger ones are refused. Defaults to 1 MiB; Kafka's `max_message_size` to 1,000,000.
    pub max_message_bytes: usize,
    /// For how long records are kept, tombstones of compacted topics included. Defaults to 7 days.
    pub retention: Duration,
    /// With a file: how many bytes of the latest records of each partition stay in memory. Defaults to 4 MiB.
    pub window_bytes: usize,
    /// The time of the wall's clock when the log is made, in milliseconds since 1970; it then goes on with the clock
    /// of tokio. Defaults to `None`: the system's clock with a file, the first of January 2026 in memory, so that
    /// two runs are alike.
    pub start_ms: Option<i64>,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            create_topics: true,
            topic_partitions: 6,
            transaction_timeout: Duration::from_secs(15),
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(60),
            slow_call: Duration::from_millis(200),
            init_timeout: Duration::from_secs(45),
            query_timeout: Duration::from_secs(10),
            max_message_bytes: 1 << 20,
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            window_bytes: 4 << 20,
            start_ms: None,
        }
    }
}

impl EmbeddedConfig {
    pub(super) fn report(&self, problems: &mut Problems) {
        problems.check(self.topic_partitions > 0, || {
            format!("embedded topic_partitions is {}, expected 1 or more", self.topic_partitions)
        });
        let mut positive = |name: &str, value: Duration| {
            problems.check(!value.is_zero(), || format!("embedded {name} is 0, expected more"));
        };
        positive("transaction_timeout", self.transaction_timeout);
        positive("session_timeout", self.session_timeout);
        positive("heartbeat_interval", self.heartbeat_interval);
        positive("max_poll_interval", self.max_poll_interval);
        positive("slow_call", self.slow_call);
        positive("retention", self.retention);
        problems.check(self.heartbeat_interval <= self.session_timeout / 2, || {
            format!(
                "embedded heartbeat_interval is {:?}, expected at most half of session_timeout {:?}",
                self.heartbeat_interval, self.session_timeout
            )
        });
        problems.check(self.max_message_bytes > 0, || {
            "embedded max_message_bytes is 0, expected more".to_owned()
        });
    }

    /// How long a rebalance waits for a handback.
    pub(super) fn patience(&self) -> Duration {
        self.max_poll_interval / 2
    }
}
