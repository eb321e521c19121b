//! Messages that Kafka refused for good, and what waits behind them.

use std::collections::HashSet;

use bytes::Bytes;
use sqlx::{PgConnection, Row, Transaction, postgres::PgRow};
use uuid::Uuid;

use super::{Postgres, fault::failed};
use crate::{
    database::{
        Claim, FenceKey, HeldKey, QuarantineEntry, Quarantined, Released, Shard, Submitted,
        batch::{MAX_BYTES, shard_filter},
    },
    error::{Error, Kind, Result},
    message::MessageId,
};

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
            "WITH whole AS MATERIALIZED (SELECT q.entry FROM tidelock.quarantine q, tidelock.quarantine asked \
               WHERE asked.message_id = $1 AND asked.state <> 'proposed' AND q.state <> 'proposed' \
               AND (q.entry = asked.entry OR q.topic = asked.topic AND q.key = asked.key) \
               ORDER BY q.entry FOR UPDATE OF q) \
             UPDATE tidelock.quarantine q SET release_asked = true FROM whole WHERE q.entry = whole.entry",
        );
        let done = sqlx::query(ask).bind(Uuid::from(id)).execute(self.pool()).await;
        match done.map_err(failed("release from the quarantine"))?.rows_affected() {
            0 => Err(Error::new(Kind::Config, format!("message {id} is not in the quarantine"))),
            count => Ok(count),
        }
    }

    /// A transaction under the shard's newest claim: whoever claims it next waits for the end.
    async fn begin_under(
        &self,
        claim: Claim,
        what: &'static str,
    ) -> Result<Transaction<'static, sqlx::Postgres>> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        let mut transaction = self.control().begin_with(begin).await.map_err(failed(what))?;
        let newest = self.sql("SELECT FROM tidelock.relay_shard WHERE shard = $1 AND epoch = $2 FOR SHARE");
        let newest = sqlx::query(newest)
            .bind(claim.shard.index as i32)
            .bind(claim.epoch)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed(what))?;
        match newest {
            Some(_) => Ok(transaction),
            None => Err(claim.outdated(what)),
        }
    }

    pub(super) async fn settle_attempts(&self, claim: Claim, attempt: Option<Uuid>) -> Result<u64> {
        let what = "settle the quarantine";
        let filter = shard_filter(claim.shard);
        let mut transaction = self.begin_under(claim, what).await?;
        let mut settled = 0;
        // In the order in which a unit locks them. Once it has them, whatever was added behind is seen by what follows.
        let lock = self.sql(&format!(
            "SELECT FROM tidelock.quarantine WHERE (state = 'releasing' OR state = 'held' AND NOT release_asked \
               AND (topic, key) IN (SELECT topic, key FROM tidelock.quarantine WHERE state = 'releasing')){filter} \
             ORDER BY entry FOR UPDATE"
        ));
        sqlx::query(lock).execute(&mut *transaction).await.map_err(failed(what))?;
        for (statement, counts) in [
            (
                "UPDATE tidelock.quarantine SET release_asked = true WHERE state = 'held' AND NOT release_asked \
                 AND (topic, key) IN (SELECT topic, key FROM tidelock.quarantine \
                   WHERE state = 'releasing' AND attempt = $1)",
                false,
            ),
            ("DELETE FROM tidelock.quarantine WHERE state = 'releasing' AND attempt = $1", true),
            (
                "UPDATE tidelock.quarantine SET state = 'held', attempt = NULL \
                 WHERE state = 'proposed' AND attempt = $1",
                true,
            ),
            (
                "DELETE FROM tidelock.quarantine WHERE state = 'proposed' AND origin = 'outbox' \
                 AND attempt IS DISTINCT FROM $1",
                false,
            ),
            (
                "UPDATE tidelock.quarantine SET state = 'held', attempt = NULL \
                 WHERE state = 'releasing' AND attempt IS DISTINCT FROM $1",
                false,
            ),
        ] {
            let done = sqlx::query(self.sql(&format!("{statement}{filter}")))
                .bind(attempt)
                .execute(&mut *transaction)
                .await
                .map_err(failed(what))?;
            if counts {
                settled += done.rows_affected();
            }
        }
        transaction.commit().await.map_err(failed(what))?;
        Ok(settled)
    }

    pub(super) async fn propose_entries(
        &self,
        claim: Claim,
        attempt: Uuid,
        refused: &[Quarantined],
    ) -> Result<()> {
        let what = "write to the quarantine";
        let mut transaction = self.begin_under(claim, what).await?;
        self.insert(&mut transaction, "outbox", "proposed", Some(attempt), refused).await?;
        transaction.commit().await.map_err(failed(what))
    }

    /// Which of the keys have outputs here. The newest entry of each stays until the transaction ends: who deletes it
    /// waits, and sees then what was added behind it.
    pub(super) async fn lock_newest(
        &self,
        connection: &mut PgConnection,
        keys: &[HeldKey],
    ) -> Result<HashSet<HeldKey>> {
        let what = "look for held keys";
        loop {
            let newest = self.sql(
                "SELECT q.topic, q.key, max(q.entry) FROM tidelock.quarantine q \
                 JOIN unnest($1::text[], $2::bytea[]) AS k (topic, key) ON q.topic = k.topic AND q.key = k.key \
                 WHERE q.origin = 'output' GROUP BY q.topic, q.key",
            );
            let newest = sqlx::query(newest)
                .bind(keys.iter().map(|each| each.topic.to_string()).collect::<Vec<_>>())
                .bind(keys.iter().map(|each| each.key.to_vec()).collect::<Vec<_>>())
                .fetch_all(&mut *connection);
            let newest = self.answer(what, newest).await?;
            if newest.is_empty() {
                return Ok(HashSet::new());
            }
            let lock =
                self.sql("SELECT FROM tidelock.quarantine WHERE entry = ANY ($1) ORDER BY entry FOR SHARE");
            let entries: Vec<i64> = newest.iter().map(|row| row.get(2)).collect();
            let locked = sqlx::query(lock).bind(entries).fetch_all(&mut *connection);
            // One that was published meanwhile does not say that nothing else of its key is left.
            if self.answer(what, locked).await?.len() == newest.len() {
                return Ok(newest.iter().filter_map(held_key).collect());
            }
        }
    }

    pub(super) async fn hold_outputs(
        &self,
        connection: &mut PgConnection,
        key: &FenceKey,
        pending: &[u8],
        held: &[Quarantined],
    ) -> Result<()> {
        self.insert(&mut *connection, "output", "held", None, held).await?;
        let update = self.sql(
            "UPDATE tidelock.fence SET pending = $4 WHERE \"group\" = $1 AND topic = $2 AND partition = $3",
        );
        let updated = sqlx::query(update)
            .bind(&*key.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .bind(pending)
            .execute(connection);
        self.answer("hold outputs back", updated).await.map(drop)
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
        // What a processor emitted holds nothing of the outbox back: it does not know that key.
        let holding = rows.iter().filter(|row| row.get(3));
        Ok((holding.filter_map(held_key).collect(), asked))
    }

    /// What stands behind an asked entry of the same key is asked for too, so that a part can be taken.
    pub(super) async fn take_entries(
        &self,
        claim: Claim,
        attempt: Uuid,
        limit: usize,
    ) -> Result<Vec<Released>> {
        let what = "release from the quarantine";
        let mut transaction = self.begin_under(claim, what).await?;
        let filter = shard_filter(claim.shard);
        // In the order in which a unit locks them.
        let lock = self.sql(&format!(
            "WITH asked AS MATERIALIZED (SELECT entry, release_asked FROM tidelock.quarantine WHERE state = 'held' \
               AND (release_asked OR (topic, key) IN (SELECT topic, key FROM tidelock.quarantine \
                 WHERE state = 'held' AND release_asked AND key IS NOT NULL{filter})){filter}) \
             SELECT FROM tidelock.quarantine WHERE entry IN (SELECT entry FROM asked WHERE NOT release_asked \
               UNION (SELECT entry FROM asked ORDER BY entry LIMIT $1)) ORDER BY entry FOR UPDATE"
        ));
        sqlx::query(lock).bind(limit as i64).execute(&mut *transaction).await.map_err(failed(what))?;
        let ask = self.sql(&format!(
            "UPDATE tidelock.quarantine SET release_asked = true WHERE state = 'held' AND NOT release_asked{filter} \
             AND (topic, key) IN (SELECT topic, key FROM tidelock.quarantine \
               WHERE state = 'held' AND release_asked AND key IS NOT NULL{filter})"
        ));
        sqlx::query(ask).execute(&mut *transaction).await.map_err(failed(what))?;
        let take = self.sql(&format!(
            "WITH part AS (SELECT entry, row_number() OVER upto AS place, sum(octet_length(record)) OVER upto AS bytes \
               FROM tidelock.quarantine WHERE state = 'held' AND release_asked{filter} \
               WINDOW upto AS (ORDER BY entry) ORDER BY entry LIMIT $2), \
             taken AS (UPDATE tidelock.quarantine q SET state = 'releasing', attempt = $1 FROM part \
               WHERE q.entry = part.entry AND (part.place = 1 OR part.bytes <= $3) \
               RETURNING q.entry, q.message_id, q.topic, q.key, q.record, q.reason) \
             SELECT * FROM taken ORDER BY entry"
        ));
        let rows = sqlx::query(take)
            .bind(attempt)
            .bind(limit as i64)
            .bind(MAX_BYTES as i64)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed(what))?;
        transaction.commit().await.map_err(failed(what))?;
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
    pub(super) async fn hold_again(&self, claim: Claim, refused: &[(i64, String)]) -> Result<()> {
        let what = "hold in the quarantine";
        let mut transaction = self.begin_under(claim, what).await?;
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
            .execute(&mut *transaction)
            .await
            .map_err(failed(what))?;
        transaction.commit().await.map_err(failed(what))
    }

    pub(super) async fn move_outputs(
        &self,
        key: &FenceKey,
        submitted: &Submitted,
        pending: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool> {
        let what = "move outputs to the quarantine";
        let mut transaction = self.answer(what, self.control().begin()).await?;
        let replace = self.if_unchanged("pending = $7", key, submitted);
        let replaced = replace.bind(&*pending).fetch_optional(&mut *transaction);
        if self.answer(what, replaced).await?.is_none() {
            return Ok(false);
        }
        self.insert(&mut transaction, "output", "held", None, refused).await?;
        self.answer(what, transaction.commit()).await.map(|()| true)
    }
}

fn held_key(row: &PgRow) -> Option<HeldKey> {
    Some(HeldKey { topic: row.get::<String, _>(0).into(), key: row.get::<Option<Vec<u8>>, _>(1)?.into() })
}
