//! The write side of the outbox: messages become part of a business transaction.
//!
//! # Order per key
//! Messages of one key are published in the order in which their transactions held the entity. That needs one rule of
//! the writer: **lock or update the entity first, then enqueue** (and give up no lock before COMMIT). An
//! [`OutboxTransaction`] keeps the rule for you: it holds messages back and inserts them just before COMMIT.
//!
//! | writer | order |
//! |---|---|
//! | [`OutboxTransaction`] | right |
//! | update or `SELECT .. FOR UPDATE` the entity, then [`Outbox::enqueue`] | right |
//! | a row trigger on the entity that inserts | right |
//! | enqueue first, then lock the entity | **wrong** |
//! | a lock that is given up before COMMIT (session advisory lock) | **wrong** |

use std::ops::{Deref, DerefMut};

use sqlx::Transaction;

use crate::{
    database::{Enqueue, postgres::Postgres, sqlite::Sqlite},
    error::Result,
    event::Event,
    message::MessageId,
};

pub use crate::outgoing::Outgoing;

/// Enqueues into the outbox of one database. Cheap to clone.
///
/// Only a transaction is accepted, so that no message can be published of something that is rolled back:
/// ```compile_fail
/// # async fn wrong<E: tidelock::event::Event>(outbox: tidelock::outbox::Outbox, mut pool: sqlx::PgPool, event: E) {
/// outbox.enqueue(&mut pool, &event).await;
/// # }
/// ```
/// ```compile_fail
/// # async fn wrong<E: tidelock::event::Event>(outbox: tidelock::outbox::Outbox, mut connection: sqlx::PgConnection, event: E) {
/// outbox.enqueue(&mut connection, &event).await;
/// # }
/// ```
/// ```
/// # async fn right<E: tidelock::event::Event>(
/// #     outbox: tidelock::outbox::Outbox, mut transaction: sqlx::Transaction<'_, sqlx::Postgres>, event: E,
/// # ) -> tidelock::error::Result<()> {
/// let id = outbox.enqueue(&mut transaction, &event).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Outbox<D = Postgres>(D);

impl Postgres {
    /// The write side of the outbox.
    pub fn outbox(&self) -> Outbox {
        Outbox(self.clone())
    }
}

impl Sqlite {
    /// The write side of the outbox.
    pub fn outbox(&self) -> Outbox<Self> {
        Outbox(self.clone())
    }
}

impl<D: Enqueue> Outbox<D> {
    /// The write side of a database's outbox, where the database is a type parameter.
    pub fn of(database: &D) -> Self {
        Self(database.clone())
    }

    /// Enqueues an event in your transaction; one INSERT. Answers its id. Lock or update the entity before.
    ///
    /// # Errors
    /// Kind `Handler` when the event cannot be encoded, else of the database.
    pub async fn enqueue<E: Event>(
        &self,
        transaction: &mut Transaction<'_, D::Driver>,
        event: &E,
    ) -> Result<MessageId> {
        self.enqueue_message(transaction, Outgoing::of(event)?).await
    }

    /// Enqueues many events of one type in their order; one INSERT.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_all<'e, E: Event>(
        &self,
        transaction: &mut Transaction<'_, D::Driver>,
        events: impl IntoIterator<Item = &'e E>,
    ) -> Result<Vec<MessageId>> {
        let messages: Vec<Outgoing> = events.into_iter().map(Outgoing::of).collect::<Result<_>>()?;
        self.enqueue_messages(transaction, &messages).await
    }

    /// Enqueues a message with an id or headers of one's own.
    ///
    /// # Errors
    /// Of the database.
    pub async fn enqueue_message(
        &self,
        transaction: &mut Transaction<'_, D::Driver>,
        message: Outgoing,
    ) -> Result<MessageId> {
        self.0.insert(&mut *transaction, std::slice::from_ref(&message)).await?;
        Ok(message.id)
    }

    /// Enqueues many messages in their order; one INSERT.
    ///
    /// # Errors
    /// Of the database.
    pub async fn enqueue_messages(
        &self,
        transaction: &mut Transaction<'_, D::Driver>,
        messages: &[Outgoing],
    ) -> Result<Vec<MessageId>> {
        self.0.insert(&mut *transaction, messages).await?;
        Ok(Outgoing::ids(messages))
    }

    /// Wakes a relay in this process after your own commit. Only saves the wait until its next look, the relay's `poll_idle`
    /// at most (50 ms by default).
    pub fn committed(&self) {
        self.0.enqueued();
    }

    /// Begins a transaction that inserts its messages just before COMMIT.
    ///
    /// # Errors
    /// Of the database.
    pub async fn begin(&self) -> Result<OutboxTransaction<D>> {
        let transaction = self.0.begin_business().await?;
        Ok(OutboxTransaction { database: self.0.clone(), transaction, messages: Vec::new() })
    }
}

/// A business transaction with messages that are inserted just before COMMIT, so that they are ordered after every lock
/// it took. Use it as the native connection. Dropped, it rolls back, and no message was ever there.
#[derive(Debug)]
pub struct OutboxTransaction<D: Enqueue = Postgres> {
    database: D,
    transaction: D::Transaction,
    messages: Vec<Outgoing>,
}

impl<D: Enqueue> OutboxTransaction<D> {
    /// Publishes an event if this transaction commits. Answers its id.
    ///
    /// # Errors
    /// Kind `Handler` when the event cannot be encoded.
    pub fn enqueue<E: Event>(&mut self, event: &E) -> Result<MessageId> {
        Ok(self.enqueue_message(Outgoing::of(event)?))
    }

    /// Publishes a message if this transaction commits.
    pub fn enqueue_message(&mut self, message: Outgoing) -> MessageId {
        let id = message.id;
        self.messages.push(message);
        id
    }

    /// Inserts the messages, commits, and wakes the relay.
    ///
    /// # Errors
    /// Of the database. As with every database, an error of the connection during COMMIT leaves open whether it was
    /// committed; either way all of it was, or nothing.
    pub async fn commit(self) -> Result<()> {
        self.database.commit_business(self.transaction, &self.messages).await?;
        if !self.messages.is_empty() {
            self.database.enqueued();
        }
        Ok(())
    }
}

impl<D: Enqueue> Deref for OutboxTransaction<D> {
    type Target = <D::Driver as sqlx::Database>::Connection;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl<D: Enqueue> DerefMut for OutboxTransaction<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}
