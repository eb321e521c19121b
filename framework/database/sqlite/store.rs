//! What a processor asks of its database: fence rows and the inbox.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::{Sqlite, SqliteUnit, fault::failed, written};
use crate::{
    database::{Database, Fence, FenceKey, FirstStart, Quarantined, Submitted},
    error::Result,
};

/// Ids forgotten in one statement.
const CLEAN_STEP: i64 = 5_000;

#[async_trait]
impl Database for Sqlite {
    type Connection = SqliteConnection;
    type Unit = SqliteUnit;

    const ONE_WRITER: bool = true;

    async fn check_durable(&self) -> Result<()> {
        self.check_processor().await
    }

    async fn fence(&self, key: &FenceKey) -> Result<Option<Fence>> {
        let mut connection = self.writer().await?;
        self.call(fence(&mut connection, key)).await.map_err(failed("read the fence"))
    }

    async fn first_start(&self, key: &FenceKey, partitions: i32) -> Result<FirstStart> {
        let mut connection = self.writer().await?;
        self.call(first_start(&mut connection, key, partitions))
            .await
            .map_err(failed("record the first start"))
    }

    async fn note_topic(&self, key: &FenceKey, id: &str) -> Result<Option<String>> {
        let mut transaction = self.begin_writing().await?;
        let noted = self.call(note_topic(&mut transaction, key, id)).await;
        let noted = noted.map_err(failed("note the topic"))?;
        transaction.save().await?;
        Ok(noted)
    }

    async fn insert_fence(&self, key: &FenceKey, next_offset: i64, owner: &str) -> Result<()> {
        let mut transaction = self.begin_writing().await?;
        let inserted = self.call(insert_fence(&mut transaction, key, next_offset, owner)).await;
        inserted.map_err(failed("insert the fence"))?;
        transaction.save().await
    }

    async fn begin(&self) -> Result<SqliteUnit> {
        let turn = self.turn().await?;
        let transaction = self.begin_writing().await?;
        Ok(SqliteUnit { database: self.clone(), transaction, _busy: turn.begin() })
    }

    async fn claim_outputs(&self, key: &FenceKey, submitted: &Submitted, owner: &str) -> Result<Option<i64>> {
        let mut transaction = self.begin_writing().await?;
        let claimed = self.call(claim_outputs(&mut transaction, key, submitted, owner)).await;
        let claimed = claimed.map_err(failed("claim outputs"))?;
        transaction.save().await?;
        Ok(claimed)
    }

    async fn quarantine_outputs(
        &self,
        key: &FenceKey,
        submitted: &Submitted,
        pending: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool> {
        self.move_outputs(key, submitted, pending, refused).await
    }

    async fn clean_inbox(&self, group: &str, age: Duration) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let mut connection = self.writer().await?;
            let clean = sqlx::query(
                "DELETE FROM tidelock_inbox WHERE \"group\" = ?1 AND message_id IN \
                 (SELECT message_id FROM tidelock_inbox WHERE \"group\" = ?1 \
                  AND received_at < CAST(unixepoch('subsec') * 1000000 AS INTEGER) - ?2 LIMIT ?3)",
            )
            .bind(group)
            .bind(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
            .bind(CLEAN_STEP)
            .execute(&mut *connection);
            let step = self.call(clean).await.map_err(failed("clean the inbox"))?.rows_affected();
            forgotten += step;
            if step < CLEAN_STEP as u64 {
                return Ok(forgotten);
            }
        }
    }
}

async fn fence(connection: &mut SqliteConnection, key: &FenceKey) -> Result<Option<Fence>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT next_offset, pending_from, pending, owner, claim FROM tidelock_fence \
         WHERE \"group\" = ?1 AND topic = ?2 AND partition = ?3",
    )
    .bind(&*key.group)
    .bind(&*key.topic)
    .bind(key.partition)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Fence {
        next_offset: row.try_get(0)?,
        pending_from: row.try_get(1)?,
        pending: row.try_get::<Vec<u8>, _>(2)?.into(),
        owner: row.try_get(3)?,
        claim: row.try_get(4)?,
    }))
}

async fn first_start(
    connection: &mut SqliteConnection,
    key: &FenceKey,
    partitions: i32,
) -> Result<FirstStart, sqlx::Error> {
    let first = sqlx::query(
        "INSERT INTO tidelock_consumer_topic (\"group\", topic, partitions) VALUES (?1, ?2, ?3) \
         ON CONFLICT (\"group\", topic) DO UPDATE SET partitions = partitions \
         RETURNING partitions, EXISTS (SELECT 1 FROM tidelock_fenced f \
           WHERE f.\"group\" = ?1 AND f.topic = ?2 AND f.partition = ?4)",
    )
    .bind(&*key.group)
    .bind(&*key.topic)
    .bind(partitions)
    .bind(key.partition);
    let row = written(first, connection).await?;
    Ok(FirstStart { partitions: row.try_get(0)?, fenced: row.try_get(1)? })
}

async fn note_topic(
    connection: &mut SqliteConnection,
    key: &FenceKey,
    id: &str,
) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE tidelock_consumer_topic SET topic_id = coalesce(topic_id, ?3) WHERE \"group\" = ?1 AND topic = ?2 \
         RETURNING topic_id",
    )
    .bind(&*key.group)
    .bind(&*key.topic)
    .bind(id)
    .fetch_optional(connection)
    .await?;
    row.map(|row| row.try_get(0)).transpose()
}

async fn claim_outputs(
    connection: &mut SqliteConnection,
    key: &FenceKey,
    submitted: &Submitted,
    owner: &str,
) -> Result<Option<i64>, sqlx::Error> {
    let claim = if_unchanged("claim = claim + 1, owner = ?7", key, submitted);
    let row = claim.bind(owner).fetch_optional(connection).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Changes a fence row if it still is what was submitted: `set` are assignments to its columns, with one parameter, `?7`.
/// Answers the row's claim.
pub(super) fn if_unchanged<'q>(
    set: &str,
    key: &'q FenceKey,
    submitted: &'q Submitted,
) -> Query<'q, sqlx::Sqlite, SqliteArguments> {
    let update = format!(
        "UPDATE tidelock_fence SET {set}, updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER) \
         WHERE \"group\" = ?1 AND topic = ?2 AND partition = ?3 \
         AND next_offset = ?4 AND pending = ?5 AND claim = ?6 RETURNING claim"
    );
    sqlx::query(AssertSqlSafe(update))
        .bind(&*key.group)
        .bind(&*key.topic)
        .bind(key.partition)
        .bind(submitted.next_offset)
        .bind(&*submitted.pending)
        .bind(submitted.claim)
}

async fn insert_fence(
    connection: &mut SqliteConnection,
    key: &FenceKey,
    next_offset: i64,
    owner: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO tidelock_fenced (\"group\", topic, partition) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )
    .bind(&*key.group)
    .bind(&*key.topic)
    .bind(key.partition)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO tidelock_fence (\"group\", topic, partition, next_offset, owner) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&*key.group)
    .bind(&*key.topic)
    .bind(key.partition)
    .bind(next_offset)
    .bind(owner)
    .execute(connection)
    .await?;
    Ok(())
}
