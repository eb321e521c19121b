//! The file: one SQLite database, held exclusively; all SQL of this room.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{
    Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteRow, SqliteSynchronous},
};

use super::{
    journal::Change,
    partition::{Entry, Partition, weight},
    state::{Place, Topic},
};
use crate::{
    error::{Error, Kind, Result},
    log::Received,
};

/// The layout of the file.
const FORMAT: i32 = 1;
/// How long a file that was just closed may still be locked.
const LOCKED: Duration = Duration::from_secs(1);
/// Records written by one statement.
const ROWS: usize = 64;
/// Records read by one statement.
const PAGE: i64 = 100;

const SCHEMA: [&str; 5] = [
    "CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, compacted INTEGER NOT NULL)",
    "CREATE TABLE place (topic INTEGER NOT NULL, number INTEGER NOT NULL, first INTEGER NOT NULL, \
     next INTEGER NOT NULL, PRIMARY KEY (topic, number)) WITHOUT ROWID",
    "CREATE TABLE record (topic INTEGER NOT NULL, number INTEGER NOT NULL, at INTEGER NOT NULL, name BLOB, \
     payload BLOB, headers BLOB NOT NULL, time_ms INTEGER NOT NULL, appended_ms INTEGER NOT NULL, \
     PRIMARY KEY (topic, number, at)) WITHOUT ROWID",
    "CREATE TABLE committed (owner TEXT NOT NULL, topic TEXT NOT NULL, number INTEGER NOT NULL, \
     next INTEGER NOT NULL, PRIMARY KEY (owner, topic, number)) WITHOUT ROWID",
    "CREATE TABLE producer (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID",
];
const RECORD: &str = "SELECT at, name, payload, headers, time_ms, appended_ms FROM record \
                      WHERE topic = ? AND number = ? AND at >= ? AND at < ? ORDER BY at LIMIT ?";
const LATEST: &str = "SELECT at, name, payload, headers, time_ms, appended_ms FROM record \
                      WHERE topic = ? AND number = ? AND at >= ? AND at < ? ORDER BY at DESC LIMIT ?";

/// The open file.
pub(super) struct Store {
    connection: SqliteConnection,
    topics: BTreeMap<String, i64>,
}

/// What the file holds, but for records that are too old for memory.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) topics: Vec<Topic>,
    pub(super) epochs: Vec<(String, u64)>,
    pub(super) offsets: Vec<(String, Place, i64)>,
    /// When the last record was appended.
    pub(super) last_ms: i64,
}

/// What is left of a partition after old records were thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) place: Place,
    pub(super) start: i64,
    /// When the oldest record that is left was appended.
    pub(super) oldest_ms: Option<i64>,
}

