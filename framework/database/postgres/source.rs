//! What a relay asks of its database.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Postgres,
    fault::failed,
    identity::Identity,
    position::Place,
    reader::{PostgresReader, went_back},
    snapshot::Snapshot,
};
use crate::{
    database::{Claim, HeldKey, Quarantined, Released, Shard, Source, batch::shard_filter, require_shards},
    error::{Error, Kind, Result},
};

/// Rows deleted in one statement, so that no lock and no WAL burst is felt by writers.
const SWEEP_STEP: i64 = 5_000;

/// How to delete a published batch, and where: another database uses the same numbers for other rows.
#[derive(Debug)]
pub struct Published {
    pub(super) identity: Identity,
    pub(super) rows: PublishedRows,
}

#[derive(Debug)]
pub(super) enum PublishedRows {
    These(Vec<i64>),
    /// What the snapshot sees from the first `seq` to the last: all of it is published by then.
    Range {
        first: i64,
        last: i64,
        snapshot: String,
        shard: Shard,
    },
}

#[async_trait]
impl Source for Postgres {
    type Reader = PostgresReader;
    type Published = Published;

    fn hint(&self) -> Arc<Notify> {
        self.0.hint.clone()
    }

    async fn check(&self) -> Result<()> {
        self.check_source().await
    }

    async fn fix_shards(&self, count: u32) -> Result<()> {
        let fix = self.sql(
            "WITH fixed AS (INSERT INTO tidelock.relay (shards) VALUES ($1) ON CONFLICT DO NOTHING RETURNING shards) \
             SELECT shards FROM fixed UNION ALL SELECT shards FROM tidelock.relay LIMIT 1",
        );
        let row = sqlx::query(fix).bind(count as i32).fetch_optional(self.control()).await;
        let fixed: i32 = match row.map_err(failed("read the number of shards"))? {
            Some(row) => row.get(0),
            // Another instance inserted the row after this statement's snapshot.
            None => return self.fix_shards(count).await,
        };
        require_shards(fixed as u32, count)
    }

    async fn started(&self, shard: Shard) -> Result<bool> {
        let started = self.sql(
            "SELECT EXISTS (SELECT FROM tidelock.relay_shard WHERE shard = $1 AND started_at IS NOT NULL)",
        );
        let row = sqlx::query(started).bind(shard.index as i32).fetch_one(self.control()).await;
        Ok(row.map_err(failed("read the state of the shard"))?.get(0))
    }

    async fn mark_started(&self, shard: Shard) -> Result<()> {
        let mark = self.sql(
            "INSERT INTO tidelock.relay_shard AS s (shard, started_at) VALUES ($1, now()) \
             ON CONFLICT (shard) DO UPDATE SET started_at = now() WHERE s.started_at IS NULL",
        );
        sqlx::query(mark)
            .bind(shard.index as i32)
            .execute(self.control())
            .await
            .map_err(failed("mark the shard started"))?;
        Ok(())
    }

    async fn claim(&self, shard: Shard) -> Result<Claim> {
        let claim = self.sql(
            "INSERT INTO tidelock.relay_shard AS s (shard, epoch) VALUES ($1, 1) \
             ON CONFLICT (shard) DO UPDATE SET epoch = s.epoch + 1 RETURNING epoch",
        );
        let row = sqlx::query(claim).bind(shard.index as i32).fetch_one(self.control()).await;
        Ok(Claim { shard, epoch: row.map_err(failed("claim the shard"))?.get(0) })
    }

    async fn origin(&self) -> Result<Bytes> {
        Place::origin().encode()
    }

    async fn reader(&self, shard: Shard, position: &[u8]) -> Result<PostgresReader> {
        let place = Place::decode(position)?;
        let options = self.control().connect_options();
        let mut connection =
            PgConnection::connect_with(&options).await.map_err(failed("connect the reader of the outbox"))?;
        let identity = Identity::read(&mut connection).await?;
        if let Some(expected) = &place.identity {
            identity.require(expected)?;
            require_history(&mut connection, &place).await?;
        }
        self.refuse_foreign_rows(&mut connection).await?;
        self.sweep(&mut connection, shard, &place, &identity).await?;
        PostgresReader::open(connection, &self.0.schema, shard, place, identity).await
    }

