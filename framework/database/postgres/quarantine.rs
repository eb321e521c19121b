//! Messages that Kafka refused for good, and what waits behind them.

use std::collections::HashSet;

use bytes::Bytes;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{Postgres, fault::failed, reader::shard_filter};
use crate::{
    database::{FenceKey, HeldKey, Quarantined, Released, Shard},
    error::{Error, Kind, Result},
    message::{Key, MessageId},
};

/// A message in quarantine, as people see it.
#[derive(Debug, Clone)]
pub struct QuarantineEntry {
    /// Its place; entries of a key are released in this order.
    pub entry: i64,
    /// The message id.
    pub id: MessageId,
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: Key,
    /// Why it is here.
    pub reason: String,
    /// Whether its release was asked for.
    pub release_asked: bool,
    /// Emitted by a handler, rather than enqueued in the outbox.
    pub emitted: bool,
}

impl Postgres {
    /// The oldest entries of the quarantine.
    ///
    /// # Errors
    /// Of the database.
    pub async fn quarantine(&self, limit: u32) -> Result<Vec<QuarantineEntry>> {
        let list = self.sql(
            "SELECT entry, message_id, topic, key, reason, release_asked, origin = 'output' FROM tidelock.quarantine \
             WHERE state <> 'proposed' ORDER BY entry LIMIT $1",
        );
        let rows = sqlx::query(list).bind(i64::from(limit)).fetch_all(self.pool()).await;
        let rows = rows.map_err(failed("read the quarantine"))?;
        Ok(rows
            .iter()
            .map(|row| QuarantineEntry {
                entry: row.get(0),
                id: row.get::<Uuid, _>(1).into(),
                topic: row.get(2),
                key: row.get::<Option<Vec<u8>>, _>(3).map(Bytes::from).into(),
                reason: row.get(4),
                release_asked: row.get(5),
                emitted: row.get(6),
            })
            .collect())
    }

    /// Puts a message back, together with everything that waits under its key: the relay publishes them in order, with
    /// their ids, before anything later of the key. Answers how many messages that concerns.
    ///
    /// # Errors
    /// Kind `Config` when there is no such message in the quarantine.
    pub async fn release(&self, id: MessageId) -> Result<u64> {
        let ask = self.sql(
            "UPDATE tidelock.quarantine q SET release_asked = true FROM tidelock.quarantine asked \
             WHERE asked.message_id = $1 AND asked.state <> 'proposed' AND q.state <> 'proposed' \
             AND (q.entry = asked.entry OR q.topic = asked.topic AND q.key = asked.key)",
        );
        let done = sqlx::query(ask).bind(Uuid::from(id)).execute(self.pool()).await;
        match done.map_err(failed("release from the quarantine"))?.rows_affected() {
            0 => Err(Error::new(Kind::Config, format!("message {id} is not in the quarantine"))),
            count => Ok(count),
        }
    }

    pub(super) async fn settle_attempts(&self, shard: Shard, attempt: Option<Uuid>) -> Result<()> {
        let filter = shard_filter(shard);
        let mut transaction = self.control().begin().await.map_err(failed("settle the quarantine"))?;
        for statement in [
            format!("DELETE FROM tidelock.quarantine WHERE state = 'releasing' AND attempt = $1{filter}"),
            format!(
                "DELETE FROM tidelock.quarantine WHERE state = 'proposed' AND origin = 'outbox' \
                 AND attempt IS DISTINCT FROM $1{filter}"
            ),
            format!(
                "UPDATE tidelock.quarantine SET state = 'held', attempt = NULL \
                 WHERE (state = 'proposed' AND attempt = $1 OR state = 'releasing'){filter}"
            ),
        ] {
            sqlx::query(self.sql(&statement))
                .bind(attempt)
                .execute(&mut *transaction)
                .await
                .map_err(failed("settle the quarantine"))?;
        }
        transaction.commit().await.map_err(failed("settle the quarantine"))
    }

    pub(super) async fn propose_entries(&self, attempt: Uuid, refused: &[Quarantined]) -> Result<()> {
        let mut connection = self.control().acquire().await.map_err(failed("write to the quarantine"))?;
        self.insert(&mut connection, "outbox", "proposed", Some(attempt), refused).await
    }

    async fn insert(
        &self,
        connection: &mut PgConnection,
        origin: &str,
        state: &str,
        attempt: Option<Uuid>,
        messages: &[Quarantined],
    ) -> Result<()> {
        let insert = self.sql(
            "INSERT INTO tidelock.quarantine (origin, state, attempt, message_id, topic, key, record, reason) \
             SELECT $1, $2, $3, id, topic, key, record, reason \
             FROM unnest($4::uuid[], $5::text[], $6::bytea[], $7::bytea[], $8::text[]) WITH ORDINALITY \
             AS t (id, topic, key, record, reason, n) ORDER BY n",
        );
        let column = |of: fn(&Quarantined) -> String| messages.iter().map(of).collect::<Vec<_>>();
        let inserted = sqlx::query(insert)
            .bind(origin)
            .bind(state)
            .bind(attempt)
            .bind(messages.iter().map(|each| Uuid::from(each.id)).collect::<Vec<_>>())
            .bind(column(|each| each.topic.to_string()))
            .bind(messages.iter().map(|each| each.key.as_ref().map(|key| key.to_vec())).collect::<Vec<_>>())
            .bind(messages.iter().map(|each| each.record.to_vec()).collect::<Vec<_>>())
            .bind(column(|each| each.reason.clone()))
            .execute(connection);
        self.answer("write to the quarantine", inserted).await.map(drop)
    }

