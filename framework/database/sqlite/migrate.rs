//! Creates and upgrades the framework's own tables.

use sqlx::{Row, SqliteConnection};
use tracing::info;

use super::{Sqlite, fault::failed};
use crate::error::{Error, Kind, Result};

/// In order; the place is the version, from 1. Never changed once released.
const MIGRATIONS: &[&str] = &[include_str!("../../../migrations/sqlite/0001_core.sql")];

impl Sqlite {
    /// Creates or upgrades the framework's tables, all named `tidelock_...`; any number of processes may do so at the
    /// same time.
    ///
    /// # Errors
    /// Kind `Config` for a library older than SQLite 3.42, or tables that a newer version of the framework has upgraded.
    pub async fn migrate(&self) -> Result<()> {
        let mut connection = self.writer().await?;
        let version = self.call(version(&mut connection)).await.map_err(failed("migrate"))?;
        drop(connection);
        // Looked at first: where there is nothing to do, nobody waits for another process's transaction.
        if missing(version)?.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin_writing().await?;
        let version = self.call(self::version(&mut transaction)).await.map_err(failed("migrate"))?;
        let missing = missing(version)?;
        self.call(apply(&mut transaction, version, missing)).await.map_err(failed("migrate"))?;
        transaction.save().await?;
        if !missing.is_empty() {
            info!(applied = missing.len(), version = MIGRATIONS.len(), "migrated");
        }
        Ok(())
    }
}

fn missing(version: usize) -> Result<&'static [&'static str]> {
    MIGRATIONS.get(version..).ok_or_else(|| {
        let known = MIGRATIONS.len();
        let what = format!("the database has version {version}, this program knows up to version {known}");
        Error::new(Kind::Config, what)
    })
}

async fn version(connection: &mut SqliteConnection) -> Result<usize, sqlx::Error> {
    let begun = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'tidelock_migration'";
    if sqlx::query(begun).fetch_one(&mut *connection).await?.try_get::<i64, _>(0)? == 0 {
        return Ok(0);
    }
    let version = "SELECT coalesce(max(version), 0) FROM tidelock_migration";
    Ok(sqlx::query(version).fetch_one(connection).await?.try_get::<i64, _>(0)? as usize)
}

async fn apply(
    connection: &mut SqliteConnection,
    version: usize,
    missing: &[&'static str],
) -> Result<(), sqlx::Error> {
    if version == 0 {
        let prepare = "CREATE TABLE IF NOT EXISTS tidelock_migration (version INTEGER PRIMARY KEY, \
                       applied_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))) STRICT";
        sqlx::raw_sql(prepare).execute(&mut *connection).await?;
    }
    for (number, sql) in missing.iter().enumerate() {
        sqlx::raw_sql(*sql).execute(&mut *connection).await?;
        sqlx::query("INSERT INTO tidelock_migration (version) VALUES (?1)")
            .bind((version + number + 1) as i64)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
