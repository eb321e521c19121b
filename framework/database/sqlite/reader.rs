//! Reads one shard in order of `seq`.

use async_trait::async_trait;
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row, SqliteConnection, sqlite::SqliteRow, types::Json};
use uuid::Uuid;

use super::{Sqlite, fault::failed, position::Place, source::SqlitePublished, write::bucket};
use crate::{
    database::{
        Batch, OutboxRow, Reader, Shard,
        batch::{Appetite, MAX_BYTES, Texts, shard_filter, size},
    },
    error::{Error, Kind, Result},
    failpoint::{Variant, left_out},
    message::MessageId,
};

/// The reader. There is one writer at a time, so that a row with a smaller `seq` never becomes visible later: the last
/// `seq` is the whole position.
///
/// # Durability
/// A row may have been committed by a connection with `synchronous = NORMAL`, which does not wait for the disk, and a
/// loss of power would undo it. `durable` commits a row of its own with `synchronous = FULL`: the write-ahead log is
/// one file in order of commits, the commit syncs all of it, and recovery keeps a commit only together with everything
/// before it. What a checkpoint has moved to the database file meanwhile was synced before the log began again. That
/// row is the mark of the position: a database that lacks it was restored from an older state, also when it has given
/// out as many numbers since.
pub struct SqliteReader {
    database: Sqlite,
    identity: Uuid,
    /// `None` for a database in memory: then it waits for its turn as writers do.
    own: Option<SqliteConnection>,
    /// The rows, with their buckets where there are several shards, and at their end one without a topic: its time is the
    /// last `seq` that was ever given out.
    select: String,
    shard: Shard,
    /// Where it stands once everything it handed out is published.
    place: Place,
    /// The mark of the last batch, until it is written.
    unmarked: Option<Uuid>,
    appetite: Appetite,
    texts: Texts,
}

impl SqliteReader {
    pub(super) async fn open(database: &Sqlite, shard: Shard, place: Place, identity: Uuid) -> Result<Self> {
        let place = Place { database: Some(identity), ..place };
        let own = match database.shared.in_memory {
            true => None,
            false => {
                let connection = database.call(database.shared.options.connect()).await;
                Some(connection.map_err(failed("connect the reader of the outbox"))?)
            }
        };
        let bucket = if shard.count == 1 { "NULL" } else { "bucket" };
        Ok(Self {
            database: database.clone(),
            identity,
            own,
            select: format!(
                "SELECT seq, id, topic, key, payload, type, headers, time, {bucket} FROM tidelock_outbox \
                 WHERE seq > ?1{} UNION ALL SELECT {}, NULL, NULL, NULL, NULL, NULL, NULL, \
                 coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tidelock_outbox'), 0), NULL \
                 ORDER BY 1 LIMIT ?2",
                shard_filter(shard),
                i64::MAX
            ),
            shard,
            place,
            unmarked: None,
            appetite: Appetite::default(),
            texts: Texts::default(),
        })
    }

    async fn next_rows(&mut self, limit: usize) -> Result<Vec<OutboxRow>> {
        let Self { database, own, select, place, texts, .. } = self;
        let mut writer;
        let connection = match own {
            Some(connection) => connection,
            None => {
                writer = database.writer().await?;
                &mut *writer
            }
        };
        let found = database.call(fetch(connection, texts, select, place.seq, limit as i64)).await;
        match found.map_err(failed("read the outbox"))? {
            Found::Rows(rows) => Ok(rows),
            Found::Nothing { last } if last < place.seq => Err(went_back(place.seq, last)),
            Found::Nothing { .. } => Ok(Vec::new()),
            Found::Misplaced { row, written } => Err(misplaced(&row, written)),
        }
    }
}

#[async_trait]
impl Reader for SqliteReader {
    type Published = SqlitePublished;

