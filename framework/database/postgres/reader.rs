//! Reads one shard by the difference of two snapshots.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use sqlx::{
    AssertSqlSafe, PgConnection, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
    types::Json,
};
use tokio::time::Instant;

use super::{
    fault::failed,
    identity::{Identity, timeline},
    in_schema,
    position::{Chunks, Place},
    snapshot::Snapshot,
    source::{Published, PublishedRows},
};
use crate::{
    database::{
        Batch, OutboxRow, Reader, Shard,
        batch::{Appetite, MAX_BYTES, Texts, shard_filter, size},
    },
    error::{Error, Kind, Result},
    failpoint::{Variant, left_out},
    message::MessageId,
};

/// How long the server may take to flush by itself before it is forced to.
const FLUSH_PATIENCE: Duration = Duration::from_millis(2);
/// PostgreSQL counts time from 2000-01-01.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

const TICK: &str = "SELECT pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint, \
    pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn(), substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), \
    pg_backend_pid()";
const FLUSHED: &str = "SELECT pg_backend_pid(), pg_current_wal_flush_lsn() - '0/0'::pg_lsn >= $1::bigint";
const BARRIER: &str = "SELECT pg_backend_pid(), pg_logical_emit_message(true, 'tidelock', '')::text";

/// The statements, with schema and shard filled in. The sub-selects are evaluated once, where the bare expression
/// would be parsed once per row.
struct Statements {
    new: String,
    late: String,
    first: String,
    chunk: String,
}

impl Statements {
    fn of(schema: &str, shard: Shard) -> Self {
        let shard = shard_filter(shard);
        let columns = "seq, id, topic, key, payload, type, headers, created_at";
        let new = "xid >= (SELECT $1::text::xid8) AND xid < (SELECT pg_snapshot_xmax($2::text::pg_snapshot)) \
                   AND pg_visible_in_snapshot(xid, (SELECT $2::text::pg_snapshot))";
        let late = "xid = ANY ((SELECT $1::text[]::xid8[])::xid8[])";
        let sql = |text: String| in_schema(&text, schema);
        Self {
            new: sql(format!("SELECT {columns} FROM tidelock.outbox WHERE {new}{shard} LIMIT $3")),
            late: sql(format!("SELECT {columns} FROM tidelock.outbox WHERE {late}{shard} LIMIT $2")),
            first: sql(format!(
                "SELECT least((SELECT min(seq) FROM tidelock.outbox WHERE {new}{shard}), \
                 (SELECT min(seq) FROM tidelock.outbox WHERE {}{shard})) - 1",
                late.replace("$1", "$3")
            )),
            chunk: sql(format!(
                "SELECT {columns} FROM tidelock.outbox WHERE seq > $1 \
                 AND NOT pg_visible_in_snapshot(xid, (SELECT $2::text::pg_snapshot)) \
                 AND pg_visible_in_snapshot(xid, (SELECT $3::text::pg_snapshot)){shard} ORDER BY seq LIMIT $4"
            )),
        }
    }
}

/// The reader; its connection is its own.
pub struct PostgresReader {
    connection: PgConnection,
    statements: Statements,
    identity: Identity,
    shard: Shard,
    /// Where it stands once everything it handed out is published.
    place: Place,
    /// The end of the WAL at the last snapshot, until it is known to be flushed, and the backend that took both. A crash
    /// of the server ends every backend; a pooler goes on with another, and the same numbers mean other WAL.
    unflushed: Option<(i64, i32)>,
    /// A synchronous standby must confirm too: asking for the local flush is not enough.
    standby: bool,
    appetite: Appetite,
    texts: Texts,
}

