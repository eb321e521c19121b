//! Creates and upgrades the framework's own tables.

use sqlx::{Row, SqliteConnection};
use tracing::info;

use super::{Sqlite, fault::failed};
use crate::{
    database::migration::{Migration, Version},
    error::Result,
};

const MIGRATIONS: &[Migration] = &[
    Migration { needs: 1, sql: include_str!("../../../migrations/sqlite/0001_core.sql") },
    Migration { needs: 1, sql: include_str!("../../../migrations/sqlite/0002_topic_id.sql") },
    Migration { needs: 1, sql: include_str!("../../../migrations/sqlite/0003_claim.sql") },
    Migration { needs: 1, sql: include_str!("../../../migrations/sqlite/0004_bucket.sql") },
];
/// In errors.
const TABLES: &str = "the database";

impl Sqlite {
    /// Creates or upgrades the framework's tables, all named `tidelock_...`; any number of processes may do so at the
    /// same time.
    ///
    /// # Errors
    /// Kind `Config` for a library older than SQLite 3.42, or tables that only newer versions of the
    /// framework may work on.
    pub async fn migrate(&self) -> Result<()> {
        let mut connection = self.writer().await?;
        let version = self.call(version(&mut connection)).await.map_err(failed("migrate"))?;
        drop(connection);
        // Looked at first: where there is nothing to do, nobody waits for another process's transaction.
        if version.missing(TABLES, MIGRATIONS)?.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin_writing().await?;
        let version = self.call(self::version(&mut transaction)).await.map_err(failed("migrate"))?;
        let missing = version.missing(TABLES, MIGRATIONS)?;
        self.call(apply(&mut transaction, version, missing)).await.map_err(failed("migrate"))?;
        transaction.save().await?;
        if !missing.is_empty() {
            info!(applied = missing.len(), version = MIGRATIONS.len(), "migrated");
        }
        Ok(())
    }
}

async fn version(connection: &mut SqliteConnection) -> Result<Version, sqlx::Error> {
    let begun = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'tidelock_migration'";
    if sqlx::query(begun).fetch_one(&mut *connection).await?.try_get::<i64, _>(0)? == 0 {
        return Ok(Version { number: 0, needs: 0 });
    }
    let version = "SELECT coalesce(max(version), 0), coalesce(max(needs), 0) FROM tidelock_migration";
    let row = sqlx::query(version).fetch_one(connection).await?;
    Ok(Version { number: row.try_get::<i64, _>(0)? as usize, needs: row.try_get(1)? })
}

async fn apply(
    connection: &mut SqliteConnection,
    version: Version,
    missing: &'static [Migration],
) -> Result<(), sqlx::Error> {
    if version.number == 0 {
        let prepare = "CREATE TABLE IF NOT EXISTS tidelock_migration (version INTEGER PRIMARY KEY, \
                       needs INTEGER NOT NULL, applied_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))) STRICT";
        sqlx::raw_sql(prepare).execute(&mut *connection).await?;
    }
    for (number, Migration { sql, needs }) in (version.number as i64 + 1..).zip(missing) {
        sqlx::raw_sql(*sql).execute(&mut *connection).await?;
        sqlx::query("INSERT INTO tidelock_migration (version, needs) VALUES (?1, ?2)")
            .bind(number)
            .bind(needs)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