    async fn clean(&self, published: Published) -> Result<u64> {
        let Published { identity, rows } = published;
        let mut connection = self.control().acquire().await.map_err(failed("delete published rows"))?;
        let here = identity.condition();
        let done = match rows {
            PublishedRows::These(rows) => {
                let delete =
                    self.sql(&format!("DELETE FROM tidelock.outbox WHERE seq = ANY ($1) AND {here}"));
                sqlx::query(delete).bind(rows).execute(&mut *connection).await
            }
            PublishedRows::Range { first, last, snapshot, shard } => {
                let delete = self.sql(&format!(
                    "DELETE FROM tidelock.outbox WHERE seq BETWEEN $1 AND $2 \
                     AND pg_visible_in_snapshot(xid, (SELECT $3::text::pg_snapshot)) AND {here}{}",
                    shard_filter(shard)
                ));
                sqlx::query(delete).bind(first).bind(last).bind(snapshot).execute(&mut *connection).await
            }
        };
        let deleted = done.map_err(failed("delete published rows"))?.rows_affected();
        if deleted == 0 {
            Identity::read(&mut connection).await?.require(&identity)?;
        }
        Ok(deleted)
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

impl Postgres {
    /// Rows that were loaded from another server carry its transaction ids: they would stay invisible until this one gets
    /// there.
    async fn refuse_foreign_rows(&self, connection: &mut PgConnection) -> Result<()> {
        let foreign = self.sql(
            "SELECT xid::text, pg_snapshot_xmax(pg_current_snapshot())::text FROM tidelock.outbox \
             WHERE xid >= (SELECT pg_snapshot_xmax(pg_current_snapshot())) ORDER BY xid LIMIT 1",
        );
        let row = sqlx::query(foreign).fetch_optional(connection).await;
        match row.map_err(failed("read the outbox"))? {
            None => Ok(()),
            Some(row) => Err(Error::new(
                Kind::Identity,
                format!(
                    "a row of the outbox has transaction id {}, the server is at {}: it was loaded from another server",
                    row.get::<String, _>(0),
                    row.get::<String, _>(1)
                ),
            )),
        }
    }

    /// Deletes what the position has passed, in steps.
    async fn sweep(
        &self,
        connection: &mut PgConnection,
        shard: Shard,
        place: &Place,
        identity: &Identity,
    ) -> Result<()> {
        let filter = format!("{} AND {}", shard_filter(shard), identity.condition());
        let passed = self.sql(&format!(
            "DELETE FROM tidelock.outbox WHERE seq = ANY (ARRAY(SELECT seq FROM tidelock.outbox \
             WHERE xid < (SELECT pg_snapshot_xmax($1::text::pg_snapshot)) \
             AND pg_visible_in_snapshot(xid, (SELECT $1::text::pg_snapshot)){filter} LIMIT $2))"
        ));
        sweep_on(connection, &passed.0, &place.read, None).await?;
        if let Some(chunks) = &place.chunks {
            let passed = self.sql(&format!(
                "DELETE FROM tidelock.outbox WHERE seq = ANY (ARRAY(SELECT seq FROM tidelock.outbox \
                 WHERE seq <= $3 AND pg_visible_in_snapshot(xid, (SELECT $1::text::pg_snapshot)){filter} LIMIT $2))"
            ));
            sweep_on(connection, &passed.0, &chunks.until, Some(chunks.last)).await?;
        }
        Ok(())
    }
}

async fn sweep_on(
    connection: &mut PgConnection,
    statement: &str,
    snapshot: &Snapshot,
    last: Option<i64>,
) -> Result<()> {
    let snapshot = snapshot.to_string();
    loop {
        let mut query = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(&snapshot).bind(SWEEP_STEP);
        if let Some(last) = last {
            query = query.bind(last);
        }
        let swept = query.execute(&mut *connection).await.map_err(failed("delete published rows"))?;
        if swept.rows_affected() < SWEEP_STEP as u64 {
            return Ok(());
        }
    }
}

/// The same server, on the same timeline, may still have been put back to an older state.
async fn require_history(connection: &mut PgConnection, place: &Place) -> Result<()> {
    let row = sqlx::query(
        "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn >= $1::bigint, pg_current_snapshot()::text",
    )
    .bind(place.wal as i64)
    .fetch_one(connection)
    .await
    .map_err(failed("read the state of the database"))?;
    if !row.get::<bool, _>(0) {
        return Err(Error::new(
            Kind::Identity,
            "the database has less WAL than the position was written after: it was restored from an older state",
        ));
    }
    let now: Snapshot = row.get::<String, _>(1).parse()?;
    match now.xmax < place.newest().xmax {
        true => Err(went_back(place.newest().xmax, now.xmax)),
        false => Ok(()),
    }
}
