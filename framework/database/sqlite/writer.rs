//! The only connection that the framework writes with, and transactions on it.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, SqlSafeStr as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteTransactionManager as Manager},
};
use sqlx_core::transaction::TransactionManager as _;
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::{Sqlite, fault};
use crate::{
    commit::Commit,
    error::{Error, Kind, Result},
};

/// How long to wait for the writing connection: a whole queue of handlers fits in, a handler that waits for itself
/// shows.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What SQLite reports of the transactions on the connection.
#[derive(Default)]
struct Watch {
    /// A transaction is open that only its owner may commit.
    closed: AtomicBool,
    /// How many transactions have ended, either way.
    ended: AtomicU64,
}

/// The connection. Whoever has it locked is the process's writer.
pub(super) struct Writer {
    connection: SqliteConnection,
    watch: Arc<Watch>,
    /// Nobody knows what state the connection is in.
    broken: bool,
}

impl Writer {
    pub(super) async fn open(options: &SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let (connection, watch) = watched(options).await?;
        Ok(Self { connection, watch, broken: false })
    }

    /// As good as new, whatever the last one left behind.
    async fn ready(&mut self, options: &SqliteConnectOptions, in_memory: bool) -> Result<(), sqlx::Error> {
        // In memory there is nothing to replace a connection with.
        if self.broken || !in_memory && self.connection.ping().await.is_err() || !self.heal().await {
            if in_memory {
                return Err(sqlx::Error::WorkerCrashed);
            }
            self.broken = true;
            let old = std::mem::replace(self, Self::open(options).await?);
            // Its transaction, if it has one, ends here. An error means that it has none.
            let _ = old.connection.close().await;
        }
        self.watch.closed.store(false, SeqCst);
        Ok(())
    }

    /// Rolls back what is left open.
    async fn heal(&mut self) -> bool {
        for _ in 0..3 {
            if Manager::get_transaction_depth(&self.connection) == 0 {
                return true;
            }
            if Manager::rollback(&mut self.connection).await.is_err() {
                // SQLite has ended the transaction, sqlx has not counted that: now there is one to roll back.
                let _ = sqlx::raw_sql("BEGIN").execute(&mut self.connection).await;
            }
        }
        false
    }
}

/// A connection whose transactions are reported to the watch. While that is closed, every COMMIT rolls back: also the
/// one that SQLite makes of itself after each statement, once a failure has ended the transaction.
async fn watched(options: &SqliteConnectOptions) -> Result<(SqliteConnection, Arc<Watch>), sqlx::Error> {
    let watch = Arc::new(Watch::default());
    let mut connection = options.connect().await?;
    let mut handle = connection.lock_handle().await?;
    let watching = watch.clone();
    handle.set_commit_hook(move || {
        let open = !watching.closed.load(SeqCst);
        if open {
            watching.ended.fetch_add(1, SeqCst);
        }
        open
    });
    let watching = watch.clone();
    handle.set_rollback_hook(move || {
        watching.ended.fetch_add(1, SeqCst);
    });
    drop(handle);
    Ok((connection, watch))
}

/// The writing connection, for statements that are transactions of their own.
pub(super) struct Writing(OwnedMutexGuard<Writer>);

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.0.connection
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.0.connection
    }
}

/// A connection that only reads.
pub(super) enum Reading {
    Own(SqliteConnection),
    Writing(Writing),
}

impl Reading {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Writing(writing) => writing,
        }
    }
}

impl Sqlite {
    /// Waits until it is this task's turn to write.
    pub(super) async fn writer(&self) -> Result<Writing> {
        let turn = timeout(PATIENCE, self.shared.writer.clone().lock_owned()).await;
        let mut writer = turn.map_err(not_free)?;
        let ready = writer.ready(&self.shared.options, self.shared.in_memory);
        self.call(ready).await.map_err(fault::failed("take up the writing connection"))?;
        Ok(Writing(writer))
    }

    /// A connection for what only reads, and need not see what is being written: it waits for nobody. In memory, where
    /// there is one connection, it is the writer's turn.
    pub(super) async fn reading(&self) -> Result<Reading> {
        if self.shared.in_memory {
            return self.writer().await.map(Reading::Writing);
        }
        let own = self.call(self.shared.options.connect()).await;
        own.map(Reading::Own).map_err(fault::failed("connect to read"))
    }

