//! What a processor asks of its database: fence rows and the inbox.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, postgres::PgArguments, query::Query};

use super::{Postgres, PostgresUnit, STANDBY};
use crate::{
    database::{Database, Fence, FenceKey, FirstStart, Quarantined, Submitted},
    error::{Error, Kind, Result},
};

/// Ids forgotten in one statement.
const CLEAN_STEP: i64 = 10_000;

#[async_trait]
impl Database for Postgres {
    type Connection = sqlx::PgConnection;
    type Unit = PostgresUnit;

    async fn check_durable(&self) -> Result<()> {
        self.check_processor().await
    }

    async fn fence(&self, key: &FenceKey) -> Result<Option<Fence>> {
        let fence = self.sql(
            "SELECT next_offset, pending_from, pending, owner, claim, pg_is_in_recovery() FROM tidelock.fence \
             WHERE \"group\" = $1 AND topic = $2 AND partition = $3",
        );
        let row = sqlx::query(fence)
            .bind(&*key.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .fetch_optional(self.control());
        let Some(row) = self.answer("read the fence", row).await? else { return Ok(None) };
        // It may lag: then the row would look like that of a database that was restored.
        if row.get(5) {
            return Err(Error::new(Kind::Unavailable, format!("read the fence: {STANDBY}")));
        }
        Ok(Some(Fence {
            next_offset: row.get(0),
            pending_from: row.get(1),
            pending: row.get::<Vec<u8>, _>(2).into(),
            owner: row.get(3),
            claim: row.get(4),
        }))
    }

    async fn first_start(&self, key: &FenceKey, partitions: i32) -> Result<FirstStart> {
        let first = self.sql(
            "INSERT INTO tidelock.consumer_topic AS c (\"group\", topic, partitions) VALUES ($1, $2, $3) \
             ON CONFLICT (\"group\", topic) DO UPDATE SET partitions = c.partitions \
             RETURNING c.partitions, $4 = ANY (c.fenced)",
        );
        let row = sqlx::query(first)
            .bind(&*key.group)
            .bind(&*key.topic)
            .bind(partitions)
            .bind(key.partition)
            .fetch_one(self.control());
        let row = self.answer("record the first start", row).await?;
        Ok(FirstStart { partitions: row.get(0), fenced: row.get(1) })
    }

    async fn note_topic(&self, key: &FenceKey, id: &str) -> Result<Option<String>> {
        let note = self.sql(
            "WITH noted AS (UPDATE tidelock.consumer_topic SET topic_id = $3 \
             WHERE \"group\" = $1 AND topic = $2 AND topic_id IS NULL RETURNING topic_id) \
             SELECT coalesce((SELECT topic_id FROM noted), topic_id) FROM tidelock.consumer_topic \
             WHERE \"group\" = $1 AND topic = $2",
        );
        let noted =
            sqlx::query(note).bind(&*key.group).bind(&*key.topic).bind(id).fetch_optional(self.control());
        // No id although the row is there: another instance notes one at this moment. It is asked for again later.
        Ok(self.answer("note the topic", noted).await?.and_then(|row| row.get(0)))
    }

    async fn insert_fence(&self, key: &FenceKey, next_offset: i64, owner: &str) -> Result<()> {
        let insert = self.sql(
            "WITH noted AS (UPDATE tidelock.consumer_topic SET fenced = array_append(fenced, $3) \
             WHERE \"group\" = $1 AND topic = $2 AND NOT $3 = ANY (fenced)) \
             INSERT INTO tidelock.fence (\"group\", topic, partition, next_offset, owner) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT DO NOTHING",
        );
        let inserted = sqlx::query(insert)
            .bind(&*key.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .bind(next_offset)
            .bind(owner)
            .execute(self.control());
        self.answer("insert the fence", inserted).await.map(drop)
    }

    async fn begin(&self) -> Result<PostgresUnit> {
        PostgresUnit::begin(self).await
    }

    async fn claim_outputs(&self, key: &FenceKey, submitted: &Submitted, owner: &str) -> Result<Option<i64>> {
        let claim = self.if_unchanged("claim = claim + 1, owner = $7", key, submitted);
        let claimed = claim.bind(owner).fetch_optional(self.control());
        Ok(self.answer("claim outputs", claimed).await?.map(|row| row.get(0)))
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
        let clean = self.sql(
            "DELETE FROM tidelock.inbox WHERE \"group\" = $1 AND message_id = ANY (ARRAY(\
             SELECT message_id FROM tidelock.inbox WHERE \"group\" = $1 \
             AND received_at < now() - make_interval(secs => $2) LIMIT $3))",
        );
        let mut forgotten = 0;
        loop {
            let step = sqlx::query(AssertSqlSafe(clean.0.clone()))
                .bind(group)
                .bind(age.as_secs_f64())
                .bind(CLEAN_STEP)
                .execute(self.control());
            let step = self.answer("clean the inbox", step).await?.rows_affected();
            forgotten += step;
            if step < CLEAN_STEP as u64 {
                return Ok(forgotten);
            }
        }
    }
}

impl Postgres {
    /// Changes a fence row if it still is what was submitted: `set` are assignments to its columns, with one parameter,
    /// `$7`. Answers the row's claim.
    pub(super) fn if_unchanged<'q>(
        &self,
        set: &str,
        key: &'q FenceKey,
        submitted: &'q Submitted,
    ) -> Query<'q, sqlx::Postgres, PgArguments> {
        let update = self.sql(&format!(
            "UPDATE tidelock.fence SET {set}, updated_at = now() \
             WHERE \"group\" = $1 AND topic = $2 AND partition = $3 \
             AND next_offset = $4 AND pending = $5 AND claim = $6 RETURNING claim"
        ));
        sqlx::query(update)
            .bind(&*key.group)
            .bind(&*key.topic)
            .bind(key.partition)
            .bind(submitted.next_offset)
            .bind(&*submitted.pending)
            .bind(submitted.claim)
    }
}
