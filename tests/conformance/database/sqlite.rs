//! SQLite, on real files.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection, SqlitePool};
use tidelock::{
    database::{QuarantineEntry, sqlite::Sqlite},
    error::Result,
    message::MessageId,
};

use super::{UnderTest, database_clauses};
use crate::conformance::database_tests;

database_clauses!(database_tests);

/// A file, deleted at the end.
pub(in crate::conformance) struct Own {
    folder: PathBuf,
    sqlite: Sqlite,
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl UnderTest for Own {
    type Own = Sqlite;

    const PREFIX: &str = "tidelock_";
    const RUIN: &str = "INSERT OR ROLLBACK INTO effect VALUES (NULL)";

    async fn bare() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("clause_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir(&folder).unwrap();
        Self { sqlite: Sqlite::open(folder.join("clause.db")).await.unwrap(), folder }
    }

    fn own(&self) -> &Sqlite {
        &self.sqlite
    }

    async fn another(&self) -> Sqlite {
        Sqlite::open(self.folder.join("clause.db")).await.unwrap()
    }

    async fn of_the_service(&self) -> sqlx::Transaction<'static, sqlx::Sqlite> {
        let pool = SqlitePool::connect_lazy_with(self.sqlite.options());
        pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    async fn migrate(own: &Sqlite) -> Result<()> {
        own.migrate().await
    }

    async fn run(connection: &mut SqliteConnection, statements: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.map(drop)
    }

    async fn count(&self, table: &str) -> i64 {
        let mut connection = SqliteConnection::connect_with(&self.sqlite.options()).await.unwrap();
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query(count).fetch_one(&mut connection).await.unwrap().get(0)
    }

    async fn entries(&self) -> Vec<QuarantineEntry> {
        self.sqlite.quarantine(100).await.unwrap()
    }

    async fn release(&self, id: MessageId) -> Result<u64> {
        self.sqlite.release(id).await
    }
}