    pub(super) async fn keys_held(&self, shard: Shard) -> Result<(HashSet<HeldKey>, bool)> {
        let held = self.sql(&format!(
            "SELECT topic, key, bool_or(release_asked), bool_or(origin = 'outbox' AND key IS NOT NULL) \
             FROM tidelock.quarantine WHERE state <> 'proposed'{} GROUP BY topic, key",
            shard_filter(shard)
        ));
        let rows =
            sqlx::query(held).fetch_all(self.control()).await.map_err(failed("read the quarantine"))?;
        let asked = rows.iter().any(|row| row.get(2));
        // An output that a processor emitted holds nothing back: the outbox does not know its key.
        let holding = rows.iter().filter(|row| row.get(3));
        Ok((holding.filter_map(held_key).collect(), asked))
    }

    /// Keys are never torn: an entry behind an asked one of the same key goes along.
    pub(super) async fn take_entries(
        &self,
        shard: Shard,
        attempt: Uuid,
        limit: usize,
    ) -> Result<Vec<Released>> {
        let take = self.sql(&format!(
            "WITH asked AS (SELECT DISTINCT topic, key FROM (SELECT topic, key FROM tidelock.quarantine \
               WHERE state = 'held' AND release_asked AND key IS NOT NULL{filter} ORDER BY entry LIMIT $2) a), \
             alone AS (SELECT entry FROM tidelock.quarantine \
               WHERE state = 'held' AND release_asked AND key IS NULL{filter} ORDER BY entry LIMIT $2), \
             taken AS (UPDATE tidelock.quarantine q SET state = 'releasing', attempt = $1 \
               WHERE state = 'held'{filter} AND ((topic, key) IN (SELECT topic, key FROM asked) \
               OR entry IN (SELECT entry FROM alone)) \
               RETURNING entry, message_id, topic, key, record, reason) \
             SELECT * FROM taken ORDER BY entry",
            filter = shard_filter(shard)
        ));
        let rows = sqlx::query(take).bind(attempt).bind(limit as i64).fetch_all(self.control()).await;
        let rows = rows.map_err(failed("release from the quarantine"))?;
        Ok(rows
            .iter()
            .map(|row| Released {
                entry: row.get(0),
                message: Quarantined {
                    id: row.get::<Uuid, _>(1).into(),
                    topic: row.get::<String, _>(2).into(),
                    key: row.get::<Option<Vec<u8>>, _>(3).map(Into::into),
                    record: row.get::<Vec<u8>, _>(4).into(),
                    reason: row.get(5),
                },
            })
            .collect())
    }

    /// Entries that were refused again are held, with everything of their keys; nobody has asked for them any more.
    pub(super) async fn hold_again(&self, refused: &[(i64, String)]) -> Result<()> {
        let (entries, reasons): (Vec<i64>, Vec<String>) = refused.iter().cloned().unzip();
        let hold = self.sql(
            "WITH refused AS (SELECT q.entry, q.topic, q.key, r.reason FROM tidelock.quarantine q \
               JOIN unnest($1::bigint[], $2::text[]) AS r (entry, reason) ON r.entry = q.entry) \
             UPDATE tidelock.quarantine q SET state = 'held', attempt = NULL, release_asked = false, \
               reason = coalesce((SELECT reason FROM refused WHERE refused.entry = q.entry), q.reason) \
             WHERE q.state <> 'proposed' AND (q.entry IN (SELECT entry FROM refused) \
                OR (q.topic, q.key) IN (SELECT topic, key FROM refused WHERE key IS NOT NULL))",
        );
        sqlx::query(hold)
            .bind(entries)
            .bind(reasons)
            .execute(self.control())
            .await
            .map_err(failed("hold in the quarantine"))?;
        Ok(())
    }

    pub(super) async fn move_outputs(
        &self,
        key: &FenceKey,
        next_offset: i64,
        submitted: &[u8],
        pending: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool> {
        let what = "move outputs to the quarantine";
        let mut transaction = self.answer(what, self.control().begin()).await?;
        let update = self.sql(
            "UPDATE tidelock.fence SET pending = $5, updated_at = now() \
             WHERE \"group\" = $1 AND topic = $2 AND partition = $3 AND next_offset = $4 AND pending = $6",
        );
        let updated = sqlx::query(update)
            .bind(&*key.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .bind(next_offset)
            .bind(&*pending)
            .bind(submitted)
            .execute(&mut *transaction);
        let updated = self.answer(what, updated).await?;
        if updated.rows_affected() != 1 {
            return Ok(false);
        }
        self.insert(&mut transaction, "output", "held", None, refused).await?;
        self.answer(what, transaction.commit()).await.map(|()| true)
    }
}

fn held_key(row: &PgRow) -> Option<HeldKey> {
    Some(HeldKey { topic: row.get::<String, _>(0).into(), key: row.get::<Option<Vec<u8>>, _>(1)?.into() })
}
