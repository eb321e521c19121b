//! Settings of a processor.

use std::time::Duration;

use crate::{
    config::{Fields, FromSetting, Problems},
    log::{Assignor, Bounds},
    retry::Backoff,
};

/// Where a group begins that has never read a topic. Partitions that are added later are read from their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// With the oldest record.
    #[default]
    Earliest,
    /// With the records written from now on. Needs a database, which remembers the first start: a partition that nobody has come to
    /// by then (the process died at once) begins at its end when somebody does.
    Latest,
}

impl StartAt {
    /// The offset to begin at; `at_first`: the partition was there at the group's first start.
    pub(crate) fn offset(self, bounds: Bounds, at_first: bool) -> i64 {
        if at_first && self == Self::Latest { bounds.end } else { bounds.start }
    }
}

/// What to do when Kafka has an offset of the group but the database has no fence row of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adopt {
    /// Start at Kafka's offset if the partition never had a fence row in this database, else stop the partition.
    #[default]
    Auto,
    /// Start at Kafka's offset.
    Start,
    /// Stop the partition.
    Stop,
}

/// What to do with an event that no handler is registered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unhandled {
    /// Pass over it.
    #[default]
    Skip,
    /// Treat it as an error: the partition waits.
    Fail,
}

/// Settings of a processor.
#[derive(Debug, Clone)]
pub struct ProcessorConfig {
    /// The most records of a partition in one database transaction. Defaults to 500.
    pub max_batch: usize,
    /// Records of a partition that may wait in memory before it is paused. Defaults to 4,000.
    pub max_buffered: usize,
    /// Bytes of a partition that may wait in memory before it is paused. Defaults to 8 MiB.
    pub max_buffered_bytes: usize,
    /// Where a new group begins. Defaults to the oldest record.
    pub start: StartAt,
    /// What to do with an offset that the database does not know. Defaults to [`Adopt::Auto`].
    pub adopt: Adopt,
    /// What to do with an event that nobody handles. Defaults to passing over it.
    pub unhandled: Unhandled,
    /// Whether messages are entered by id, to remove duplicates made by others. Defaults to true.
    pub inbox: bool,
    /// How long ids are kept. Defaults to 7 days, as Kafka keeps records by default.
    pub inbox_retention: Duration,
    /// How long a handler may take for one message; then everything is rolled back, and the message is tried again. What the
    /// database does for it at that moment goes on there: in SQLite the rollback waits for it, in PostgreSQL it ends some seconds
    /// after its connection was given up, which `answer_timeout` limits. Defaults to 5 minutes.
    pub handler_timeout: Duration,
    /// The first wait after a failed execution. Defaults to 100 ms.
    pub retry_first: Duration,
    /// The longest wait after failed executions; what looks like a wrong setting is tried again after three times
    /// that. Defaults to 10 s.
    pub retry_most: Duration,
    /// How partitions move between instances. Defaults to cooperative.
    pub assignor: Assignor,
}

impl Default for ProcessorConfig {
    fn default() -> Self {
        let retry = Backoff::default();
        Self {
            max_batch: 500,
            max_buffered: 4_000,
            max_buffered_bytes: 8 << 20,
            start: StartAt::default(),
            adopt: Adopt::default(),
            unhandled: Unhandled::default(),
            inbox: true,
            inbox_retention: Duration::from_secs(7 * 24 * 3600),
            handler_timeout: Duration::from_secs(300),
            retry_first: retry.first,
            retry_most: retry.most,
            assignor: Assignor::default(),
        }
    }
}

impl ProcessorConfig {
    pub(crate) fn read(&mut self, fields: &mut Fields<'_>) {
        fields.field("max_batch", &mut self.max_batch);
        fields.field("max_buffered", &mut self.max_buffered);
        fields.field("max_buffered_bytes", &mut self.max_buffered_bytes);
        fields.field("start", &mut self.start);
        fields.field("adopt", &mut self.adopt);
        fields.field("unhandled", &mut self.unhandled);
        fields.field("inbox", &mut self.inbox);
        fields.field("inbox_retention", &mut self.inbox_retention);
        fields.field("handler_timeout", &mut self.handler_timeout);
        fields.field("retry_first", &mut self.retry_first);
        fields.field("retry_most", &mut self.retry_most);
        fields.field("assignor", &mut self.assignor);
    }

    pub(crate) fn report(&self, problems: &mut Problems) {
        problems.check((1..=100_000).contains(&self.max_batch), || {
            format!("processor max_batch = {}, expected 1 to 100000", self.max_batch)
        });
        problems.check(self.max_buffered >= self.max_batch, || {
            format!(
                "processor max_buffered = {}, expected at least max_batch = {}",
                self.max_buffered, self.max_batch
            )
        });
        problems.check(self.max_buffered_bytes > 0, || {
            "processor max_buffered_bytes = 0, expected more".to_owned()
        });
        problems.check(!self.handler_timeout.is_zero(), || {
            "processor handler_timeout = 0ns, expected more than 0".to_owned()
        });
        problems.check(!self.retry_first.is_zero() && self.retry_first <= self.retry_most, || {
            format!(
                "processor retry_first = {:?}, expected more than 0 and at most retry_most = {:?}",
                self.retry_first, self.retry_most
            )
        });
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff { first: self.retry_first, most: self.retry_most }
    }
}

macro_rules! named {
    ($type:ty { $($name:literal => $value:path,)+ } $expected:literal) => {
        impl FromSetting for $type {
            fn from_setting(text: &str) -> Result<Self, String> {
                match text.trim() {
                    $($name => Ok($value),)+
                    _ => Err($expected.to_owned()),
                }
            }
        }
    };
}

named!(StartAt { "earliest" => Self::Earliest, "latest" => Self::Latest, } "earliest or latest");
named!(Adopt { "auto" => Self::Auto, "start" => Self::Start, "stop" => Self::Stop, } "auto, start or stop");
named!(Unhandled { "skip" => Self::Skip, "fail" => Self::Fail, } "skip or fail");
