//! Settings of a relay.

use std::time::Duration;

use crate::{
    config::{Fields, Problems},
    log::Assignor,
};

/// Settings of a relay.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Names the relay's consumer group, its transactional ids and its progress topic (`tidelock.NAME.progress`): one
    /// name per outbox in a cluster. Required: there is no default.
    pub name: String,
    /// How many shards may be relayed at the same time; fixed at the first start. Defaults to 1.
    pub shards: u32,
    /// The `ce_source` of what is published. Defaults to `/NAME`.
    pub source: Option<String>,
    /// The most rows in one Kafka transaction. Defaults to 4,000: beyond that a transaction gains nothing.
    pub max_rows: usize,
    /// How long to wait for new rows after a busy moment. Defaults to 1 ms.
    pub poll_busy: Duration,
    /// How long to wait for new rows when nothing happens: 20 queries a second. Defaults to 50 ms.
    pub poll_idle: Duration,
    /// How long the database may take for one step before its connection counts as lost: a host that is gone says
    /// nothing. Defaults to 60 s: a batch takes less than one, the first look at a large backlog a few.
    pub database_timeout: Duration,
    /// How shards move between instances. Defaults to cooperative.
    pub assignor: Assignor,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            shards: 1,
            source: None,
            max_rows: 4_000,
            poll_busy: Duration::from_millis(1),
            poll_idle: Duration::from_millis(50),
            database_timeout: Duration::from_secs(60),
            assignor: Assignor::default(),
        }
    }
}

impl RelayConfig {
    /// The defaults under that name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub(crate) fn read(&mut self, fields: &mut Fields<'_>) {
        fields.field("name", &mut self.name);
        fields.field("shards", &mut self.shards);
        fields.field("source", &mut self.source);
        fields.field("max_rows", &mut self.max_rows);
        fields.field("poll_busy", &mut self.poll_busy);
        fields.field("poll_idle", &mut self.poll_idle);
        fields.field("database_timeout", &mut self.database_timeout);
        fields.field("assignor", &mut self.assignor);
    }

    pub(crate) fn report(&self, problems: &mut Problems) {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        problems.check(self.name.chars().all(legal) && self.name.len() <= 180, || {
            format!(
                "relay name {:?} has other characters than a-z, A-Z, 0-9, '-', '_', '.', or more than 180",
                self.name
            )
        });
        problems.check((1..=256).contains(&self.shards), || {
            format!("relay shards = {}, expected 1 to 256", self.shards)
        });
        problems.check((1..=100_000).contains(&self.max_rows), || {
            format!("relay max_rows = {}, expected 1 to 100000", self.max_rows)
        });
        problems.check(!self.poll_busy.is_zero() && self.poll_busy <= self.poll_idle, || {
            format!(
                "relay poll_busy = {:?}, expected more than 0 and at most poll_idle = {:?}",
                self.poll_busy, self.poll_idle
            )
        });
        problems.check(!self.database_timeout.is_zero(), || {
            "relay database_timeout = 0, expected more".to_owned()
        });
    }

    /// The problems that matter once a relay is built.
    pub(crate) fn report_for_use(&self, problems: &mut Problems) {
        problems.check(!self.name.is_empty(), || "relay name is not set".to_owned());
        self.report(problems);
    }

    pub(crate) fn progress_topic(&self) -> String {
        format!("tidelock.{}.progress", self.name)
    }

    pub(crate) fn group(&self) -> String {
        format!("tidelock.{}.relay", self.name)
    }

    pub(crate) fn transactional_id(&self, shard: u32) -> String {
        format!("tidelock.{}.relay.{shard}", self.name)
    }

    pub(crate) fn source(&self) -> String {
        self.source.clone().unwrap_or_else(|| format!("/{}", self.name))
    }
}