    async fn read(&mut self, rows: usize) -> Result<Option<Batch<SqlitePublished>>> {
        self.durable().await?;
        let rows = self.next_rows(self.appetite.limit(rows)).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let mark = (!left_out(Variant::NoFlush)).then(Uuid::new_v4);
        self.place = Place { seq: last.seq, mark, ..self.place };
        self.unmarked = mark;
        self.appetite.fed(&rows);
        let published = SqlitePublished { database: self.identity, shard: self.shard, until: self.place.seq };
        Ok(Some(Batch { rows, position: self.place.encode()?, published }))
    }

    async fn durable(&mut self) -> Result<()> {
        let Some(mark) = self.unmarked else { return Ok(()) };
        let mut writer = self.database.writer().await?;
        let write = sqlx::query("INSERT INTO tidelock_mark (shard, seq, mark) VALUES (?1, ?2, ?3)")
            .bind(self.shard.index)
            .bind(self.place.seq)
            .bind(mark)
            .execute(&mut *writer);
        self.database.call(write).await.map_err(failed("write the position's mark"))?;
        self.unmarked = None;
        Ok(())
    }
}

pub(super) fn went_back(expected: i64, found: i64) -> Error {
    Error::new(
        Kind::Identity,
        format!(
            "the last seq of tidelock_outbox is {found}, the position has already passed {expected}: the database was \
             restored from an older state, or sqlite_sequence was changed"
        ),
    )
}

/// Published by this shard it would have no order among the others of its key, and refused it would be lost: the quarantine
/// goes by the key.
fn misplaced(row: &OutboxRow, written: i64) -> Error {
    Error::new(
        Kind::Corrupt,
        format!(
            "row {} of tidelock_outbox has bucket {written}, its key has {}: insert the row anew with that one and delete \
             this one, then start again",
            row.seq,
            bucket(row.key.as_deref())
        ),
    )
}

enum Found {
    /// At least one, or those up to about [`MAX_BYTES`], or to one that is misplaced.
    Rows(Vec<OutboxRow>),
    Nothing {
        /// The last `seq` that was ever given out.
        last: i64,
    },
    /// The next one, in another bucket than its key's.
    Misplaced { row: OutboxRow, written: i64 },
}

async fn fetch(
    connection: &mut SqliteConnection,
    texts: &mut Texts,
    select: &str,
    after: i64,
    limit: i64,
) -> Result<Found, sqlx::Error> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    let query = sqlx::query(AssertSqlSafe(select.to_owned())).bind(after).bind(limit);
    let mut stream = query.fetch(connection);
    while let Some(row) = stream.next().await {
        let row = row?;
        if row.try_get::<Option<&str>, _>(2)?.is_none() {
            if rows.is_empty() {
                return Ok(Found::Nothing { last: row.try_get(7)? });
            }
            break;
        }
        let written: Option<i64> = row.try_get(8)?;
        let row = decode(&row, texts)?;
        if let Some(written) = written.filter(|written| *written != bucket(row.key.as_deref())) {
            if rows.is_empty() {
                return Ok(Found::Misplaced { row, written });
            }
            break;
        }
        bytes += size(&row);
        rows.push(row);
        if bytes > MAX_BYTES {
            break;
        }
    }
    Ok(Found::Rows(rows))
}

fn decode(row: &SqliteRow, texts: &mut Texts) -> Result<OutboxRow, sqlx::Error> {
    Ok(OutboxRow {
        seq: row.try_get(0)?,
        id: MessageId::from(row.try_get::<Uuid, _>(1)?),
        topic: texts.shared(row.try_get(2)?),
        key: row.try_get::<Option<Vec<u8>>, _>(3)?.map(Into::into),
        payload: row.try_get::<Option<Vec<u8>>, _>(4)?.map(Into::into),
        event_type: row.try_get::<Option<&str>, _>(5)?.map(|text| texts.shared(text)),
        headers: row.try_get::<Option<Json<Map<String, Value>>>, _>(6)?.map(|Json(headers)| headers),
        time_us: row.try_get(7)?,
    })
}
