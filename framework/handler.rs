//! The one trait users write, and what it gets.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    database::Database,
    error::{BoxError, Result},
    event::Event,
    log::Record,
    message::{Headers, Message, MessageId, header},
    time::rfc3339,
};

/// What became of a message. An error is not among them: it rolls everything back and the message is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Handled: keep the effect on the database and what was emitted.
    Done,
    /// Nothing to do: what was emitted is dropped. What was written to the database stays; so write nothing.
    Skip,
}

/// Business logic for one type of event.
///
/// # The contract
/// - **Effect once.** What `handle` writes through [`Context::connection`] and what it [emits](Context::emit) takes
///   effect exactly once per message and consumer group, together with the fact that the message was handled.
/// - **Execution at least once.** A rolled-back execution may run again: after an error, a crash, a rebalance, or
///   because a message before it in the same batch failed. So touch nothing but the connection and `emit`; anything
///   else (an HTTP call) needs [`Context::effect_key`] as its idempotency key.
/// - **Order.** Messages of one partition, hence of one key, are handled one after the other in their order.
///   Partitions are handled at the same time, on one connection each.
/// - **Errors.** An error or a panic rolls the transaction back; the message is tried again in place with backoff, and
///   its partition waits.
/// - **Transaction.** It is open when `handle` is called and shared with other messages of the batch. Do not commit
///   it, roll it back or set its isolation level; savepoints are fine.
/// - **Locks.** What a handler locks stays locked until the whole batch is committed, and partitions run at the same
///   time: take locks in one order over the batch, or insert only. A deadlock is rolled back and tried again.
/// - **Cancellation.** When the partition is taken away, the future is dropped at its next await and the
///   transaction rolled back.
#[async_trait]
pub trait Handler<D: Database>: Send + Sync + 'static {
    /// What it handles.
    type Event: Event;

    /// Handles one message.
    ///
    /// # Errors
    /// Any error: rolled back and tried again.
    async fn handle(
        &self,
        message: &Message<Self::Event>,
        context: &mut Context<'_, D>,
    ) -> Result<Outcome, BoxError>;
}

/// Where the message came from, for derived ids and headers.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) trace_parent: Option<String>,
}

/// The open database transaction and a place for what is emitted.
pub struct Context<'a, D: Database> {
    connection: &'a mut D::Connection,
    origin: Origin,
    outputs: Vec<Record>,
}

impl<'a, D: Database> Context<'a, D> {
    pub(crate) fn new(connection: &'a mut D::Connection, origin: Origin) -> Self {
        Self { connection, origin, outputs: Vec::new() }
    }

    pub(crate) fn into_outputs(self) -> Vec<Record> {
        self.outputs
    }

    /// The same for another database with the same connection; what it emits comes back with
    /// [`take_back`](Self::take_back).
    #[cfg(feature = "testing")]
    pub(crate) fn lend<O: Database<Connection = D::Connection>>(&mut self) -> Context<'_, O> {
        let outputs = std::mem::take(&mut self.outputs);
        Context { connection: &mut *self.connection, origin: self.origin.clone(), outputs }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn take_back(&mut self, outputs: Vec<Record>) {
        self.outputs = outputs;
    }

    /// The native connection of the database, inside the open transaction (`&mut PgConnection` for PostgreSQL).
    pub fn connection(&mut self) -> &mut D::Connection {
        self.connection
    }

    /// Publishes an event if, and only if, the message is handled. Answers its id, which is the same when the
    /// message is handled again.
    ///
    /// # Errors
    /// Kind `Handler` when the event cannot be encoded.
    pub fn emit<E: Event>(&mut self, event: &E) -> Result<MessageId> {
        self.emit_with(event, Headers::new())
    }

    /// [`emit`](Self::emit) with headers of one's own. `traceparent` is passed on from the message unless given.
    ///
    /// # Errors
    /// Kind `Handler` when the event cannot be encoded.
    pub fn emit_with<E: Event>(&mut self, event: &E, user: Headers) -> Result<MessageId> {
        let Origin { group, topic, topic_id, partition, offset, trace_parent } = &self.origin;
        let index = self.outputs.len() as u32;
        let id = MessageId::emitted(group, topic, topic_id, *partition, *offset, index);
        let mut headers = Headers::with_capacity(7 + user.iter().len());
        headers.push(header::SPEC_VERSION, "1.0");
        headers.push(header::ID, id.to_string());
        headers.push(header::SOURCE, format!("/{group}"));
        headers.push(header::TYPE, E::TYPE);
        headers.push(header::TIME, rfc3339(SystemTime::now()));
        headers.push(header::CONTENT_TYPE, E::CONTENT_TYPE);
        if let Some(parent) = trace_parent.as_ref().filter(|_| user.get(header::TRACE_PARENT).is_none()) {
            headers.push(header::TRACE_PARENT, parent.clone());
        }
        headers.append(user);
        self.outputs.push(Record {
            topic: E::topic().into(),
            partition: None,
            key: event.key().into(),
            payload: Some(event.encode()?),
            headers,
            time_ms: None,
        });
        Ok(id)
    }

    /// An idempotency key for an effect outside of the database: the same for every execution of this message in
    /// this group, another one for every `name`.
    pub fn effect_key(&self, name: &str) -> Uuid {
        let Origin { group, topic, topic_id, partition, offset, .. } = &self.origin;
        let place = [i64::from(*partition), *offset];
        MessageId::hashed("effect", &[group, topic, topic_id, name], &place).into()
    }
}
