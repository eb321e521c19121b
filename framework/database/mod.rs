//! Seam 2: a database.
//!
//! [`Database`] is what the processor needs (fence, inbox, pending outputs), [`Source`] what the relay needs
//! (outbox, position, quarantine), [`Enqueue`] what business transactions need. All SQL lies below this room. Handlers
//! always get the native connection of their own database, never a wrapper.

use std::{collections::HashSet, ops::DerefMut, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    commit::Commit,
    error::{Error, Kind, Result},
    message::{Key, MessageId},
    outgoing::Outgoing,
};

mod batch;
mod migration;
mod none;
pub mod postgres;
pub mod sqlite;

pub use none::NoDatabase;

/// Which fence row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FenceKey {
    /// The consumer group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

/// One row per (group, topic, partition): what the database has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fence {
    /// The next offset the database has not seen.
    pub next_offset: i64,
    /// Where the last batch began; `None` while there was no batch.
    pub pending_from: Option<i64>,
    /// The encoded outputs of the last batch; empty when it emitted nothing.
    pub pending: Bytes,
    /// The transactional id of whoever wrote the row, or sent its outputs again last.
    pub owner: String,
    /// Rises whenever the outputs are sent again.
    pub claim: i64,
}

/// What a fence row held when its outputs were handed to the log: the log's verdict concerns these and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The row's `next_offset`.
    pub next_offset: i64,
    /// The encoded outputs.
    pub pending: Bytes,
    /// The row's claim.
    pub claim: i64,
}

/// What is known of a group's start on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstStart {
    /// Partitions the topic had at the group's first start; those above were added later and are read from their
    /// start.
    pub partitions: i32,
    /// This partition has had a fence row in this database, whether or not it has one now.
    pub fenced: bool,
}

/// The next batch of one partition: the compare-and-set of its fence row.
#[derive(Debug)]
pub struct Advance<'a> {
    /// Which row.
    pub key: &'a FenceKey,
    /// What `next_offset` must be, and `pending_from` becomes.
    pub from: i64,
    /// What `next_offset` becomes.
    pub to: i64,
    /// The encoded outputs of this batch.
    pub pending: Bytes,
    /// The transactional id of the writer.
    pub owner: &'a str,
}

/// What the compare-and-set of a fence row found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// The row was not as expected: nothing was done, roll back.
    Stale,
    /// The row moved, and nothing at all is in the quarantine.
    Clear,
    /// The row moved; something is in the quarantine, and outputs of this batch may have to wait behind it.
    Quarantine,
}

/// A database that a processor can lock to a log.
#[async_trait]
pub trait Database: Clone + Send + Sync + 'static {
    /// What a handler gets: the native connection, inside the open transaction.
    type Connection: Send;
    /// An open transaction.
    type Unit: Unit<Connection = Self::Connection>;

    /// Whether there is a database at all: without one, the log's own offset is the only truth.
    const FENCED: bool = true;

    /// Whether an open unit keeps every other writer of the database waiting. None is then left open while a log
    /// transaction is under way: a log that does not answer must not stop the database.
    const ONE_WRITER: bool = false;

    /// Refuses a database that may forget what it has committed, naming every finding at once: kind `Config`, or
    /// `Unavailable` for a standby with which nothing else is wrong.
    async fn check_durable(&self) -> Result<()>;

    /// Reads one fence row.
    async fn fence(&self, key: &FenceKey) -> Result<Option<Fence>>;

    /// Records the group's first start on a topic that has `partitions` partitions now, if it is the first, and
    /// answers what is recorded.
    async fn first_start(&self, key: &FenceKey, partitions: i32) -> Result<FirstStart>;

    /// Notes the id of the topic that the group works on, if none is noted yet, and answers what is noted; `None` before
    /// the group's first start on it.
    async fn note_topic(&self, key: &FenceKey, id: &str) -> Result<Option<String>>;

    /// Inserts a fence row without any batch, if absent, and records that the partition had one.
    async fn insert_fence(&self, key: &FenceKey, next_offset: i64, owner: &str) -> Result<()>;

    /// Opens a transaction.
    async fn begin(&self) -> Result<Self::Unit>;

    /// Before the outputs of a row are sent again: if it still is `submitted`, raises its claim, so that whoever sent them
    /// before may not [move](Self::quarantine_outputs) them any more, and notes the new owner. Answers the new claim; it
    /// survives a crash. `None`: the row is another one by now, nothing was done.
    async fn claim_outputs(&self, key: &FenceKey, submitted: &Submitted, owner: &str) -> Result<Option<i64>>;

    /// In one transaction: replaces the pending outputs of a row that still is `submitted` by `pending`, and stores the
    /// refused ones with those of their keys. `false`: the row is another one by now, nothing was done.
    async fn quarantine_outputs(
        &self,
        key: &FenceKey,
        submitted: &Submitted,
        pending: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool>;

    /// Forgets inbox entries older than `age`, in small steps; answers how many.
    async fn clean_inbox(&self, group: &str, age: Duration) -> Result<u64>;
}

