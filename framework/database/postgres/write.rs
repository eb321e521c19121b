//! Inserts into the outbox.

use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{Postgres, fault::failed};
use crate::{error::Result, message::MessageId, outgoing::Outgoing};

impl Postgres {
    /// One INSERT.
    pub(crate) async fn insert_one(&self, connection: &mut PgConnection, message: &Outgoing) -> Result<()> {
        let insert = self.sql(
            "INSERT INTO tidelock.outbox (id, topic, key, payload, type, headers) VALUES ($1, $2, $3, $4, $5, $6)",
        );
        sqlx::query(insert)
            .bind(Uuid::from(message.id))
            .bind(&*message.topic)
            .bind(message.key.as_bytes())
            .bind(message.payload.as_deref())
            .bind(message.event_type.as_deref())
            .bind(message.headers.as_ref().map(Json))
            .execute(connection)
            .await
            .map_err(failed("enqueue a message"))?;
        Ok(())
    }

    /// One INSERT; the messages get their places in the order given.
    pub(crate) async fn insert_all(
        &self,
        connection: &mut PgConnection,
        messages: &[Outgoing],
    ) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let insert = self.sql(
            "INSERT INTO tidelock.outbox (id, topic, key, payload, type, headers) \
             SELECT id, topic, key, payload, type, headers \
             FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::jsonb[]) WITH ORDINALITY \
             AS t (id, topic, key, payload, type, headers, n) ORDER BY n",
        );
        sqlx::query(insert)
            .bind(messages.iter().map(|each| Uuid::from(each.id)).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.topic.as_ref()).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.key.as_bytes()).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.payload.as_deref()).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.event_type.as_deref()).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.headers.as_ref().map(Json)).collect::<Vec<_>>())
            .execute(connection)
            .await
            .map_err(failed("enqueue messages"))?;
        Ok(())
    }

    /// Opens a transaction on the service's pool.
    pub(crate) async fn begin_business(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>> {
        self.pool().begin().await.map_err(failed("begin a transaction"))
    }

    /// COMMIT of a failed transaction answers with success and rolls back; any other statement tells.
    pub(crate) async fn require_whole(&self, connection: &mut PgConnection) -> Result<()> {
        sqlx::query("SELECT").execute(connection).await.map_err(failed("commit"))?;
        Ok(())
    }

    /// Commits; an error leaves open whether it took effect, as with every database.
    pub(crate) async fn commit_business(
        &self,
        transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    ) -> Result<()> {
        transaction.commit().await.map_err(failed("commit"))
    }

    /// Something was committed to the outbox: wakes the relays of this process.
    pub(crate) fn enqueued(&self) {
        self.0.hint.notify_waiters();
        self.0.hint.notify_one();
    }
}

impl Outgoing {
    /// The ids, in order.
    pub(crate) fn ids(messages: &[Self]) -> Vec<MessageId> {
        messages.iter().map(|each| each.id).collect()
    }
}