impl Store {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// Kind `Unavailable` when another process, or another log of this one, has it open.
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Apple's fsync leaves the data in the disk's cache; elsewhere this changes nothing.
            .pragma("fullfsync", "ON")
            .pragma("checkpoint_fullfsync", "ON")
            .busy_timeout(LOCKED);
        let failed = |error: sqlx::Error| opening(path, error);
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let mut locked = connection.begin_with("BEGIN EXCLUSIVE").await.map_err(failed)?;
        let format: i32 =
            sqlx::query("PRAGMA user_version").fetch_one(&mut *locked).await.map_err(failed)?.get(0);
        let tables: i64 = sqlx::query("SELECT count(*) FROM sqlite_schema")
            .fetch_one(&mut *locked)
            .await
            .map_err(failed)?
            .get(0);
        match format {
            0 if tables == 0 => {
                for table in SCHEMA {
                    sqlx::query(table).execute(&mut *locked).await.map_err(failed)?;
                }
                sqlx::query("PRAGMA user_version = 1").execute(&mut *locked).await.map_err(failed)?;
            }
            FORMAT => {}
            other => {
                return Err(Error::new(
                    Kind::Config,
                    format!(
                        "embedded log {} has format {other} and {tables} tables, this program knows format {FORMAT}",
                        path.display()
                    ),
                ));
            }
        }
        locked.commit().await.map_err(failed)?;
        Ok(Self { connection, topics: BTreeMap::new() })
    }

    /// Reads what belongs into memory: of each partition the latest records up to so many bytes, at least one.
    pub(super) async fn load(&mut self, window_bytes: usize) -> Result<Stored> {
        let mut stored = Stored::default();
        let topics = self.all("SELECT id, name, compacted FROM topic ORDER BY name").await?;
        for row in topics {
            let (id, name): (i64, String) = (row.get(0), row.get(1));
            let name: Arc<str> = name.into();
            let places = sqlx::query(
                "SELECT first, next, (SELECT appended_ms FROM record AS r WHERE r.topic = p.topic \
                 AND r.number = p.number ORDER BY at LIMIT 1) FROM place AS p WHERE topic = ? ORDER BY number",
            )
            .bind(id)
            .fetch_all(&mut self.connection)
            .await
            .map_err(reading)?;
            let mut partitions = Vec::with_capacity(places.len());
            for (number, place) in places.iter().enumerate() {
                let at = (Arc::clone(&name), number as i32);
                let (start, end) = (place.get(0), place.get(1));
                let recent = self.latest(id, &at, window_bytes).await?;
                let last_ms = recent.last().map_or(0, |entry| entry.appended_ms);
                stored.last_ms = stored.last_ms.max(last_ms);
                partitions.push(Partition::restored(start, end, place.get(2), recent));
            }
            stored.topics.push(Topic::new(&name, row.get(2), partitions));
            self.topics.insert(name.to_string(), id);
        }
        for row in self.all("SELECT id, epoch FROM producer").await? {
            stored.epochs.push((row.get(0), row.get::<i64, _>(1) as u64));
        }
        for row in self.all("SELECT owner, topic, number, next FROM committed").await? {
            let place = (Arc::from(row.get::<String, _>(1)), row.get(2));
            stored.offsets.push((row.get(0), place, row.get(3)));
        }
        Ok(stored)
    }

    async fn all(&mut self, question: &'static str) -> Result<Vec<SqliteRow>> {
        sqlx::query(question).fetch_all(&mut self.connection).await.map_err(reading)
    }

    async fn page(
        &mut self,
        order: &'static str,
        topic: i64,
        of: i32,
        at: Range<i64>,
    ) -> Result<Vec<SqliteRow>> {
        let page = sqlx::query(order).bind(topic).bind(of).bind(at.start).bind(at.end).bind(PAGE);
        page.fetch_all(&mut self.connection).await.map_err(reading)
    }

    /// The latest records in order, all of them or so many bytes.
    async fn latest(&mut self, topic: i64, place: &Place, most_bytes: usize) -> Result<Vec<Entry>> {
        let (mut latest, mut bytes, mut below) = (Vec::new(), 0, i64::MAX);
        'pages: loop {
            let rows = self.page(LATEST, topic, place.1, 0..below).await?;
            for row in &rows {
                let entry = entry(place, row)?;
                bytes += weight(&entry);
                if bytes > most_bytes && !latest.is_empty() {
                    break 'pages;
                }
                below = entry.record.offset;
                latest.push(entry);
            }
            if rows.is_empty() {
                break;
            }
        }
        latest.reverse();
        Ok(latest)
    }

    /// Records of a range, at most so many and so many bytes; and the next offset to read from.
    pub(super) async fn read(
        &mut self,
        place: &Place,
        at: Range<i64>,
        most: (usize, usize),
    ) -> Result<(Vec<Received>, i64)> {
        let Some(topic) = self.topics.get(&*place.0).copied() else { return Ok((Vec::new(), at.end)) };
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, at.start);
        loop {
            let rows = self.page(RECORD, topic, place.1, next..at.end).await?;
            for row in &rows {
                let entry = entry(place, row)?;
                bytes += weight(&entry);
                if records.len() >= most.0 || (bytes > most.1 && !records.is_empty()) {
                    return Ok((records, next));
                }
                next = entry.record.offset + 1;
                records.push(entry.record);
            }
            if rows.is_empty() {
                return Ok((records, at.end));
            }
        }
    }

    /// Writes all changes in one transaction, which is on disk when this returns.
    ///
    /// # Errors
    /// Kind `Unavailable` when nothing of it is on disk and it may be tried again; `Storage` when it is not known what
    /// is, or trying again would not help.
    pub(super) async fn write(&mut self, changes: &[Change]) -> Result<Vec<Left>> {
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut self.connection).await.map_err(unwritten)?;
        let mut left = Vec::new();
        for change in changes {
            if let Err(error) = write(&mut self.connection, &mut self.topics, change, &mut left).await {
                // An error: SQLite has done so itself.
                let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
                return Err(unwritten(error));
            }
        }
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.map_err(undecided)?;
        Ok(left)
    }

    pub(super) async fn close(self) -> Result<()> {
        let what = "embedded log cannot be closed";
        self.connection.close().await.map_err(|error| Error::caused(Kind::Unavailable, what, error))
    }

    /// The connection, for tests that let it fail.
    #[cfg(test)]
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