/// An open database transaction. Dropping it rolls back.
#[async_trait]
pub trait Unit: Send {
    /// The native connection.
    type Connection: Send;

    /// The native connection, inside the transaction.
    fn connection(&mut self) -> &mut Self::Connection;

    /// Enters message ids into the group's inbox; answers those that were there already, in one round trip.
    /// `ids` holds no id twice.
    async fn admit(&mut self, group: &str, ids: &[MessageId]) -> Result<HashSet<MessageId>>;

    /// Takes message ids that this transaction has entered out of the group's inbox again: their messages are left to
    /// a later one.
    async fn retract(&mut self, group: &str, ids: &[MessageId]) -> Result<()>;

    /// The compare-and-set, and whether anything is in the quarantine, in one round trip.
    async fn advance(&mut self, advance: Advance<'_>) -> Result<Advanced>;

    /// After an advance: which of these keys have outputs in the quarantine. Until this transaction ends, none of
    /// those keys is released to its end without what [`hold_back`](Self::hold_back) adds to it.
    async fn held_outputs(&mut self, keys: &[HeldKey]) -> Result<HashSet<HeldKey>>;

    /// After an advance: stores outputs that wait behind others of their key, in this order; `pending` is the rest.
    async fn hold_back(&mut self, key: &FenceKey, pending: Bytes, held: &[Quarantined]) -> Result<()>;

    /// Commits and tells the truth about it: an error of which nobody knows whether it came before or after the
    /// commit is `Unknown`.
    async fn commit(self) -> Commit;

    /// Rolls back and gives the connection back.
    async fn rollback(self);
}

/// One of `count` shards of the outbox; owns the buckets with `bucket % count == index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    /// Which, from 0; also its partition of the progress topic.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

/// The right to write for a shard; a later one takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The shard.
    pub shard: Shard,
    /// Rises with every claim of the shard.
    pub epoch: i64,
}

impl Claim {
    /// What a write under an older claim than the newest one is told.
    fn outdated(self, what: &str) -> Error {
        let Self { shard, epoch } = self;
        let what = format!("{what}: shard {} was claimed again after epoch {epoch}", shard.index);
        Error::new(Kind::Fenced, what)
    }
}

/// The number of shards is fixed at the first start.
fn require_shards(fixed: u32, count: u32) -> Result<()> {
    if fixed == count {
        return Ok(());
    }
    let what = format!("the outbox was started with {fixed} shards, config has {count}; the number is fixed");
    Err(Error::new(Kind::Config, what))
}

/// A row of the outbox.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    /// Its place in the order.
    pub seq: i64,
    /// The message id.
    pub id: MessageId,
    /// The topic.
    pub topic: Arc<str>,
    /// The key.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// The wire name of the event.
    pub event_type: Option<Arc<str>>,
    /// User headers: a JSON object of texts; other values are sent as their JSON text, null as an absent value.
    pub headers: Option<Map<String, Value>>,
    /// When it was written, microseconds since 1970, of the database's clock.
    pub time_us: i64,
}

/// Rows read in one go, in the order to publish them.
#[derive(Debug)]
pub struct Batch<P> {
    /// The rows; at least one.
    pub rows: Vec<OutboxRow>,
    /// The source's position once these rows are published.
    pub position: Bytes,
    /// How to delete them afterwards.
    pub published: P,
}

/// A message that the log refused, or that stands behind one.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// The message id.
    pub id: MessageId,
    /// The topic.
    pub topic: Arc<str>,
    /// The key.
    pub key: Option<Bytes>,
    /// The record, encoded by its owner: what is sent when it is put back.
    pub record: Bytes,
    /// Why, for people.
    pub reason: String,
}

/// A message in quarantine, as people see it.
#[derive(Debug, Clone)]
pub struct QuarantineEntry {
    /// Its place; entries of a key are released in this order.
    pub entry: i64,
    /// The message id.
    pub id: MessageId,
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: Key,
    /// Why it is here.
    pub reason: String,
    /// Whether its release was asked for.
    pub release_asked: bool,
    /// Emitted by a handler, rather than enqueued in the outbox.
    pub emitted: bool,
}

/// A key whose later messages wait in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeldKey {
    /// The topic.
    pub topic: Arc<str>,
    /// The key.
    pub key: Bytes,
}

/// A quarantined message to publish again, in order.
#[derive(Debug, Clone)]
pub struct Released {
    /// Its place in the quarantine.
    pub entry: i64,
    /// The message.
    pub message: Quarantined,
}

