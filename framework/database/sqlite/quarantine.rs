//! Messages that Kafka refused for good, and what waits behind them.

use std::collections::HashSet;

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{Sqlite, SqliteTransaction, fault::failed, store::if_unchanged, write::bucket};
use crate::{
    database::{
        Claim, FenceKey, HeldKey, QuarantineEntry, Quarantined, Released, Shard, Submitted,
        batch::{MAX_BYTES, shard_filter},
    },
    error::{Error, Kind, Result},
    message::MessageId,
};

impl Sqlite {
    /// The oldest entries of the quarantine.
    ///
    /// # Errors
    /// Of the database.
    pub async fn quarantine(&self, limit: u32) -> Result<Vec<QuarantineEntry>> {
        let mut reading = self.reading().await?;
        self.call(list(reading.connection(), limit)).await.map_err(failed("read the quarantine"))
    }

    /// Puts a message back, together with everything that waits under its key: the relay publishes them in order, with
    /// their ids, before anything later of the key. Answers how many messages that concerns.
    ///
    /// # Errors
    /// Kind `Config` when there is no such message in the quarantine.
    pub async fn release(&self, id: MessageId) -> Result<u64> {
        let mut connection = self.writer().await?;
        let ask = sqlx::query(
            "UPDATE tidelock_quarantine SET release_asked = 1 FROM tidelock_quarantine asked \
             WHERE asked.message_id = ?1 AND asked.state <> 'proposed' AND tidelock_quarantine.state <> 'proposed' \
             AND (tidelock_quarantine.entry = asked.entry \
                  OR tidelock_quarantine.topic = asked.topic AND tidelock_quarantine.key = asked.key)",
        )
        .bind(Uuid::from(id))
        .execute(&mut *connection);
        match self.call(ask).await.map_err(failed("release from the quarantine"))?.rows_affected() {
            0 => Err(Error::new(Kind::Config, format!("message {id} is not in the quarantine"))),
            count => Ok(count),
        }
    }

    /// A transaction under the shard's newest claim.
    async fn begin_under(&self, claim: Claim, what: &'static str) -> Result<SqliteTransaction> {
        let mut transaction = self.begin_writing().await?;
        let newest = sqlx::query("SELECT 1 FROM tidelock_relay_shard WHERE shard = ?1 AND epoch = ?2")
            .bind(claim.shard.index)
            .bind(claim.epoch)
            .fetch_optional(&mut *transaction);
        if self.call(newest).await.map_err(failed(what))?.is_some() {
            return Ok(transaction);
        }
        transaction.rollback().await;
        Err(claim.outdated(what))
    }

    /// Whether there is anything to settle, or a claim that is outdated: then nobody waits for a right to write.
    async fn is_unsettled(&self, claim: Claim) -> Result<bool> {
        let unsettled = format!(
            "SELECT NOT EXISTS (SELECT 1 FROM tidelock_relay_shard WHERE shard = ?1 AND epoch = ?2) \
             OR EXISTS (SELECT 1 FROM tidelock_quarantine WHERE state IN ('proposed', 'releasing'){})",
            shard_filter(claim.shard)
        );
        let mut connection = self.writer().await?;
        let unsettled = sqlx::query(AssertSqlSafe(unsettled))
            .bind(claim.shard.index)
            .bind(claim.epoch)
            .fetch_one(&mut *connection);
        let row = self.call(unsettled).await.map_err(failed("settle the quarantine"))?;
        Ok(row.get(0))
    }

    pub(super) async fn settle_attempts(&self, claim: Claim, attempt: Option<Uuid>) -> Result<u64> {
        let what = "settle the quarantine";
        if !self.is_unsettled(claim).await? {
            return Ok(0);
        }
        let mut transaction = self.begin_under(claim, what).await?;
        let settled = self.call(settle(&mut transaction, claim.shard, attempt)).await;
        let settled = settled.map_err(failed(what))?;
        transaction.save().await?;
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
        let inserted =
            self.call(insert(&mut transaction, "outbox", "proposed", Some(attempt), refused)).await;
        inserted.map_err(failed(what))?;
        transaction.save().await
    }

    pub(super) async fn keys_held(&self, shard: Shard) -> Result<(HashSet<HeldKey>, bool)> {
        let mut reading = self.reading().await?;
        self.call(held(reading.connection(), shard)).await.map_err(failed("read the quarantine"))
    }

    pub(super) async fn take_entries(
        &self,
        claim: Claim,
        attempt: Uuid,
        limit: usize,
    ) -> Result<Vec<Released>> {
        let what = "release from the quarantine";
        let mut transaction = self.begin_under(claim, what).await?;
        let taken = self.call(take(&mut transaction, claim.shard, attempt, limit)).await;
        let taken = taken.map_err(failed(what))?;
        transaction.save().await?;
        Ok(taken)
    }

