//! Seam 1: a transactional log.
//!
//! Narrow on purpose: one transaction at a time per [`Producer`], a [`Consumer`] that says which assignment a
//! record belongs to, and the last committed record of a partition. The order of durable steps lies in the
//! relay and the processor, not here.

use std::{any::Any, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

pub use crate::commit::Commit;
use crate::{
    config::FromSetting,
    error::{Error, Kind, Result},
    message::Headers,
};

pub mod codec;
pub mod embedded;
pub mod kafka;
mod topics;

pub(crate) use topics::KnownTopics;

/// A record to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The topic to send to.
    pub topic: Arc<str>,
    /// A fixed partition; `None` lets the key decide (murmur2, as Java's clients).
    pub partition: Option<i32>,
    /// The key on the wire.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// The headers, in order.
    pub headers: Headers,
    /// Milliseconds since 1970; `None` or 0 lets the producer stamp it, times before 1970 are read as 0.
    pub time_ms: Option<i64>,
}

impl Record {
    /// Bytes of key, payload and headers: what counts against limits and memory.
    pub fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        length(&self.key) + length(&self.payload) + self.headers.size()
    }
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The topic it was read from.
    pub topic: Arc<str>,
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset; offsets rise but are not contiguous.
    pub offset: i64,
    /// The key on the wire.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// The headers, in order.
    pub headers: Headers,
    /// Milliseconds since 1970; 0 when the record has no time stamp.
    pub time_ms: i64,
}

impl Received {
    /// Bytes of key, payload and headers.
    pub fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        length(&self.key) + length(&self.payload) + self.headers.size()
    }
}

/// Why a producer may not be used for another transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rotation {
    /// A late copy of an abort could drop half of the next transaction.
    Aborted,
    /// The outcome of the last transaction is known only after the next initialisation.
    Unknown,
    /// The commit took so long that a silent retry may have left a copy behind.
    SlowCommit,
    /// Sending the offsets took so long that a silent retry may have left a copy behind.
    SlowOffsets,
    /// Sending the offsets failed: a later commit could answer OK without them.
    OffsetsFailed,
    /// A call did not come back in time; its thread was given up.
    Watchdog,
    /// Another producer with the same transactional id was initialised.
    Fenced,
    /// Batches were kept small for a while because a topic took none that were larger; larger ones are faster.
    Batches,
}

impl Rotation {
    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
            Self::SlowCommit => "slow_commit",
            Self::SlowOffsets => "slow_offsets",
            Self::OffsetsFailed => "offsets_failed",
            Self::Watchdog => "watchdog",
            Self::Fenced => "fenced",
            Self::Batches => "batches",
        }
    }
}

impl Rotation {
    /// What a commit answers without being tried, for the reason that stands; `None`: it may be tried.
    fn forbids_commit(reason: Option<Self>) -> Option<Commit> {
        match reason? {
            Self::SlowOffsets | Self::Batches => None,
            why @ (Self::OffsetsFailed | Self::Aborted) => {
                Some(Commit::Aborted(Error::new(Kind::Conflict, format!("not committed: {why}"))))
            }
            why => Some(Commit::Unknown(Error::new(Kind::Unknown, format!("not committed now: {why}")))),
        }
    }

    /// What offsets leave behind. Never `Fenced`: it may be the group that has moved on, and then the transaction
    /// wants an abort.
    fn after_offsets(sent: &Result<()>, slow: bool) -> Option<Self> {
        match sent {
            Ok(()) => slow.then_some(Self::SlowOffsets),
            Err(_) => Some(Self::OffsetsFailed),
        }
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A record that the log refuses for good.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its place in the transaction: 0 is the first record sent since `begin`.
    pub index: usize,
    /// Why, in the log's words.
    pub reason: String,
    /// Whether it is for want of a right, and not for what the record is.
    pub denied: bool,
}

impl Refusal {
    /// A record that is refused for what it is.
    pub fn new(index: usize, reason: impl Into<String>) -> Self {
        Self { index, reason: reason.into(), denied: false }
    }
}

/// A transactional producer: one transaction at a time.
///
/// Dropping it neither commits nor aborts: an open transaction stays open until its time-out or until the next
/// producer with the same transactional id.
#[async_trait]
pub trait Producer: Send {
    /// The transactional id.
    fn transactional_id(&self) -> &str;

    /// Opens a transaction. An error of kind `Conflict` when [`must_rotate`](Self::must_rotate) says so.
    async fn begin(&mut self) -> Result<()>;