async fn write(
    writing: &mut SqliteConnection,
    topics: &mut BTreeMap<String, i64>,
    change: &Change,
    left: &mut Vec<Left>,
) -> Result<(), sqlx::Error> {
    match change {
        Change::Topic { name, partitions, compacted } => {
            let new = sqlx::query("INSERT INTO topic (name, compacted) VALUES (?, ?)");
            let id = new.bind(name).bind(compacted).execute(&mut *writing).await?.last_insert_rowid();
            for number in 0..*partitions {
                let new = sqlx::query("INSERT INTO place (topic, number, first, next) VALUES (?, ?, 0, 0)");
                new.bind(id).bind(number).execute(&mut *writing).await?;
            }
            topics.insert(name.clone(), id);
        }
        Change::Epoch { id, epoch } => {
            let epoch = i64::try_from(*epoch).unwrap_or(i64::MAX);
            let new = sqlx::query("INSERT OR REPLACE INTO producer (id, epoch) VALUES (?, ?)");
            new.bind(id).bind(epoch).execute(&mut *writing).await?;
        }
        Change::End { place, end } => {
            let moved = sqlx::query("UPDATE place SET next = ? WHERE topic = ? AND number = ?");
            moved.bind(end).bind(topics.get(&*place.0)).bind(place.1).execute(&mut *writing).await?;
        }
        Change::Commit { records, offsets, .. } => {
            for rows in records.chunks(ROWS) {
                insert(writing, topics, rows).await?;
            }
            for (group, place, next) in offsets {
                let new = "INSERT OR REPLACE INTO committed (owner, topic, number, next) VALUES (?, ?, ?, ?)";
                let new = sqlx::query(new).bind(group).bind(&*place.0).bind(place.1).bind(next);
                new.execute(&mut *writing).await?;
            }
        }
        Change::Expired { place, cutoff_ms } => {
            left.extend(expire(writing, topics.get(&*place.0).copied(), place, *cutoff_ms).await?);
        }
        Change::Cleaned { place, below, cutoff_ms } => {
            let clean = "DELETE FROM record WHERE topic = ?1 AND number = ?2 AND at < ?3 \
                 AND at < (SELECT max(at) FROM record WHERE topic = ?1 AND number = ?2 AND at < ?3) \
                 AND ((payload IS NULL AND appended_ms < ?4) OR at NOT IN (SELECT max(at) FROM record \
                 WHERE topic = ?1 AND number = ?2 AND at < ?3 GROUP BY name))";
            let clean = sqlx::query(clean).bind(topics.get(&*place.0)).bind(place.1);
            clean.bind(below).bind(cutoff_ms).execute(&mut *writing).await?;
        }
    }
    Ok(())
}

async fn insert(
    writing: &mut SqliteConnection,
    topics: &BTreeMap<String, i64>,
    rows: &[Entry],
) -> Result<(), sqlx::Error> {
    let mut encoded = Vec::with_capacity(rows.len());
    for Entry { record, .. } in rows {
        encoded
            .push(postcard::to_allocvec(&record.headers).map_err(|error| sqlx::Error::Encode(error.into()))?);
    }
    let new = "INSERT INTO record (topic, number, at, name, payload, headers, time_ms, appended_ms) ";
    let mut new = sqlx::QueryBuilder::new(new);
    new.push_values(rows.iter().zip(encoded), |mut row, (Entry { record, appended_ms }, headers)| {
        row.push_bind(topics.get(&*record.topic).copied())
            .push_bind(record.partition)
            .push_bind(record.offset)
            .push_bind(record.key.as_ref().map(|key| key.to_vec()))
            .push_bind(record.payload.as_ref().map(|payload| payload.to_vec()))
            .push_bind(headers)
            .push_bind(record.time_ms)
            .push_bind(*appended_ms);
    });
    new.build().execute(&mut *writing).await.map(drop)
}