    /// Begins a transaction that may write.
    pub(super) async fn begin_writing(&self) -> Result<SqliteTransaction> {
        let Writing(mut writer) = self.writer().await?;
        let begin = Manager::begin(&mut writer.connection, Some("BEGIN IMMEDIATE".into_sql_str()));
        self.call(begin).await.map_err(fault::failed("begin a transaction"))?;
        let since = writer.watch.ended.load(SeqCst);
        writer.watch.closed.store(true, SeqCst);
        Ok(SqliteTransaction { database: self.clone(), writer, since, open: true, quiet: true })
    }
}

/// An open transaction of the one writer; use it as the native connection. Dropped, it rolls back before the connection
/// is used again. `COMMIT` as a statement is refused and rolls back.
pub struct SqliteTransaction {
    database: Sqlite,
    writer: OwnedMutexGuard<Writer>,
    /// How many transactions had ended before this one.
    since: u64,
    open: bool,
    /// Nothing is on its way to SQLite: everything that was begun was waited for.
    quiet: bool,
}

impl fmt::Debug for SqliteTransaction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SqliteTransaction").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Deref for SqliteTransaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.writer.connection
    }
}

impl DerefMut for SqliteTransaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.quiet = false;
        &mut self.writer.connection
    }
}

impl SqliteTransaction {
    /// # Errors
    /// Kind `Handler` when it has ended already, by a statement or by a failure.
    pub(super) fn require_open(&self) -> Result<()> {
        match self.ended() {
            0 => Ok(()),
            _ => Err(ended()),
        }
    }

    fn ended(&self) -> u64 {
        self.writer.watch.ended.load(SeqCst) - self.since
    }

    /// Commits and tells the truth about it.
    pub(super) async fn commit(mut self) -> Commit {
        let database = self.database.clone();
        database.call(self.end()).await
    }

    /// A statement of the framework was waited for, and with it everything that was begun before.
    pub(super) fn waited_for(&mut self) {
        self.quiet = true;
    }

    /// Commits statements of the framework, all of which were waited for; an error leaves open whether they took effect
    /// only where its kind is `Unknown`.
    pub(super) async fn save(mut self) -> Result<()> {
        self.waited_for();
        self.save_all().await
    }

    /// The same, whatever was begun.
    pub(super) async fn save_all(self) -> Result<()> {
        match self.commit().await {
            Commit::Committed => Ok(()),
            Commit::Aborted(error) | Commit::Unknown(error) => Err(error),
        }
    }

    async fn end(&mut self) -> Commit {
        // Whatever a handler began and did not wait for is done after this.
        if !self.quiet
            && let Err(error) = self.writer.connection.ping().await
        {
            return Commit::Aborted(fault::failed("commit")(error));
        }
        if let Err(error) = self.require_open() {
            return Commit::Aborted(error);
        }
        self.writer.watch.closed.store(false, SeqCst);
        match Manager::commit(&mut self.writer.connection).await {
            Ok(()) if self.ended() == 1 => {
                self.open = false;
                Commit::Committed
            }
            Ok(()) if self.ended() == 0 => {
                Commit::Aborted(Error::new(Kind::Handler, "a handler left a savepoint open"))
            }
            Ok(()) => Commit::Unknown(ended()),
            Err(error) if fault::refused(&error) => Commit::Aborted(fault::failed("commit")(error)),
            Err(error) => {
                self.writer.broken = true;
                Commit::Unknown(Error::caused(Kind::Unknown, "the outcome of COMMIT is not known", error))
            }
        }
    }

    /// Rolls back and gives the connection back.
    pub(super) async fn rollback(mut self) {
        let database = self.database.clone();
        // After an error the next user of the connection finds it and heals it.
        if database.call(Manager::rollback(&mut self.writer.connection)).await.is_ok() {
            self.open = false;
        }
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if self.open {
            Manager::start_rollback(&mut self.writer.connection);
        }
    }
}

/// The turn did not come.
pub(super) fn not_free<E>(_: E) -> Error {
    let what = "the writing connection was not free within";
    Error::new(Kind::Timeout, format!("{what} {PATIENCE:?}: a handler holds it, or waits for itself"))
}

fn ended() -> Error {
    let what = "the transaction was ended, by COMMIT or ROLLBACK of a handler (not allowed there) or by a failed \
                statement";
    Error::new(Kind::Handler, what)
}
