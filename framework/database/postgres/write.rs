//! Inserts into the outbox.

use async_trait::async_trait;
use sqlx::{PgConnection, Transaction, types::Json};
use uuid::Uuid;

use super::{Postgres, fault::failed};
use crate::{database::Enqueue, error::Result, outgoing::Outgoing};

#[async_trait]
impl Enqueue for Postgres {
    type Driver = sqlx::Postgres;
    type Transaction = Transaction<'static, sqlx::Postgres>;

    async fn insert(&self, connection: &mut PgConnection, messages: &[Outgoing]) -> Result<()> {
        match messages {
            [] => Ok(()),
            [message] => self.insert_one(connection, message).await,
            messages => self.insert_all(connection, messages).await,
        }
    }

    async fn begin_business(&self) -> Result<Self::Transaction> {
        self.pool().begin().await.map_err(failed("begin a transaction"))
    }

    async fn commit_business(&self, mut transaction: Self::Transaction, inserted: bool) -> Result<()> {
        if !inserted {
            // COMMIT of a failed transaction answers with success and rolls back; any other statement tells.
            sqlx::query("SELECT").execute(&mut *transaction).await.map_err(failed("commit"))?;
        }
        transaction.commit().await.map_err(failed("commit"))
    }

    fn enqueued(&self) {
        self.0.hint.notify_waiters();
        self.0.hint.notify_one();
    }
}

impl Postgres {
    /// One INSERT.
    async fn insert_one(&self, connection: &mut PgConnection, message: &Outgoing) -> Result<()> {
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
    async fn insert_all(&self, connection: &mut PgConnection, messages: &[Outgoing]) -> Result<()> {
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
}
