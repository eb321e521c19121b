//! What a relay asks of its database.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Sqlite,
    fault::failed,
    position::Place,
    reader::{SqliteReader, went_back},
    written,
};
use crate::{
    database::{Claim, HeldKey, Quarantined, Released, Shard, Source, batch::shard_filter, require_shards},
    error::{Error, Kind, Result},
};

/// Rows deleted in one statement, so that no other writer waits for long.
const SWEEP_STEP: i64 = 2_000;

/// How to delete a published batch: everything of the shard up to its last row, in the database it was read from.
#[derive(Debug)]
pub struct SqlitePublished {
    pub(super) database: Uuid,
    pub(super) shard: Shard,
    pub(super) until: i64,
}

#[async_trait]
impl Source for Sqlite {
    type Reader = SqliteReader;
    type Published = SqlitePublished;

    fn hint(&self) -> Arc<Notify> {
        self.shared.hint.clone()
    }

    async fn check(&self) -> Result<()> {
        self.check_source().await
    }

    async fn fix_shards(&self, count: u32) -> Result<()> {
        let mut connection = self.writer().await?;
        let fix = sqlx::query(
            "INSERT INTO tidelock_relay (one, shards) VALUES (1, ?1) \
             ON CONFLICT (one) DO UPDATE SET shards = shards RETURNING shards",
        );
        let fix = written(fix.bind(count), &mut connection);
        let row = self.call(fix).await.map_err(failed("read the number of shards"))?;
        require_shards(row.get(0), count)
    }

    async fn started(&self, shard: Shard) -> Result<bool> {
        let mut reading = self.reading().await?;
        let started = sqlx::query(
            "SELECT count(*) FROM tidelock_relay_shard WHERE shard = ?1 AND started_at IS NOT NULL",
        )
        .bind(shard.index)
        .fetch_one(reading.connection());
        let row = self.call(started).await.map_err(failed("read the state of the shard"))?;
        Ok(row.get::<i64, _>(0) > 0)
    }

    async fn mark_started(&self, shard: Shard) -> Result<()> {
        let mut connection = self.writer().await?;
        let mark = sqlx::query(
            "INSERT INTO tidelock_relay_shard (shard, started_at) VALUES (?1, CAST(unixepoch('subsec') * 1000000 AS INTEGER)) \
             ON CONFLICT (shard) DO UPDATE SET started_at = excluded.started_at WHERE started_at IS NULL",
        );
        let mark = mark.bind(shard.index).execute(&mut *connection);
        self.call(mark).await.map_err(failed("mark the shard started"))?;
        Ok(())
    }

    async fn claim(&self, shard: Shard) -> Result<Claim> {
        let mut connection = self.writer().await?;
        let claim = sqlx::query(
            "INSERT INTO tidelock_relay_shard (shard, epoch) VALUES (?1, 1) \
             ON CONFLICT (shard) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
        );
        let claim = written(claim.bind(shard.index), &mut connection);
        let row = self.call(claim).await.map_err(failed("claim the shard"))?;
        Ok(Claim { shard, epoch: row.get(0) })
    }

    async fn origin(&self) -> Result<Bytes> {
        Place::default().encode()
    }

    async fn reader(&self, shard: Shard, position: &[u8]) -> Result<SqliteReader> {
        let place = Place::decode(position)?;
        let mut reading = self.reading().await?;
        let state = self.call(state(reading.connection(), shard, &place)).await;
        drop(reading);
        let state = state.map_err(failed("read the identity of the database"))?;
        state.require(&place)?;
        if state.leftover {
            self.sweep(shard, place.seq, state.database).await?;
        }
        SqliteReader::open(self, shard, place, state.database).await
    }

    async fn clean(&self, published: SqlitePublished) -> Result<u64> {
        self.sweep(published.shard, published.until, published.database).await
    }

    async fn settle_quarantine(&self, claim: Claim, attempt: Option<Uuid>) -> Result<u64> {
        self.settle_attempts(claim, attempt).await
    }