    pub(super) async fn hold_again(&self, claim: Claim, refused: &[(i64, String)]) -> Result<()> {
        let what = "hold in the quarantine";
        let mut transaction = self.begin_under(claim, what).await?;
        let held = self.call(hold(&mut transaction, refused)).await;
        held.map_err(failed(what))?;
        transaction.save().await
    }

    pub(super) async fn move_outputs(
        &self,
        key: &FenceKey,
        submitted: &Submitted,
        pending: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool> {
        let what = "move outputs to the quarantine";
        let mut transaction = self.begin_writing().await?;
        let replaced = self.call(replace_pending(&mut transaction, key, submitted, &pending)).await;
        if !replaced.map_err(failed(what))? {
            transaction.rollback().await;
            return Ok(false);
        }
        let inserted = self.call(insert(&mut transaction, "output", "held", None, refused)).await;
        inserted.map_err(failed(what))?;
        transaction.save().await?;
        Ok(true)
    }
}

async fn list(connection: &mut SqliteConnection, limit: u32) -> Result<Vec<QuarantineEntry>, sqlx::Error> {
    let list = "SELECT entry, message_id, topic, key, reason, release_asked, origin = 'output' \
                FROM tidelock_quarantine WHERE state <> 'proposed' ORDER BY entry LIMIT ?1";
    let entry = |row: &SqliteRow| {
        Ok(QuarantineEntry {
            entry: row.try_get(0)?,
            id: row.try_get::<Uuid, _>(1)?.into(),
            topic: row.try_get(2)?,
            key: row.try_get::<Option<Vec<u8>>, _>(3)?.map(Bytes::from).into(),
            reason: row.try_get(4)?,
            release_asked: row.try_get(5)?,
            emitted: row.try_get(6)?,
        })
    };
    sqlx::query(list).bind(limit).fetch_all(connection).await?.iter().map(entry).collect()
}

/// Answers how many entries of the attempt there were.
async fn settle(
    connection: &mut SqliteConnection,
    shard: Shard,
    attempt: Option<Uuid>,
) -> Result<u64, sqlx::Error> {
    let mut settled = 0;
    for (statement, counts) in [
        (
            "UPDATE tidelock_quarantine SET release_asked = 1 WHERE state = 'held' AND NOT release_asked \
             AND (topic, key) IN (SELECT topic, key FROM tidelock_quarantine \
               WHERE state = 'releasing' AND attempt = ?1)",
            false,
        ),
        ("DELETE FROM tidelock_quarantine WHERE state = 'releasing' AND attempt = ?1", true),
        (
            "UPDATE tidelock_quarantine SET state = 'held', attempt = NULL WHERE state = 'proposed' AND attempt = ?1",
            true,
        ),
        (
            "DELETE FROM tidelock_quarantine WHERE state = 'proposed' AND origin = 'outbox' AND attempt IS NOT ?1",
            false,
        ),
        (
            "UPDATE tidelock_quarantine SET state = 'held', attempt = NULL \
             WHERE state = 'releasing' AND attempt IS NOT ?1",
            false,
        ),
    ] {
        let statement = AssertSqlSafe(format!("{statement}{}", shard_filter(shard)));
        let done = sqlx::query(statement).bind(attempt).execute(&mut *connection).await?;
        if counts {
            settled += done.rows_affected();
        }
    }
    Ok(settled)
}

async fn insert(
    connection: &mut SqliteConnection,
    origin: &str,
    state: &str,
    attempt: Option<Uuid>,
    messages: &[Quarantined],
) -> Result<(), sqlx::Error> {
    for message in messages {
        sqlx::query(
            "INSERT INTO tidelock_quarantine (origin, state, attempt, bucket, message_id, topic, key, record, reason) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .bind(origin)
        .bind(state)
        .bind(attempt)
        .bind(bucket(message.key.as_deref()))
        .bind(Uuid::from(message.id))
        .bind(&*message.topic)
        .bind(message.key.as_deref())
        .bind(&*message.record)
        .bind(&*message.reason)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Which of the keys have outputs here. Nobody else writes until the unit ends.
pub(super) async fn held_outputs(
    connection: &mut SqliteConnection,
    keys: &[HeldKey],
) -> Result<HashSet<HeldKey>, sqlx::Error> {
    let mut held = HashSet::new();
    for key in keys {
        let found = sqlx::query(
            "SELECT 1 FROM tidelock_quarantine WHERE topic = ?1 AND key = ?2 AND origin = 'output' LIMIT 1",
        )
        .bind(&*key.topic)
        .bind(&*key.key)
        .fetch_optional(&mut *connection)
        .await?;
        if found.is_some() {
            held.insert(key.clone());
        }
    }
    Ok(held)
}

pub(super) async fn hold_outputs(
    connection: &mut SqliteConnection,
    key: &FenceKey,
    pending: &[u8],
    held: &[Quarantined],
) -> Result<(), sqlx::Error> {
    insert(&mut *connection, "output", "held", None, held).await?;
    sqlx::query(
        "UPDATE tidelock_fence SET pending = ?4 WHERE \"group\" = ?1 AND topic = ?2 AND partition = ?3",
    )
    .bind(&*key.group)
    .bind(&*key.topic)
    .bind(key.partition)
    .bind(pending)
    .execute(connection)
    .await
    .map(drop)
}

async fn held(
    connection: &mut SqliteConnection,
    shard: Shard,
) -> Result<(HashSet<HeldKey>, bool), sqlx::Error> {
    // What a processor emitted holds nothing of the outbox back: it does not know that key.
    let held = format!(
        "SELECT topic, key, max(release_asked), max(origin = 'outbox' AND key IS NOT NULL) \
         FROM tidelock_quarantine WHERE state <> 'proposed'{} GROUP BY topic, key",
        shard_filter(shard)
    );
    let mut keys = HashSet::new();
    let mut asked = false;
    for row in sqlx::query(AssertSqlSafe(held)).fetch_all(connection).await? {
        asked |= row.try_get::<bool, _>(2)?;
        if row.try_get::<bool, _>(3)? {
            let (topic, key) = (row.try_get::<String, _>(0)?, row.try_get::<Vec<u8>, _>(1)?);
            keys.insert(HeldKey { topic: topic.into(), key: key.into() });
        }
    }
    Ok((keys, asked))
}

/// What stands behind an asked entry of the same key is asked for too, so that a part can be taken.
async fn take(
    connection: &mut SqliteConnection,
    shard: Shard,
    attempt: Uuid,
    limit: usize,
) -> Result<Vec<Released>, sqlx::Error> {
    let filter = shard_filter(shard);
    let ask = format!(
        "UPDATE tidelock_quarantine SET release_asked = 1 WHERE state = 'held' AND NOT release_asked{filter} \
         AND (topic, key) IN (SELECT topic, key FROM tidelock_quarantine \
           WHERE state = 'held' AND release_asked AND key IS NOT NULL{filter})"
    );
    sqlx::query(AssertSqlSafe(ask)).execute(&mut *connection).await?;
    let take = format!(
        "UPDATE tidelock_quarantine SET state = 'releasing', attempt = ?1 \
         WHERE entry IN (SELECT entry FROM (SELECT entry, row_number() OVER upto AS place, \
             sum(length(record)) OVER upto AS bytes FROM tidelock_quarantine \
             WHERE state = 'held' AND release_asked{filter} WINDOW upto AS (ORDER BY entry) ORDER BY entry LIMIT ?2) \
           WHERE place = 1 OR bytes <= ?3) \
         RETURNING entry, message_id, topic, key, record, reason"
    );
    let released = |row: &SqliteRow| {
        Ok(Released {
            entry: row.try_get(0)?,
            message: Quarantined {
                id: row.try_get::<Uuid, _>(1)?.into(),
                topic: row.try_get::<String, _>(2)?.into(),
                key: row.try_get::<Option<Vec<u8>>, _>(3)?.map(Into::into),
                record: row.try_get::<Vec<u8>, _>(4)?.into(),
                reason: row.try_get(5)?,
            },
        })
    };
    let rows = sqlx::query(AssertSqlSafe(take))
        .bind(attempt)
        .bind(limit as i64)
        .bind(MAX_BYTES as i64)
        .fetch_all(connection)
        .await?;
    let mut taken: Vec<Released> = rows.iter().map(released).collect::<Result<_, sqlx::Error>>()?;
    taken.sort_unstable_by_key(|each| each.entry);
    Ok(taken)
}

/// Entries that were refused again are held, with everything of their keys; nobody has asked for them any more.
async fn hold(connection: &mut SqliteConnection, refused: &[(i64, String)]) -> Result<(), sqlx::Error> {
    for (entry, reason) in refused {
        sqlx::query(
            "UPDATE tidelock_quarantine SET state = 'held', attempt = NULL, release_asked = 0, \
               reason = iif(entry = ?1, ?2, reason) \
             WHERE state <> 'proposed' AND (entry = ?1 OR (topic, key) IN \
               (SELECT topic, key FROM tidelock_quarantine WHERE entry = ?1 AND key IS NOT NULL))",
        )
        .bind(entry)
        .bind(reason)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn replace_pending(
    connection: &mut SqliteConnection,
    key: &FenceKey,
    submitted: &Submitted,
    pending: &[u8],
) -> Result<bool, sqlx::Error> {
    let replace = if_unchanged("pending = ?7", key, submitted);
    Ok(replace.bind(pending).fetch_optional(connection).await?.is_some())
}