impl PostgresReader {
    pub(super) async fn open(
        mut connection: PgConnection,
        schema: &str,
        shard: Shard,
        place: Place,
        identity: Identity,
    ) -> Result<Self> {
        let standby: bool = sqlx::query("SELECT current_setting('synchronous_standby_names') <> ''")
            .fetch_one(&mut connection)
            .await
            .map_err(failed("read the outbox"))?
            .get(0);
        let statements = Statements::of(schema, shard);
        let place = Place { identity: Some(identity.clone()), ..place };
        Ok(Self {
            connection,
            statements,
            identity,
            shard,
            place,
            unflushed: None,
            standby,
            appetite: Appetite::default(),
            texts: Texts::default(),
        })
    }

    /// Takes a new snapshot and the rows visible in it and not in the last one. `None`: there are none.
    async fn difference(&mut self, limit: usize) -> Result<Option<Batch<Published>>> {
        let row =
            sqlx::query(TICK).fetch_one(&mut self.connection).await.map_err(failed("read the outbox"))?;
        let now: Snapshot = row.get::<String, _>(0).parse()?;
        let (wal, flushed): (i64, bool) = (row.get(1), row.get(2));
        self.identity.on_timeline(timeline(row.get(3))?).require(&self.identity)?;
        if now == self.place.read {
            return Ok(None);
        }
        if now.xmax < self.place.read.xmax {
            return Err(went_back(self.place.read.xmax, now.xmax));
        }
        let limit_and_one = limit as i64 + 1;
        let ended = self.place.read.ended_since(&now);
        let (xmax, until) = (self.place.read.xmax.to_string(), now.to_string());
        let new = sqlx::query(AssertSqlSafe(self.statements.new.clone()))
            .bind(&xmax)
            .bind(&until)
            .bind(limit_and_one);
        let (mut rows, mut cut) = fetch(&mut self.connection, &mut self.texts, new).await?;
        if !ended.is_empty() && !cut {
            let late =
                sqlx::query(AssertSqlSafe(self.statements.late.clone())).bind(&ended).bind(limit_and_one);
            let (late, cut_late) = fetch(&mut self.connection, &mut self.texts, late).await?;
            rows.extend(late);
            cut = cut_late;
        }
        if rows.is_empty() {
            if flushed {
                self.place.read = now;
                self.place.wal = wal as u64;
            }
            return Ok(None);
        }
        self.unflushed = Some((wal, row.get(4)));
        self.place.wal = wal as u64;
        if cut || rows.len() > limit {
            let first = sqlx::query(AssertSqlSafe(self.statements.first.clone()))
                .bind(&xmax)
                .bind(&until)
                .bind(&ended);
            let first: Option<i64> =
                first.fetch_one(&mut self.connection).await.map_err(failed("read the outbox"))?.get(0);
            self.place.chunks = first.map(|last| Chunks { until: now, last });
            drop(rows);
            return self.chunk(limit).await;
        }
        rows.sort_unstable_by_key(|row| row.seq);
        self.place.read = now;
        let published = PublishedRows::These(rows.iter().map(|row| row.seq).collect());
        self.batch(rows, published).map(Some)
    }

    /// The next part of a difference that is too large for one batch, in order of `seq`.
    async fn chunk(&mut self, limit: usize) -> Result<Option<Batch<Published>>> {
        let Some(Chunks { until, last }) = self.place.chunks.clone() else {
            return Ok(None);
        };
        let until_text = until.to_string();
        let chunk = sqlx::query(AssertSqlSafe(self.statements.chunk.clone()))
            .bind(last)
            .bind(self.place.read.to_string())
            .bind(&until_text)
            .bind(limit as i64);
        let (rows, cut) = fetch(&mut self.connection, &mut self.texts, chunk).await?;
        let bounds = rows.first().zip(rows.last()).map(|(first, last)| (first.seq, last.seq));
        if rows.len() < limit && !cut {
            self.place.read = until;
            self.place.chunks = None;
        } else if let Some((_, last)) = bounds {
            self.place.chunks = Some(Chunks { until, last });
        }
        let Some((first, last)) = bounds else {
            return Ok(None);
        };
        let published = PublishedRows::Range { first, last, snapshot: until_text, shard: self.shard };
        self.batch(rows, published).map(Some)
    }

