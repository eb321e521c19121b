//! A log inside of the process: transactions, fencing and consumer groups as Kafka has them, without a broker.
//!
//! For trying things out, for tests of logic, for simulations that run the same way each time, and for an edge device
//! with one process. [`Embedded::in_memory`] forgets everything with the process; [`Embedded::open`] keeps it in one
//! SQLite file.
//!
//! In memory there are no threads, no system clock and no chance: on a runtime of one thread, with a paused clock,
//! the same calls lead to the same answers. All time is the time of `tokio::time`. Heartbeats of a consumer run on the
//! runtime that joined it; if that stands still, or its clock is moved on by hand, they are late. With a file the clock
//! must not be paused: it would run ahead while the file is written.
//!
//! What differs from Kafka, and is no clause of the contract that both are put to (`tests/conformance/log`; each of these
//! has a test on both sides, in `tests/log_embedded` and `tests/log_kafka/differences.rs`):
//! - a member hears of a rebalance at once, not with its next heartbeat, and groups wait for nobody at their first
//!   start;
//! - a record for an unknown topic is refused at once: nobody waits for it to turn up;
//! - records without a key go to the partitions in turn, one by one;
//! - the largest record is measured by its key, payload and headers alone;
//! - the marker of a commit is there, and counts in [`Log::bounds`], when the commit is answered; in memory a commit is
//!   complete at once and cannot be cancelled;
//! - with `Embedded` itself, or one [`Client`], nothing is ever lost or late unless [`Faults`] say so;
//! - a compacted topic is cleaned once a thousand records are new, or half as many as it holds;
//! - the age of a record counts from when it was appended, record by record;
//! - offsets of groups and transactional ids never expire.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;

use crate::{
    config::Problems,
    error::Result,
    log::{Bounds, Consumer, ConsumerEvents, Log, Producer, Received, Subscription, TopicSpec},
};

mod balance;
mod client;
mod config;
mod consumer;
mod faults;
mod groups;
mod journal;
mod local;
mod member;
mod murmur;
#[cfg(feature = "testing")]
mod observe;
mod partition;
mod process;
mod producer;
mod shell;
mod state;
mod store;
mod transactions;
mod writer;

#[cfg(test)]
mod tests;

pub use client::Client;
pub use config::EmbeddedConfig;
pub use faults::{Call, Fault, Faults, Operation};
use shell::Shell;
use state::State;
use store::Store;
use writer::Writer;

/// A log inside of the process. Cheap to clone; its clones are the same log, and as a [`Log`] the same
/// [client](Self::client), of the name `main`.
#[derive(Clone)]
pub struct Embedded {
    main: Client,
}

impl Embedded {
    /// A log that is gone with its last clone.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::around(Shell::new(State::new(EmbeddedConfig::default(), false), None, None))
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// Kind `Config`, naming every problem of the settings at once.
    pub fn in_memory_with(config: EmbeddedConfig) -> Result<Self> {
        let mut problems = Problems::default();
        config.report(&mut problems);
        problems.into_result()?;
        let start_ms = config.start_ms;
        Ok(Self::around(Shell::new(State::new(config, false), start_ms, None)))
    }

    /// A log in a SQLite file, which is made if it is absent. A commit is on disk when it is answered; transactions that
    /// were open when the process ended are aborted. The file is written by a task of the runtime that opens it.
    ///
    /// While the file cannot be written (a full disk, say) calls fail with kind `Unavailable`, and what waits is written
    /// as soon as that goes. When SQLite's own commit fails, nobody knows what is on disk: every later call fails with
    /// kind `Storage`, members end with it, and the file must be opened again, which gives the answer.
    ///
    /// # Errors
    /// Kind `Unavailable` when the file is open elsewhere, `Config` when it cannot be opened or is none of ours.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, EmbeddedConfig::default()).await
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`open`](Self::open), and kind `Config` naming every problem of the settings at once.
    pub async fn open_with(path: impl AsRef<Path>, config: EmbeddedConfig) -> Result<Self> {
        let mut problems = Problems::default();
        config.report(&mut problems);
        problems.into_result()?;
        Self::over(Store::open(path.as_ref()).await?, config).await
    }

    async fn over(mut store: Store, config: EmbeddedConfig) -> Result<Self> {
        let stored = store.load(config.window_bytes).await?;
        let clock = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        // Ages must not begin anew because the system's clock was set back.
        let start_ms = config.start_ms.unwrap_or_else(clock).max(stored.last_ms);
        let (writer, jobs) = Writer::new();
        let log = Self::around(Shell::new(State::restored(config, stored), Some(start_ms), Some(writer)));
        tokio::spawn(writer::run(store, jobs, Arc::downgrade(&log.main.shell)));
        Ok(log)
    }

    fn around(shell: Shell) -> Self {
        Self { main: Client::new(Arc::new(shell), "main") }
    }

    /// Writes what is left to write and gives the file back, so that it can be opened again at once; later calls fail.
    /// Without it that happens soon after the last clone and the last client are gone. In memory nothing happens.
    ///
    /// # Errors
    /// Kind `Unavailable` when the file cannot be closed, or what was left cannot be written.
    pub async fn close(&self) -> Result<()> {
        let shell = &self.main.shell;
        let Some(writer) = &shell.writer else { return Ok(()) };
        drop(shell.apply(|state, _| {
            state.broken.get_or_insert_with(writer::closed);
            state.journal.flush();
        }));
        writer.close().await
    }

    /// Lets calls go wrong. The first ones installed stay.
    #[must_use]
    pub fn with_faults(self, faults: impl Faults + 'static) -> Self {
        let _ = self.main.shell.faults.set(Arc::new(faults));
        self
    }

    /// The connection of a process of its own: each call makes another process, also under the same name.
    #[must_use]
    pub fn client(&self, name: &str) -> Client {
        Client::new(Arc::clone(&self.main.shell), name)
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Embedded").field("main", &self.main).finish()
    }
}

#[async_trait]
impl Log for Embedded {
    async fn check(&self) -> Result<()> {
        self.main.check().await
    }

    async fn topic(&self, spec: &TopicSpec) -> Result<i32> {
        self.main.topic(spec).await
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        self.main.producer(transactional_id).await
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        self.main.consumer(subscription).await
    }

    async fn last_record(&self, topic: &str, partition: i32) -> Result<Option<Received>> {
        self.main.last_record(topic, partition).await
    }

    async fn topic_id(&self, _: &str) -> Result<Option<String>> {
        // There is no way to delete one.
        Ok(None)
    }

    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        self.main.bounds(topic, partition).await
    }
}
