//! Creates and upgrades the framework's own tables.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, Row};
use tracing::info;

use super::{Postgres, fault, in_schema};
use crate::{
    database::migration::{Migration, Version},
    error::{Error, Kind, Result},
};

const MIGRATIONS: &[Migration] = &[
    Migration { needs: 1, sql: include_str!("../../../migrations/postgres/0001_core.sql") },
    Migration { needs: 1, sql: include_str!("../../../migrations/postgres/0002_topic_id.sql") },
    Migration { needs: 1, sql: include_str!("../../../migrations/postgres/0003_quarantine_key.sql") },
    Migration { needs: 1, sql: include_str!("../../../migrations/postgres/0004_claim.sql") },
];
const OLDEST_SERVER: i32 = 130_000;
/// How long a change may wait for a lock: everybody else waits behind it. Less than PostgreSQL's `deadlock_timeout` (1 s), so
/// that the upgrade gives way where it and a handler wait for each other.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long everybody else goes first after that.
const PAUSE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

impl Postgres {
    /// Creates or upgrades the framework's schema; any number of instances may do so at the same time. A transaction that is
    /// open for long and has read one of its tables holds an upgrade up, but not what others do with the table: they wait
    /// half a second at most, and go first for two, again and again for a minute.
    ///
    /// # Errors
    /// Kind `Unavailable` if that was not enough. Kind `Config` for a server older than 13, or a schema that only newer
    /// versions of the framework may work on. One that was upgraded by additions alone is welcome: old processes run
    /// beside new ones.
    pub async fn migrate(&self) -> Result<()> {
        let schema = &self.0.schema;
        // Whoever waits for the lock must see what was done meanwhile, whatever the default is.
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        let mut transaction = self.0.pool.begin_with(begin).await.map_err(fault::failed("migrate"))?;
        let outcome = migrate(&mut transaction, schema).await;
        match outcome {
            Ok(applied) => {
                transaction.commit().await.map_err(fault::failed("migrate"))?;
                if applied > 0 {
                    info!(schema, applied, version = MIGRATIONS.len(), "migrated");
                }
                Ok(())
            }
            Err(error) => {
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }
}

async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<usize> {
    let failed = || fault::failed(format!("migrate schema {schema:?}"));
    let server: i32 = sqlx::query("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed())?
        .get(0);
    if server < OLDEST_SERVER {
        return Err(Error::new(
            Kind::Config,
            format!("the server is PostgreSQL {}, the outbox needs 13 or newer (xid8)", server / 10_000),
        ));
    }
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('tidelock migrate ' || $1, 0))")
        .bind(schema)
        .execute(&mut *connection)
        .await
        .map_err(failed())?;
    // Looked at first: where there is nothing to do, no privilege to create is needed.
    let begun = in_schema("SELECT to_regclass('tidelock.migration') IS NOT NULL", schema);
    let begun = sqlx::query(sqlx::AssertSqlSafe(begun)).fetch_one(&mut *connection).await.map_err(failed())?;
    if !begun.get::<bool, _>(0) {
        let prepare = "CREATE SCHEMA IF NOT EXISTS \"tidelock\"; CREATE TABLE tidelock.migration \
                       (version int PRIMARY KEY, needs int NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
        let prepare = in_schema(prepare, schema).replace("\"tidelock\"", &format!("\"{schema}\""));
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection).await.map_err(failed())?;
    }
    let version = "SELECT coalesce(max(version), 0), coalesce(max(needs), 0) FROM tidelock.migration";
    let version = in_schema(version, schema);
    let row = sqlx::query(sqlx::AssertSqlSafe(version)).fetch_one(&mut *connection).await.map_err(failed())?;
    let version = Version { number: row.get::<i32, _>(0) as usize, needs: row.get(1) };
    let missing = version.missing(&format!("schema {schema:?}"), MIGRATIONS)?;
    let limit = format!("SET LOCAL lock_timeout = {}", LOCK_TIMEOUT.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(limit)).execute(&mut *connection).await.map_err(failed())?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Back to here all that it has locked is let go, but not the right to migrate.
        let mut attempt = connection.begin().await.map_err(failed())?;
        match apply(&mut attempt, schema, version.number, missing).await {
            Ok(()) => break attempt.commit().await.map_err(failed())?,
            Err(error) if fault::waited_in_vain(&error) && Instant::now() < deadline => {
                info!(schema, %error, "a table is in use, trying again");
                attempt.rollback().await.map_err(failed())?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(missing.len())
}

async fn apply(
    connection: &mut PgConnection,
    schema: &str,
    version: usize,
    missing: &[Migration],
) -> sqlx::Result<()> {
    for (number, Migration { sql, needs }) in (version as i32 + 1..).zip(missing) {
        let sql = in_schema(sql, schema);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await?;
        let note = in_schema("INSERT INTO tidelock.migration (version, needs) VALUES ($1, $2)", schema);
        sqlx::query(sqlx::AssertSqlSafe(note)).bind(number).bind(needs).execute(&mut *connection).await?;
    }
    Ok(())
}
