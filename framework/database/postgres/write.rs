//! Inserts into the outbox.

use async_trait::async_trait;
use sqlx::{PgConnection, Row, Transaction, error::DatabaseError, types::Json};
use uuid::Uuid;

use super::{Postgres, fault::failed};
use crate::{
    database::Enqueue,
    error::{Error, Kind, Result},
    outgoing::Outgoing,
};

#[async_trait]
impl Enqueue for Postgres {
    type Driver = sqlx::Postgres;
    type Transaction = Transaction<'static, sqlx::Postgres>;

    async fn insert(&self, connection: &mut PgConnection, messages: &[Outgoing]) -> Result<()> {
        self.insert_all(connection, messages).await
    }

    async fn begin_business(&self) -> Result<Self::Transaction> {
        let begin = self.sql("BEGIN; SET LOCAL tidelock.unit = 'outbox'");
        self.pool().begin_with(begin).await.map_err(failed("begin a transaction"))
    }

    async fn commit_business(&self, mut transaction: Self::Transaction, messages: &[Outgoing]) -> Result<()> {
        match messages {
            [] => self.require_whole(&mut transaction).await?,
            messages => self.insert_all(&mut transaction, messages).await?,
        }
        transaction.commit().await.map_err(failed("commit"))
    }

    fn enqueued(&self) {
        self.0.hint.notify_waiters();
        self.0.hint.notify_one();
    }
}

impl Postgres {
    /// One INSERT, unless nothing was written before; the messages get their places in the order given.
    async fn insert_all(&self, connection: &mut PgConnection, messages: &[Outgoing]) -> Result<()> {
        if messages.is_empty() || self.insert_inside(connection, messages, false).await? {
            return Ok(());
        }
        // Neither the mark nor a write: new, or ended by a COMMIT or ROLLBACK of its own. Then an INSERT would commit itself.
        sqlx::raw_sql("SAVEPOINT tidelock; RELEASE SAVEPOINT tidelock")
            .execute(&mut *connection)
            .await
            .map_err(|error| match error.as_database_error().and_then(DatabaseError::code).as_deref() {
                Some("25P01") => ended(),
                _ => failed("enqueue messages")(error),
            })?;
        self.insert_inside(connection, messages, true).await.map(drop)
    }

    /// Inserts if the connection is seen to be inside a transaction, or known to be.
    async fn insert_inside(
        &self,
        connection: &mut PgConnection,
        messages: &[Outgoing],
        known: bool,
    ) -> Result<bool> {
        let insert = self.sql(
            "INSERT INTO tidelock.outbox (id, topic, key, payload, type, headers) \
             SELECT id, topic, key, payload, type, headers \
             FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::jsonb[]) WITH ORDINALITY \
             AS t (id, topic, key, payload, type, headers, n) \
             WHERE (SELECT $7 OR pg_current_xact_id_if_assigned() IS NOT NULL \
                    OR current_setting('tidelock.unit', true) = 'outbox') ORDER BY n",
        );
        let inserted = sqlx::query(insert)
            .bind(messages.iter().map(|each| Uuid::from(each.id)).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.topic.as_ref()).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.key.as_bytes()).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.payload.as_deref()).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.event_type.as_deref()).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.headers.as_ref().map(Json)).collect::<Vec<_>>())
            .bind(known)
            .execute(connection)
            .await
            .map_err(failed("enqueue messages"))?;
        Ok(inserted.rows_affected() == messages.len() as u64)
    }

    /// COMMIT of a failed transaction answers with success and rolls back; any other statement tells.
    async fn require_whole(&self, connection: &mut PgConnection) -> Result<()> {
        let whole = self.sql("SELECT coalesce(current_setting('tidelock.unit', true) = 'outbox', false)");
        let row = sqlx::query(whole).fetch_one(connection).await.map_err(failed("commit"))?;
        if row.get(0) { Ok(()) } else { Err(ended()) }
    }
}

fn ended() -> Error {
    let what = "the transaction was ended by a COMMIT or ROLLBACK of its own: its messages are not enqueued";
    Error::new(Kind::Refused, what)
}