    fn batch(&mut self, rows: Vec<OutboxRow>, published: PublishedRows) -> Result<Batch<Published>> {
        self.appetite.fed(&rows);
        let published = Published { identity: self.identity.clone(), rows: published };
        Ok(Batch { rows, position: self.place.encode()?, published })
    }
}

#[async_trait]
impl Reader for PostgresReader {
    type Published = Published;

    async fn read(&mut self, rows: usize) -> Result<Option<Batch<Published>>> {
        self.durable().await?;
        let limit = self.appetite.limit(rows);
        if self.place.chunks.is_some()
            && let Some(batch) = self.chunk(limit).await?
        {
            return Ok(Some(batch));
        }
        self.difference(limit).await
    }

    async fn durable(&mut self) -> Result<()> {
        let Some((wal, backend)) = self.unflushed else { return Ok(()) };
        if left_out(Variant::NoFlush) {
            self.unflushed = None;
            return Ok(());
        }
        let until = Instant::now() + FLUSH_PATIENCE;
        let what = "wait for the database's flush";
        while !self.standby {
            let flushed =
                sqlx::query(FLUSHED).bind(wal).fetch_one(&mut self.connection).await.map_err(failed(what))?;
            if flushed.get::<i32, _>(0) == backend && flushed.get(1) {
                self.unflushed = None;
                return Ok(());
            }
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        let barrier = sqlx::query(BARRIER).fetch_one(&mut self.connection).await.map_err(failed(what))?;
        let answered: i32 = barrier.get(0);
        if answered != backend {
            return Err(Error::new(
                Kind::Unavailable,
                format!(
                    "{what}: backend {backend} was asked, backend {answered} answered: a pooler exchanged the \
                     connection, perhaps for a crash of the server"
                ),
            ));
        }
        self.unflushed = None;
        Ok(())
    }
}

pub(super) fn went_back(expected: u64, found: u64) -> Error {
    Error::new(
        Kind::Identity,
        format!(
            "the next transaction id is {found}, the position has already seen {expected}: the database was restored \
             from an older state"
        ),
    )
}

/// All rows, or those up to about [`MAX_BYTES`] and the word that there may be more.
async fn fetch(
    connection: &mut PgConnection,
    texts: &mut Texts,
    query: Query<'_, sqlx::Postgres, PgArguments>,
) -> Result<(Vec<OutboxRow>, bool)> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut stream = query.fetch(connection);
    while let Some(row) = stream.next().await {
        let row =
            decode(&row.map_err(failed("read the outbox"))?, texts).map_err(failed("read the outbox"))?;
        bytes += size(&row);
        rows.push(row);
        if bytes > MAX_BYTES {
            return Ok((rows, true));
        }
    }
    Ok((rows, false))
}

fn decode(row: &PgRow, texts: &mut Texts) -> Result<OutboxRow, sqlx::Error> {
    let topic = texts.shared(row.try_get(2)?);
    let event_type = row.try_get::<Option<&str>, _>(5)?.map(|text| texts.shared(text));
    let since_2000: [u8; 8] = row
        .try_get_raw(7)?
        .as_bytes()
        .map_err(sqlx::Error::Decode)?
        .try_into()
        .map_err(|_| sqlx::Error::Decode("created_at is not a timestamp in binary form".into()))?;
    Ok(OutboxRow {
        seq: row.try_get(0)?,
        id: MessageId::from(row.try_get::<uuid::Uuid, _>(1)?),
        topic,
        key: row.try_get::<Option<Vec<u8>>, _>(3)?.map(Into::into),
        payload: row.try_get::<Option<Vec<u8>>, _>(4)?.map(Into::into),
        event_type,
        headers: row.try_get::<Option<Json<Map<String, Value>>>, _>(6)?.map(|Json(headers)| headers),
        // 'infinity' is the largest number.
        time_us: i64::from_be_bytes(since_2000).saturating_add(EPOCH_2000_US),
    })
}
