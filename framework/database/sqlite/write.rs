//! Inserts into the outbox.

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::{SqliteConnection, types::Json};
use uuid::Uuid;

use super::{Sqlite, SqliteTransaction, fault::failed};
use crate::{
    database::Enqueue,
    error::{Error, Kind, Result},
    outgoing::Outgoing,
};

/// Which bucket a key belongs to; everything without a key lies in one.
pub(super) fn bucket(key: Option<&[u8]>) -> i64 {
    i64::from(Sha256::digest(key.unwrap_or_default())[0])
}

#[async_trait]
impl Enqueue for Sqlite {
    type Driver = sqlx::Sqlite;
    type Transaction = SqliteTransaction;

    async fn insert(&self, connection: &mut SqliteConnection, messages: &[Outgoing]) -> Result<()> {
        self.call(insert(connection, messages)).await.map_err(failed("enqueue messages"))
    }

    async fn begin_business(&self) -> Result<SqliteTransaction> {
        self.begin_writing().await
    }

    async fn commit_business(&self, mut transaction: SqliteTransaction, messages: &[Outgoing]) -> Result<()> {
        let inserted = match transaction.require_open() {
            Ok(()) => self.insert(&mut transaction, messages).await,
            Err(error) => Err(error),
        };
        transaction.require_open().map_err(not_enqueued)?;
        inserted?;
        if !messages.is_empty() {
            transaction.waited_for();
        }
        transaction.save_all().await.map_err(not_enqueued)
    }

    fn enqueued(&self) {
        self.shared.hint.notify_waiters();
        self.shared.hint.notify_one();
    }
}

fn not_enqueued(error: Error) -> Error {
    match error.kind() {
        Kind::Handler => Error::caused(Kind::Refused, "messages are not enqueued", error),
        _ => error,
    }
}

async fn insert(connection: &mut SqliteConnection, messages: &[Outgoing]) -> Result<(), sqlx::Error> {
    for message in messages {
        sqlx::query(
            "INSERT INTO tidelock_outbox (id, topic, key, payload, type, headers, bucket) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(Uuid::from(message.id))
        .bind(&*message.topic)
        .bind(message.key.as_bytes())
        .bind(message.payload.as_deref())
        .bind(message.event_type.as_deref())
        .bind(message.headers.as_ref().map(Json))
        .bind(bucket(message.key.as_bytes()))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