/// Offsets and times of appending rise together: what is old comes first.
async fn expire(
    writing: &mut SqliteConnection,
    topic: Option<i64>,
    place: &Place,
    cutoff_ms: i64,
) -> Result<Option<Left>, sqlx::Error> {
    let young = "SELECT at, appended_ms FROM record WHERE topic = ? AND number = ? AND appended_ms >= ? \
                 ORDER BY at LIMIT 1";
    let young = sqlx::query(young).bind(topic).bind(place.1).bind(cutoff_ms);
    let young = young.fetch_optional(&mut *writing).await?;
    let (below, oldest_ms) = match &young {
        Some(row) => (row.get(0), Some(row.get(1))),
        None => (i64::MAX, None),
    };
    let last = "SELECT max(at) FROM record WHERE topic = ? AND number = ? AND at < ?";
    let last = sqlx::query(last).bind(topic).bind(place.1).bind(below).fetch_one(&mut *writing).await?;
    let Some(last) = last.get::<Option<i64>, _>(0) else { return Ok(None) };
    let gone = sqlx::query("DELETE FROM record WHERE topic = ? AND number = ? AND at <= ?");
    gone.bind(topic).bind(place.1).bind(last).execute(&mut *writing).await?;
    let start = last + 1;
    let first = sqlx::query("UPDATE place SET first = ? WHERE topic = ? AND number = ?");
    first.bind(start).bind(topic).bind(place.1).execute(&mut *writing).await?;
    Ok(Some(Left { place: place.clone(), start, oldest_ms }))
}

fn entry(place: &Place, row: &SqliteRow) -> Result<Entry> {
    let offset: i64 = row.get(0);
    let headers = postcard::from_bytes(row.get::<&[u8], _>(3)).map_err(|error| {
        let what = format!("headers of {}[{}] offset {offset} cannot be decoded", place.0, place.1);
        Error::caused(Kind::Corrupt, what, error)
    })?;
    let record = Received {
        topic: Arc::clone(&place.0),
        partition: place.1,
        offset,
        key: row.get::<Option<Vec<u8>>, _>(1).map(Bytes::from),
        payload: row.get::<Option<Vec<u8>>, _>(2).map(Bytes::from),
        headers,
        time_ms: row.get(4),
    };
    Ok(Entry { record, appended_ms: row.get(5) })
}

fn opening(path: &Path, error: sqlx::Error) -> Error {
    let locked = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "5");
    let path = path.display();
    match locked {
        true => Error::new(Kind::Unavailable, format!("embedded log {path} is open in another process")),
        false => Error::caused(Kind::Config, format!("embedded log {path} cannot be opened"), error),
    }
}

fn reading(error: sqlx::Error) -> Error {
    Error::caused(Kind::Unavailable, "embedded log cannot be read", error)
}

/// Whether nothing but the moment was wrong: somebody has it locked, memory or the disk is full, the disk failed.
fn may_pass(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    matches!(code.map(|code| code & 0xff), Some(5 | 6 | 7 | 9 | 10 | 13 | 14))
}

/// Before COMMIT: nothing is on disk.
fn unwritten(error: sqlx::Error) -> Error {
    match may_pass(&error) {
        true => Error::caused(Kind::Unavailable, "embedded log cannot be written now", error),
        false => Error::caused(Kind::Storage, "embedded log cannot be written", error),
    }
}

/// SQLite may not have written the commit, or not all of it, or not have heard that it is on disk.
fn undecided(error: sqlx::Error) -> Error {
    let what = "embedded log must be opened again: it is not known whether its last commit is on disk";
    Error::caused(Kind::Storage, what, error)
}
