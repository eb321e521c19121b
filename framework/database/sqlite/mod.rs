//! SQLite 3.42 or newer in WAL mode; all of its SQL lies here and in `migrations/sqlite`.
//!
//! # One writer
//! SQLite lets one connection write at a time. Everything that the framework writes goes through one connection, behind
//! a lock that is waited for as any other future: tasks of one process never keep each other waiting inside SQLite.
//! Other processes, and pools of the service's own, are met with `BEGIN IMMEDIATE` and a time-out; one that is busy for
//! longer is an error of kind `Unavailable`, and is tried again.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tidelock::error::Result<()> {
//! use tidelock::{database::sqlite::Sqlite, outbox::Outgoing};
//!
//! # let path = std::env::temp_dir().join(format!("tidelock_doc_{}.db", std::process::id()));
//! let sqlite = Sqlite::open(&path).await?;
//! sqlite.migrate().await?;
//! # (async || -> Result<(), Box<dyn std::error::Error>> {
//! // In a transaction of the service's own pool:
//! let pool = sqlx::SqlitePool::connect_with(sqlite.options()).await?;
//! let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
//! let message = Outgoing::raw("orders", "order-1", Some("made".into()));
//! sqlite.outbox().enqueue_message(&mut transaction, message).await?;
//! transaction.commit().await?;
//! sqlite.outbox().committed();
//! # pool.close().await;
//! # Ok(()) })().await.unwrap();
//! // Or in one of the framework's writer, which tasks of this process take in turn:
//! let mut transaction = sqlite.outbox().begin().await?;
//! transaction.enqueue_message(Outgoing::raw("orders", "order-1", Some("paid".into())));
//! transaction.commit().await?;
//! # drop(sqlite);
//! # let _ = std::fs::remove_file(&path);
//! # Ok(())
//! # }
//! ```
//!
//! A batch of handlers holds the lock from its beginning to its commit, and ends after 250 ms, with the handler that runs
//! then: the next batch begins behind everybody of this process who waits. Other processes, and pools of the service's
//! own, cannot queue up; for them handlers rest for a tenth of a second after each second of work under a steady
//! backlog. Whatever else a handler waits for, everybody waits for: no request to another service belongs into it, and
//! no second transaction ([`Sqlite::outbox`]'s `begin`), which would wait for the handler itself.
//!
//! # What must hold
//! - Every connection to the file, of whatever program, leaves `synchronous` at `FULL` or `NORMAL`. With `OFF` a
//!   checkpoint may be undone by a loss of power, whoever wrote the rows. What other connections have set cannot be seen.
//! - The file lies on a local disk. Locks and shared memory of network file systems do not hold what WAL mode needs;
//!   SQLite cannot tell.
//! - `sqlite_sequence` is left alone, and the file is never copied over while a program has it open.
//! - With several shards, whoever writes rows of the outbox by hand gives each the bucket of its key: the first byte of its
//!   SHA-256, 227 without a key. At any other its shard stops, before anything passes it, and names the row and both buckets.
//!   To mend it, insert it anew and delete it, in one transaction: the bucket of a row is never changed, because the shard of
//!   the right one may have passed its place already.
//!
//! # What differs from PostgreSQL
//! Each of these has a test on both sides (`unlike_postgres.rs`, `unlike_sqlite.rs`); everything else that the contract
//! asks is the same.
//! - A statement that fails is undone alone, and the transaction goes on; what undid the whole transaction is told as if a
//!   statement had ended it.
//! - `COMMIT` as a statement is refused and rolls back, so that a handler's or a business transaction that was ended from
//!   within is known not to be committed; there, that stays unknown.
//! - What is enqueued in a transaction of the service's own pool that was ended from within is committed by itself: only
//!   the framework's writer notices.
//! - The bucket of a row is written by whoever writes the row, and looked at when it is read; there, the database computes
//!   it and takes no other.

use std::{
    fmt,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use sqlx::{
    SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep},
};

mod checks;
mod fault;
mod migrate;
mod position;
mod quarantine;
mod reader;
mod source;
mod store;
mod turns;
mod unit;
mod write;
mod writer;

pub use reader::SqliteReader;
pub use source::SqlitePublished;
pub use unit::SqliteUnit;
pub use writer::SqliteTransaction;

use self::{turns::Pace, writer::Writer};
use crate::error::{Error, Kind, Result};

