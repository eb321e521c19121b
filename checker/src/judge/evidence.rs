//! What is judged: records, rows, and what the watch noted. Where they come from is no matter here.

use crate::{
    Result,
    history::History,
    identity::{content, envelope},
    progress::Progress,
    summary::Summary,
};

/// What a topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The messages of the ledger, each once.
    In,
    /// What handlers emitted: of each message the copies that the ledger says.
    Out,
}

/// A topic that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What it carries.
    pub role: Role,
}

/// What is to be judged, and by what.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// The RUN of the identities; others are foreign.
    pub run: String,
    /// The topics; records name them by their place here.
    pub topics: Vec<Topic>,
    /// Whether there is a ledger. Without it nothing is a phantom, and only gaps of a key's numbers tell what is lost.
    pub ledger: bool,
    /// Whether there is a table of effects.
    pub effects: bool,
    /// Whether messages without an identity of this run are right.
    pub foreign_allowed: bool,
    /// What the watch saw during the run.
    pub watched: Option<Summary>,
    /// The faults of the run; judged only with a watch.
    pub history: Option<History>,
}

/// A record as read.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Which of the case's topics.
    pub topic: usize,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The payload.
    pub payload: Option<&'a [u8]>,
    /// The value of the identity's header.
    pub header: Option<&'a [u8]>,
}

impl Record<'_> {
    /// A checksum of all that it holds.
    pub fn content(&self) -> u32 {
        content(&envelope(self.key, self.payload), self.header)
    }
}

/// The ends of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Which of the case's topics.
    pub topic: usize,
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub low: i64,
    /// Up to where no transaction is open.
    pub stable: i64,
    /// The offset after the last record.
    pub end: i64,
}

/// A row of the ledger: a message that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Who enqueued it.
    pub producer: u32,
    /// Its number within that producer.
    pub seq: u64,
    /// Its number within its key, 0 for none.
    pub key_seq: u64,
    /// Its business transaction.
    pub txn: u64,
    /// How many messages that has.
    pub of: u32,
    /// How many copies of it the handler emits.
    pub copies: u32,
}

/// A row of the table of effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Who enqueued the message.
    pub producer: u32,
    /// Its number within that producer.
    pub seq: u64,
    /// The checksum of the message.
    pub crc: u32,
}

/// Which records a reader is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Those of committed transactions, up to the first open one.
    Committed,
    /// All of them.
    All,
}

/// Where records and rows come from. Everything may be asked for twice, and must then answer the same.
pub trait Evidence {
    /// All rows of the ledger, in any order.
    ///
    /// # Errors
    ///
    /// When they cannot be read: then nothing is judged.
    fn ledger(&mut self, each: &mut dyn FnMut(Row)) -> Result<()>;

    /// All rows of the table of effects, in any order.
    ///
    /// # Errors
    ///
    /// When they cannot be read: then nothing is judged.
    fn effects(&mut self, each: &mut dyn FnMut(Effect)) -> Result<()>;

    /// All records of all topics, in the order of each partition's reader, and the ends of all partitions.
    ///
    /// # Errors
    ///
    /// When they cannot be read: then nothing is judged.
    fn records(&mut self, view: View, each: &mut dyn FnMut(&Record<'_>)) -> Result<Vec<Bounds>>;

    /// The lines of the watch, in the order of each partition's time.
    ///
    /// # Errors
    ///
    /// When they cannot be read: then nothing is judged.
    fn progress(&mut self, each: &mut dyn FnMut(&Progress)) -> Result<()>;
}