    /// Hands records over; they are sent in this order. Waits only for room.
    async fn send(&mut self, records: Vec<Record>) -> Result<()>;

    /// Waits until every record handed over since `begin` is acknowledged or refused. Not empty: some were
    /// refused for good, nothing else went wrong, and the transaction can only be aborted.
    async fn acknowledged(&mut self) -> Result<Vec<Refusal>>;

    /// Adds consumed offsets (the next offset to read, per partition). After an error only `abort` is legal.
    async fn send_offsets(&mut self, offsets: &[PartitionOffset], group: GroupMetadata) -> Result<()>;

    /// Commits. Everything sent must have been acknowledged before.
    async fn commit(&mut self) -> Commit;

    /// Aborts; [`must_rotate`](Self::must_rotate) then says so, whatever came of it.
    async fn abort(&mut self);

    /// Why this producer may not begin another transaction; `None` when it may.
    fn must_rotate(&self) -> Option<Rotation>;
}

/// The next offset to read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
}

/// A partition as held from one assignment to its end. `epoch` differs each time it is assigned to this consumer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Assignment {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Raised at each assignment, local to this consumer.
    pub epoch: u64,
}

impl fmt::Display for Assignment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}[{}]", self.topic, self.partition)
    }
}

/// Proof of membership, checked when it was made; opaque to everything but the log that made it.
pub struct GroupMetadata(pub(crate) Box<dyn Any + Send>);

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("GroupMetadata")
    }
}

/// How partitions move between members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Assignor {
    /// Only partitions that move are revoked (incremental cooperative rebalancing).
    #[default]
    Cooperative,
    /// Every partition is revoked at every rebalance.
    Eager,
}

impl FromSetting for Assignor {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text.trim() {
            "cooperative" => Ok(Self::Cooperative),
            "eager" => Ok(Self::Eager),
            _ => Err("cooperative or eager".to_owned()),
        }
    }
}

/// What a group member reads.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The consumer group.
    pub group: String,
    /// The topics.
    pub topics: Vec<String>,
    /// A stable name makes the member static: a restart under the same name gets its partitions back at once.
    pub instance: Option<String>,
    /// How partitions move.
    pub assignor: Assignor,
}

/// Held by whoever must finish with revoked partitions; the rebalance goes on when it is dropped, or when the
/// log runs out of patience.
#[derive(Debug)]
pub struct Handback(#[expect(dead_code, reason = "its drop is the signal")] Box<dyn Any + Send + Sync>);

impl Handback {
    /// The drop of `signal` is what the log waits for.
    pub(crate) fn new(signal: impl Any + Send + Sync) -> Self {
        Self(Box::new(signal))
    }
}

/// What a consumer tells, in order.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// Partitions were assigned; they are paused until [`Consumer::start`]. May be empty.
    Assigned(Vec<Assignment>),
    /// Records of a started partition, in order.
    Records {
        /// The partition.
        assignment: Assignment,
        /// What [`Consumer::start`] answered: records of an earlier flow may still be on their way.
        flow: u64,
        /// The records.
        records: Vec<Received>,
    },
    /// Partitions are taken away once `handback` is dropped. `lost`: they belong to others already, commit nothing.
    Revoked {
        /// What is taken away.
        partitions: Vec<Assignment>,
        /// Others may own them already.
        lost: bool,
        /// Drop it when finished.
        handback: Handback,
    },
    /// A started partition cannot be read on: offset out of range, topic deleted, not authorised.
    Failed(Assignment, Error),
    /// The member has no place in the group, for want of a right or because it does not fit; it goes on trying. Kind
    /// `Denied` or `Config`.
    Denied(Error),
    /// The consumer is dead, nothing follows: fenced by a member of the same name, or closed by an error.
    Fatal(Error),
}