/// How long SQLite waits for another process's transaction: longer than any that only writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new file may be locked by other processes that open it for the first time too.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
const OPEN_INTERVAL: Duration = Duration::from_millis(20);

/// An SQLite database. Cheap to clone.
#[derive(Clone)]
pub struct Sqlite {
    shared: Arc<Shared>,
    inline: bool,
}

struct Shared {
    options: SqliteConnectOptions,
    /// Nothing on disk: there is one connection, and the database ends with it.
    in_memory: bool,
    writer: Arc<Mutex<Writer>>,
    units: Arc<Mutex<Pace>>,
    hint: Arc<Notify>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.shared.options.get_filename();
        out.debug_struct("Sqlite").field("path", &path).field("in_memory", &self.shared.in_memory).finish()
    }
}

impl Sqlite {
    /// Opens the file, or creates it. Puts it into WAL mode.
    ///
    /// # Errors
    /// Kind `Config` for a path that is not one of a file, or cannot be opened; `Unavailable` while others lock it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = path.to_string_lossy();
        if text.is_empty() || text.starts_with(':') || text.starts_with("file:") {
            return Err(Error::new(
                Kind::Config,
                format!("database path {text:?} is not the path of a file"),
            ));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        Self::over(safe(options), false).await
    }

    /// A database of this process alone, gone with the last clone: for tests. It has one connection, so that readers
    /// wait for writers.
    ///
    /// # Errors
    /// Kind `Unavailable` when there is no memory.
    pub async fn in_memory() -> Result<Self> {
        Self::over(safe(SqliteConnectOptions::new().in_memory(true)), true).await
    }

    async fn over(options: SqliteConnectOptions, in_memory: bool) -> Result<Self> {
        let until = Instant::now() + OPEN_PATIENCE;
        let writer = loop {
            match Writer::open(&options).await {
                // The change to WAL mode does not wait for others that make it at the same time.
                Err(error) if fault::is_busy(&error) && Instant::now() < until => sleep(OPEN_INTERVAL).await,
                outcome => break outcome,
            }
        };
        let what = || format!("open database {:?}", options.get_filename());
        let writer = Arc::new(Mutex::new(writer.map_err(fault::failed(what()))?));
        let (units, hint) = (Arc::default(), Arc::default());
        Ok(Self { shared: Arc::new(Shared { options, in_memory, writer, units, hint }), inline: false })
    }

    /// Every statement of the framework is finished on the spot, without another task running meanwhile: for simulations
    /// on a clock that stands still. Only the wait for the writing connection stays one.
    #[doc(hidden)]
    #[must_use]
    pub fn inline(self) -> Self {
        Self { inline: true, ..self }
    }

    /// For connections of the service's own to the same file: commits that survive a loss of power, foreign keys, and the
    /// same time-out. Begin transactions that write with `begin_with("BEGIN IMMEDIATE")`: SQLite refuses to make a
    /// writer of a transaction that has read what somebody else changed since. Of a database in memory these are the
    /// options of another, empty one.
    pub fn options(&self) -> SqliteConnectOptions {
        self.shared.options.clone()
    }

    /// The one way to SQLite: everything that talks to it goes through here.
    async fn call<F: Future>(&self, talk: F) -> F::Output {
        match self.inline {
            true => on_the_spot(talk),
            false => talk.await,
        }
    }
}

/// Finishes it while no other task runs. SQLite answers from a thread of its own: on one core it takes turns with this
/// one, which costs less than to sleep and be woken for each answer.
#[doc(hidden)]
pub fn on_the_spot<F: Future>(talk: F) -> F::Output {
    let mut talk = pin!(talk);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match talk.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// The row that a statement writes. Not `fetch_one`, which ends the statement at the row: an error of the commit, which
/// comes after it, would be lost.
async fn written<'q>(
    statement: Query<'q, sqlx::Sqlite, SqliteArguments>,
    connection: &mut SqliteConnection,
) -> Result<SqliteRow, sqlx::Error> {
    statement.fetch_all(connection).await?.pop().ok_or(sqlx::Error::RowNotFound)
}

fn safe(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Apple's fsync leaves the data in the disk's cache; elsewhere this changes nothing.
        .pragma("fullfsync", "ON")
        .pragma("checkpoint_fullfsync", "ON")
}
