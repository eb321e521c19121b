//! A handler's database transaction.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{PgConnection, Row, Transaction};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Postgres, fault, silence::PING};
use crate::{
    commit::Commit,
    database::{Advance, Advanced, FenceKey, HeldKey, Quarantined, Unit},
    error::{BoxError, Error, Kind, Result},
    failpoint::{Variant, left_out},
    message::MessageId,
};

/// Once the log has the outputs and the offset, a crash of the server may not forget the effect, whatever the default or
/// a handler says. Settings that wait for more or fewer standbys stay as they are.
const DURABLE: &str = "CASE current_setting('synchronous_commit') \
                       WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END";

/// An open transaction of a handler batch. Dropped unfinished, it rolls back before its connection is used again.
pub struct PostgresUnit {
    database: Postgres,
    transaction: Transaction<'static, sqlx::Postgres>,
    /// Set in the transaction, to notice when a handler ended it.
    mark: String,
    advanced: bool,
}

impl PostgresUnit {
    /// One round trip, without a query: a handler may still choose the isolation of its transaction.
    pub(super) async fn begin(database: &Postgres) -> Result<Self> {
        let mark = Uuid::now_v7().simple().to_string();
        let idle = database.0.idle_in_transaction.as_millis().max(1);
        let begin = database.sql(&format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL tidelock.unit = '{mark}'"
        ));
        let transaction =
            database.answer("begin a transaction for handlers", database.0.pool.begin_with(begin)).await?;
        Ok(Self { database: database.clone(), transaction, mark, advanced: false })
    }

    /// Whether the handlers' transaction is still the one that was begun.
    async fn is_intact(&mut self) -> Result<bool> {
        let mark = self.mark.clone();
        let intact = self.database.sql("SELECT coalesce(current_setting('tidelock.unit', true) = $1, false)");
        let look = sqlx::query(intact).bind(mark).fetch_one(&mut *self.transaction);
        Ok(self.database.answer("look at the handlers' transaction", look).await?.get(0))
    }
}

#[async_trait]
impl Unit for PostgresUnit {
    type Connection = PgConnection;

    fn connection(&mut self) -> &mut PgConnection {
        // Whatever is done with it may fail or end the transaction.
        self.advanced = false;
        &mut self.transaction
    }

    async fn admit(&mut self, group: &str, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
        let mut ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from(*id)).collect();
        // In one order everywhere: two processors must not wait for each other's rows.
        ids.sort_unstable();
        let admit = self.database.sql(
            "INSERT INTO tidelock.inbox (\"group\", message_id) SELECT $1, unnest($2::uuid[]) \
             ON CONFLICT DO NOTHING RETURNING message_id",
        );
        let new = sqlx::query(admit).bind(group).bind(&ids).fetch_all(&mut *self.transaction);
        let new = self.database.answer("enter message ids into the inbox", new).await?;
        let new: HashSet<Uuid> = new.iter().map(|row| row.get(0)).collect();
        Ok(ids.into_iter().filter(|id| !new.contains(id)).map(MessageId::from).collect())
    }

    async fn retract(&mut self, group: &str, ids: &[MessageId]) -> Result<()> {
        let ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from(*id)).collect();
        let retract =
            self.database.sql("DELETE FROM tidelock.inbox WHERE \"group\" = $1 AND message_id = ANY ($2)");
        let retracted = sqlx::query(retract).bind(group).bind(ids).execute(&mut *self.transaction);
        self.database.answer("take message ids out of the inbox", retracted).await.map(drop)
    }

    async fn advance(&mut self, advance: Advance<'_>) -> Result<Advanced> {
        let compare = if left_out(Variant::NoCompare) { "" } else { " AND next_offset = $4" };
        let update = self.database.sql(&format!(
            "UPDATE tidelock.fence SET next_offset = $5, pending_from = $4, pending = $6, owner = $7, updated_at = now() \
             WHERE \"group\" = $1 AND topic = $2 AND partition = $3{compare} \
             AND current_setting('tidelock.unit', true) = $8 \
             RETURNING EXISTS (SELECT 1 FROM tidelock.quarantine), {DURABLE}"
        ));
        let mark = self.mark.clone();
        let updated = sqlx::query(update)
            .bind(&*advance.key.group)
            .bind(&*advance.key.topic)
            .bind(advance.key.partition)
            .bind(advance.from)
            .bind(advance.to)
            .bind(&*advance.pending)
            .bind(advance.owner)
            .bind(mark)
            .fetch_optional(&mut *self.transaction);
        let updated = self.database.answer("advance the fence", updated).await?;
        if let Some(row) = updated {
            self.advanced = true;
            return Ok(if row.get(0) { Advanced::Quarantine } else { Advanced::Clear });
        }
        if !self.is_intact().await? {
            return Err(ended());
        }
        Ok(Advanced::Stale)
    }

    async fn held_outputs(&mut self, keys: &[HeldKey]) -> Result<HashSet<HeldKey>> {
        self.database.lock_newest(&mut self.transaction, keys).await
    }

    async fn hold_back(&mut self, key: &FenceKey, pending: Bytes, held: &[Quarantined]) -> Result<()> {
        self.database.hold_outputs(&mut self.transaction, key, &pending, held).await
    }

    async fn commit(mut self) -> Commit {
        // COMMIT of a failed transaction answers with success and rolls back; any other statement tells.
        if !self.advanced {
            match self.is_intact().await {
                Ok(true) => {}
                Ok(false) => return Commit::Unknown(ended()),
                Err(error) => return Commit::Aborted(error),
            }
        }
        let unknown = |error: BoxError| {
            Commit::Unknown(Error::caused(Kind::Unknown, "the answer to COMMIT was lost", error))
        };
        match timeout(self.database.0.answer_timeout, self.transaction.commit()).await {
            Ok(Ok(())) => Commit::Committed,
            Ok(Err(error)) if fault::answered(&error) => Commit::Aborted(fault::failed("commit")(error)),
            Ok(Err(error)) => unknown(error.into()),
            Err(elapsed) => unknown(elapsed.into()),
        }
    }

    async fn rollback(self) {
        // An error means that the connection is gone, and with it the transaction. One that does not answer, because a
        // statement is still under way or the host is gone, is rolled back before it is used again, or closed.
        let _ = timeout(PING, self.transaction.rollback()).await;
    }
}

fn ended() -> Error {
    let what = "a handler ended the transaction that it was given: COMMIT and ROLLBACK are not allowed there";
    Error::new(Kind::Handler, what)
}