/// A member of a consumer group. Its events come over the channel that [`Log::consumer`] returns.
///
/// All methods answer with kind `Unassigned` when the assignment is no longer held.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Whether the partition is still held under that assignment.
    fn holds(&self, assignment: &Assignment) -> bool;

    /// The group's committed offset once no transaction can change it any more; `Timeout` while one is open.
    async fn committed(&self, assignment: &Assignment) -> Result<Option<i64>>;

    /// Lets records flow from `offset` on; drops what was buffered before. Answers the number of the flow. A partition
    /// that [`Failed`](ConsumerEvent::Failed) needs a new assignment: the call answers `Unassigned` and makes the member
    /// give back all it holds and join again.
    async fn start(&self, assignment: &Assignment, offset: i64) -> Result<u64>;

    /// Stops the flow for now; records already on their way may still arrive.
    fn pause(&self, assignment: &Assignment) -> Result<()>;

    /// Ends a pause.
    fn resume(&self, assignment: &Assignment) -> Result<()>;

    /// In one step that no rebalance can interleave: every one of `held` is still held under the same assignment,
    /// the member has a generation and an id, and this is the proof.
    fn metadata(&self, held: &[Assignment]) -> Result<GroupMetadata>;

    /// Leaves the group (a static member just goes) after revoking what is held. Safe to call twice. Dropping the
    /// consumer does the same without waiting for it.
    async fn close(&self);
}

/// What is kept of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Whatever the topic is configured for; `delete` when created.
    Any,
    /// The last record of each key, and nothing else (`cleanup.policy=compact` alone).
    Compact,
}

/// A topic as it must be.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Exactly so many partitions; `None` takes what there is, and the configured default when created.
    pub partitions: Option<i32>,
    /// What is kept.
    pub cleanup: Cleanup,
}

/// The offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is still there.
    pub start: i64,
    /// The offset the next record will get, open transactions included.
    pub end: i64,
}

/// The events of one consumer, in order. A log may stop reading on while many records wait here untaken.
pub struct ConsumerEvents {
    receiver: UnboundedReceiver<ConsumerEvent>,
    taken: Box<dyn Fn(&ConsumerEvent) + Send + Sync>,
}

impl ConsumerEvents {
    /// Events of which `taken` is told as they are received.
    pub(crate) fn with(
        receiver: UnboundedReceiver<ConsumerEvent>,
        taken: impl Fn(&ConsumerEvent) + Send + Sync + 'static,
    ) -> Self {
        Self { receiver, taken: Box::new(taken) }
    }

    /// The next event; `None` when the consumer is closed and nothing is left. Nothing is lost when it is cancelled.
    pub async fn recv(&mut self) -> Option<ConsumerEvent> {
        let event = self.receiver.recv().await?;
        (self.taken)(&event);
        Some(event)
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<ConsumerEvent> {
        let event = self.receiver.try_recv().ok()?;
        (self.taken)(&event);
        Some(event)
    }
}

impl fmt::Debug for ConsumerEvents {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ConsumerEvents")
    }
}

impl From<UnboundedReceiver<ConsumerEvent>> for ConsumerEvents {
    fn from(receiver: UnboundedReceiver<ConsumerEvent>) -> Self {
        Self::with(receiver, |_| {})
    }
}

/// A log: a Kafka cluster, or something that behaves like one.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Refuses brokers that cannot keep the promise, naming the setting and the value.
    async fn check(&self) -> Result<()>;

    /// Creates the topic if it is absent and that is configured, else checks it; answers its partition count.
    async fn topic(&self, spec: &TopicSpec) -> Result<i32>;

    /// A new producer; fences every earlier one of that transactional id and decides its open transaction.
    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>>;

    /// Joins a group.
    async fn consumer(&self, subscription: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)>;

    /// The last committed record: the end offset is asked first, by a client that is not read_committed, then the
    /// partition is read read_committed up to it. A time-out is an error, never `None`.
    async fn last_record(&self, topic: &str, partition: i32) -> Result<Option<Received>>;

    /// First and end offset of a partition. `Unavailable` when there is no such partition: it may just have been made.
    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds>;

    /// What tells a topic from another one that had its name before: given at its creation, never changed. `None` when a
    /// topic of this log stays for ever. `Unavailable` when there is no such topic: it may just have been made.
    async fn topic_id(&self, topic: &str) -> Result<Option<String>>;
}

#[async_trait]
impl<L: Log + ?Sized> Log for Arc<L> {
    async fn check(&self) -> Result<()> {
        (**self).check().await
    }

    async fn topic(&self, spec: &TopicSpec) -> Result<i32> {
        (**self).topic(spec).await
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        (**self).producer(transactional_id).await
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        (**self).consumer(subscription).await
    }

    async fn last_record(&self, topic: &str, partition: i32) -> Result<Option<Received>> {
        (**self).last_record(topic, partition).await
    }

    async fn topic_id(&self, topic: &str) -> Result<Option<String>> {
        (**self).topic_id(topic).await
    }

    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        (**self).bounds(topic, partition).await
    }
}