/// A database that a relay can read from. The log's fence does not reach it: what writes to the quarantine does so under
/// a [`Claim`], and is an error of kind `Fenced`, without effect, under any but the shard's newest.
#[async_trait]
pub trait Source: Clone + Send + Sync + 'static {
    /// Reads one shard in order.
    type Reader: Reader<Published = Self::Published>;
    /// What [`clean`](Self::clean) needs to delete a published batch.
    type Published: Send + 'static;

    /// Woken after a commit of this process that enqueued something.
    fn hint(&self) -> Arc<Notify>;

    /// Refuses a database that cannot keep the promise (a standby, `fsync` off, a wrong sequence, ...), naming
    /// every finding at once: kind `Config`, or `Unavailable` for a standby with which nothing else is wrong.
    async fn check(&self) -> Result<()>;

    /// Fixes the number of shards at the first start; another number later is an error.
    async fn fix_shards(&self, count: u32) -> Result<()>;

    /// Whether the shard has ever written a position. `false` also for one that is new.
    async fn started(&self, shard: Shard) -> Result<bool>;

    /// Notes that the shard has written a position.
    async fn mark_started(&self, shard: Shard) -> Result<()>;

    /// Raises the shard's epoch, before the log's fence is raised. Every write under an earlier claim has ended then, or
    /// will have no effect.
    async fn claim(&self, shard: Shard) -> Result<Claim>;

    /// The position before the first row.
    async fn origin(&self) -> Result<Bytes>;

    /// Opens a connection of its own and takes up after `position`: compares the database's identity (an error
    /// of kind `Identity` after a restore, a fail-over, a reload) and sweeps what was published before.
    async fn reader(&self, shard: Shard, position: &[u8]) -> Result<Self::Reader>;

    /// Deletes rows that a durable position has passed.
    async fn clean(&self, published: Self::Published) -> Result<u64>;

    /// After a position was read: entries proposed or being released under `attempt`, which the position names,
    /// are settled (confirmed; deleted as released); those of any other attempt of this shard are taken back. What came
    /// behind a released entry of the same key meanwhile is asked for from then on. Answers how many entries of `attempt`
    /// there were.
    async fn settle_quarantine(&self, claim: Claim, attempt: Option<Uuid>) -> Result<u64>;

    /// Stores refused rows as proposed: they count only once a position names the attempt.
    async fn propose(&self, claim: Claim, attempt: Uuid, refused: &[Quarantined]) -> Result<()>;

    /// Keys of this shard with confirmed entries, and whether somebody asked for any entry's release.
    async fn held_keys(&self, shard: Shard) -> Result<(HashSet<HeldKey>, bool)>;

    /// The oldest entries to publish again, in order: at most `limit`, fewer if they are large, and what stands behind an
    /// asked one of the same key with it; marks them as being released under `attempt`. The rest of their keys stays
    /// held and asked for.
    async fn take_released(&self, claim: Claim, attempt: Uuid, limit: usize) -> Result<Vec<Released>>;

    /// Takes the release back: the log refused these entries again, for the reasons given.
    async fn refuse_released(&self, claim: Claim, refused: &[(i64, String)]) -> Result<()>;
}

/// Reads one shard of an outbox in order. After any error it is dropped and opened anew from the durable position.
#[async_trait]
pub trait Reader: Send {
    /// What [`Source::clean`] needs.
    type Published: Send + 'static;

    /// The next rows, at most `rows` (more where the source cannot cut there); `None`: nothing new now.
    async fn read(&mut self, rows: usize) -> Result<Option<Batch<Self::Published>>>;

    /// Returns once everything the last `read` saw would survive a crash of the server. Until then none of it may
    /// be committed to the log, and `read` does not go on.
    async fn durable(&mut self) -> Result<()>;
}

/// A database whose business transactions can publish: the write side of the outbox.
#[async_trait]
pub trait Enqueue: Clone + Send + Sync + 'static {
    /// The database as sqlx knows it.
    type Driver: sqlx::Database;
    /// A transaction that [`begin_business`](Self::begin_business) opened. Dropping it rolls back.
    type Transaction: DerefMut<Target = <Self::Driver as sqlx::Database>::Connection> + Send;

    /// Inserts messages into the outbox, in the connection's transaction; they get their places in the order given.
    async fn insert(
        &self,
        connection: &mut <Self::Driver as sqlx::Database>::Connection,
        messages: &[Outgoing],
    ) -> Result<()>;

    /// Opens a transaction.
    async fn begin_business(&self) -> Result<Self::Transaction>;

    /// Inserts the messages and commits, and never reports as committed what a failed statement has undone, or enqueues
    /// anything once the transaction was ended from within. An error leaves open whether it took effect, as with every
    /// database.
    async fn commit_business(&self, transaction: Self::Transaction, messages: &[Outgoing]) -> Result<()>;

    /// Something was committed to the outbox: wakes the relays of this process.
    fn enqueued(&self);
}