    async fn propose(&self, claim: Claim, attempt: Uuid, refused: &[Quarantined]) -> Result<()> {
        self.propose_entries(claim, attempt, refused).await
    }

    async fn held_keys(&self, shard: Shard) -> Result<(HashSet<HeldKey>, bool)> {
        self.keys_held(shard).await
    }

    async fn take_released(&self, claim: Claim, attempt: Uuid, limit: usize) -> Result<Vec<Released>> {
        self.take_entries(claim, attempt, limit).await
    }

    async fn refuse_released(&self, claim: Claim, refused: &[(i64, String)]) -> Result<()> {
        self.hold_again(claim, refused).await
    }
}

impl Sqlite {
    /// Deletes what the position has passed, in steps; others write in between.
    async fn sweep(&self, shard: Shard, until: i64, database: Uuid) -> Result<u64> {
        let rows = format!(
            "DELETE FROM tidelock_outbox WHERE seq IN (SELECT seq FROM tidelock_outbox \
             WHERE seq <= ?1{} ORDER BY seq LIMIT ?2)",
            shard_filter(shard)
        );
        let mut deleted = 0;
        loop {
            let mut connection = self.writer().await?;
            let found = sqlx::query("SELECT id FROM tidelock_database").fetch_one(&mut *connection);
            let found = self.call(found).await.map_err(failed("read the identity of the database"))?.get(0);
            if database != found {
                return Err(another(found, database));
            }
            let step = sqlx::query(AssertSqlSafe(rows.clone()))
                .bind(until)
                .bind(SWEEP_STEP)
                .execute(&mut *connection);
            let step = self.call(step).await.map_err(failed("delete published rows"))?.rows_affected();
            deleted += step;
            if step < SWEEP_STEP as u64 {
                let marks = sqlx::query("DELETE FROM tidelock_mark WHERE shard = ?1 AND seq < ?2")
                    .bind(shard.index)
                    .bind(until)
                    .execute(&mut *connection);
                self.call(marks).await.map_err(failed("delete old marks"))?;
                return Ok(deleted);
            }
        }
    }
}

/// What tells this database's history from another's.
struct State {
    database: Uuid,
    /// The last `seq` that was ever given out.
    last: i64,
    marked: bool,
    /// Published rows or old marks are still there.
    leftover: bool,
}

async fn state(connection: &mut SqliteConnection, shard: Shard, place: &Place) -> Result<State, sqlx::Error> {
    let state = format!(
        "SELECT id, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tidelock_outbox'), 0), \
         EXISTS (SELECT 1 FROM tidelock_mark WHERE shard = ?1 AND seq = ?2 AND mark = ?3), \
         EXISTS (SELECT 1 FROM tidelock_outbox WHERE seq <= ?2{}) \
         OR EXISTS (SELECT 1 FROM tidelock_mark WHERE shard = ?1 AND seq < ?2) FROM tidelock_database",
        shard_filter(shard)
    );
    let row = sqlx::query(AssertSqlSafe(state))
        .bind(shard.index)
        .bind(place.seq)
        .bind(place.mark)
        .fetch_one(connection)
        .await?;
    Ok(State {
        database: row.try_get(0)?,
        last: row.try_get(1)?,
        marked: row.try_get(2)?,
        leftover: row.try_get(3)?,
    })
}

fn another(found: Uuid, expected: Uuid) -> Error {
    let text = format!("the outbox is in another database (id {found}, the position has {expected})");
    Error::new(Kind::Identity, text)
}

impl State {
    /// Refuses a database that is not the one the position was written for, or an older state of it.
    fn require(&self, place: &Place) -> Result<()> {
        let Some(expected) = place.database else { return Ok(()) };
        if self.database != expected {
            return Err(another(self.database, expected));
        }
        if self.last < place.seq {
            return Err(went_back(place.seq, self.last));
        }
        if place.mark.is_some() && !self.marked {
            return Err(Error::new(
                Kind::Identity,
                format!(
                    "the database does not have the mark of position {}: it was restored from an older state",
                    place.seq
                ),
            ));
        }
        Ok(())
    }
}
