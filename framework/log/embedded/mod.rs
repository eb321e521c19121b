//! A log inside of the process: transactions, fencing and consumer groups as Kafka has them, without a broker.
//!
//! For trying things out, for tests of logic, for simulations that run the same way each time, and for an edge device
//! with one process. [`Embedded::in_memory`] forgets everything with the process; [`Embedded::open`] keeps it in one
//! SQLite file.
//!
//! In memory there are no threads, no system clock and no chance: on a runtime of one thread, with a paused clock,
//! the same calls lead to the same answers. All time is the time of `tokio::time`. Heartbeats of a consumer run on the
//! runtime that joined it; if that stands still, so do they.
//!
//! What differs from Kafka:
//! - a member hears of a rebalance at once, not with its next heartbeat, and groups wait for nobody at their first
//!   start;
//! - a record for an unknown topic is refused at once, and topics are created only through
//!   [`Log::topic`](super::Log::topic);
//! - with `Embedded` itself, or one [`Client`], nothing is ever lost or late unless [`Faults`] say so;
//! - a compacted topic is cleaned once a thousand records are new, or half as many as it holds.

use std::{fmt, sync::Arc};

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
mod partition;
mod process;
mod producer;
mod shell;
mod state;
mod transactions;
mod writer;

pub use client::Client;
pub use config::EmbeddedConfig;
pub use faults::{Call, Fault, Faults, Operation};
use shell::Shell;
use state::State;

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

    fn around(shell: Shell) -> Self {
        Self { main: Client::new(Arc::new(shell), "main") }
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

    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        self.main.bounds(topic, partition).await
    }
}
