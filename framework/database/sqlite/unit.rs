//! A handler's database transaction.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use uuid::Uuid;

use super::{SqliteTransaction, fault::failed, quarantine, turns::Busy};
use crate::{
    commit::Commit,
    database::{Advance, Advanced, FenceKey, HeldKey, Quarantined, Unit},
    error::Result,
    failpoint::{Variant, left_out},
    message::MessageId,
};

/// An open transaction of a handler batch; nobody else writes meanwhile. Dropped unfinished, it rolls back before its
/// connection is used again.
pub struct SqliteUnit {
    pub(super) database: super::Sqlite,
    pub(super) transaction: SqliteTransaction,
    /// Ends after the transaction: then it is the next unit's turn.
    pub(super) _busy: Busy,
}

#[async_trait]
impl Unit for SqliteUnit {
    type Connection = SqliteConnection;

    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    async fn admit(&mut self, group: &str, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
        let what = "enter message ids into the inbox";
        let list: Vec<String> = ids.iter().map(|id| Uuid::from(*id).simple().to_string()).collect();
        let admit = sqlx::query(
            "INSERT INTO tidelock_inbox (\"group\", message_id) SELECT ?1, unhex(value) FROM json_each(?2) WHERE true \
             ON CONFLICT DO NOTHING RETURNING message_id",
        );
        let admit = admit.bind(group).bind(serde_json::json!(list)).fetch_all(&mut *self.transaction);
        let new = self.database.call(admit).await.map_err(failed(what))?;
        self.transaction.require_open()?;
        let new: Result<HashSet<Uuid>, _> = new.iter().map(|row| row.try_get(0)).collect();
        let new = new.map_err(failed(what))?;
        Ok(ids.iter().copied().filter(|id| !new.contains(&Uuid::from(*id))).collect())
    }

    async fn retract(&mut self, group: &str, ids: &[MessageId]) -> Result<()> {
        let list: Vec<String> = ids.iter().map(|id| Uuid::from(*id).simple().to_string()).collect();
        let retract = sqlx::query(
            "DELETE FROM tidelock_inbox WHERE \"group\" = ?1 \
             AND message_id IN (SELECT unhex(value) FROM json_each(?2))",
        );
        let retract = retract.bind(group).bind(serde_json::json!(list)).execute(&mut *self.transaction);
        let retracted = self.database.call(retract).await;
        self.transaction.require_open()?;
        retracted.map_err(failed("take message ids out of the inbox"))?;
        Ok(())
    }

    async fn advance(&mut self, advance: Advance<'_>) -> Result<Advanced> {
        let compare = if left_out(Variant::NoCompare) { "" } else { " AND next_offset = ?4" };
        let update = sqlx::query(AssertSqlSafe(format!(
            "UPDATE tidelock_fence SET next_offset = ?5, pending_from = ?4, pending = ?6, owner = ?7, \
             updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER) \
             WHERE \"group\" = ?1 AND topic = ?2 AND partition = ?3{compare} \
             RETURNING EXISTS (SELECT 1 FROM tidelock_quarantine)"
        )));
        let update = update
            .bind(&*advance.key.group)
            .bind(&*advance.key.topic)
            .bind(advance.key.partition)
            .bind(advance.from)
            .bind(advance.to)
            .bind(&*advance.pending)
            .bind(advance.owner)
            .fetch_all(&mut *self.transaction);
        let updated = self.database.call(update).await;
        // First of all: outside the transaction the statement was refused for that reason.
        self.transaction.require_open()?;
        let updated = updated.and_then(|rows| rows.first().map(|row| row.try_get(0)).transpose());
        let updated = updated.map_err(failed("advance the fence"))?;
        self.transaction.waited_for();
        Ok(match updated {
            None => Advanced::Stale,
            Some(false) => Advanced::Clear,
            Some(true) => Advanced::Quarantine,
        })
    }

    async fn held_outputs(&mut self, keys: &[HeldKey]) -> Result<HashSet<HeldKey>> {
        let held = self.database.call(quarantine::held_outputs(&mut self.transaction, keys)).await;
        self.transaction.require_open()?;
        held.map_err(failed("look for held keys"))
    }

    async fn hold_back(&mut self, key: &FenceKey, pending: Bytes, held: &[Quarantined]) -> Result<()> {
        let holding = quarantine::hold_outputs(&mut self.transaction, key, &pending, held);
        let done = self.database.call(holding).await;
        self.transaction.require_open()?;
        done.map_err(failed("hold outputs back"))
    }

    async fn commit(self) -> Commit {
        self.transaction.commit().await
    }

    async fn rollback(self) {
        self.transaction.rollback().await;
    }
}
