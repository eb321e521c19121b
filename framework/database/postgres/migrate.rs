//! Creates and upgrades the framework's own tables.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tracing::info;

use super::{Postgres, fault, in_schema, within};
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
/// How long it is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long another instance is waited for that may be trying.
const TURN: Duration = Duration::from_secs(90);
/// After how long without a statement the server ends an upgrade, because its process is stopped or its host gone. Longer
/// than a pause, and soon: others wait for what it has locked.
const IDLE: Duration = Duration::from_secs(10);

impl Postgres {
    /// Creates or upgrades the framework's schema; any number of instances may do so at the same time, one after the other. A
    /// transaction that is open for long and has read one of its tables holds an upgrade up, but not what others do with the
    /// table: they wait half a second at most, and go first for two, again and again for a minute. An instance that is stopped
    /// in the middle of it, or whose host is gone, holds nobody up for long either: the server ends its transaction after
    /// 10 s without a statement.
    ///
    /// # Errors
    /// After any, it may be called again. Kind `Unavailable` if a minute was not enough, or if another
    /// instance was at it for 90 s. Kind `Timeout` when the server does not answer within
    /// [`answer_timeout`](super::PostgresConfig::answer_timeout); a change itself may take as long as it takes. Kind `Denied`
    /// without the right to create what is missing. Kind `Config` for a server older than 13, or a schema that only newer
    /// versions of the framework may work on; one that was upgraded by additions alone is welcome: old processes run
    /// beside new ones.
    pub async fn migrate(&self) -> Result<()> {
        self.migrate_in_turn(TURN).await
    }

    /// The same with another wait for other instances, for tests.
    #[doc(hidden)]
    pub async fn migrate_in_turn(&self, turn: Duration) -> Result<()> {
        let schema = &self.0.schema;
        let what = format!("migrate schema {schema:?}");
        // Whoever waits for the lock must see what was done meanwhile, whatever the default is.
        let begin = AssertSqlSafe(format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            turn.as_millis(),
            IDLE.as_millis()
        ));
        let mut transaction = self.answer(&what, self.0.pool.begin_with(begin)).await?;
        let applied = self.upgrade(&mut transaction, &what, turn).await?;
        self.answer(&what, transaction.commit()).await?;
        if applied > 0 {
            info!(schema, applied, version = MIGRATIONS.len(), "migrated");
        }
        Ok(())
    }

    /// Answers how many versions were missing.
    async fn upgrade(&self, connection: &mut PgConnection, what: &str, turn: Duration) -> Result<usize> {
        let schema = &self.0.schema;
        let server = sqlx::query("SELECT current_setting('server_version_num')::int");
        let server: i32 = self.answer(what, server.fetch_one(&mut *connection)).await?.get(0);
        if server < OLDEST_SERVER {
            let major = server / 10_000;
            let what = format!("the server is PostgreSQL {major}, the outbox needs 13 or newer (xid8)");
            return Err(Error::new(Kind::Config, what));
        }
        self.take_turn(&mut *connection, what, turn).await?;
        // Looked at first: where there is nothing to do, no privilege to create is needed.
        let begun = sqlx::query(self.sql("SELECT to_regclass('tidelock.migration') IS NOT NULL"));
        if !self.answer(what, begun.fetch_one(&mut *connection)).await?.get::<bool, _>(0) {
            let prepare = self.sql(&format!(
                "CREATE SCHEMA IF NOT EXISTS \"{schema}\"; CREATE TABLE tidelock.migration \
                 (version int PRIMARY KEY, needs int NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            ));
            self.answer(what, sqlx::raw_sql(prepare).execute(&mut *connection)).await?;
        }
        let version = "SELECT coalesce(max(version), 0), coalesce(max(needs), 0) FROM tidelock.migration";
        let version = sqlx::query(self.sql(version)).fetch_one(&mut *connection);
        let row = self.answer(what, version).await?;
        let version = Version { number: row.get::<i32, _>(0) as usize, needs: row.get(1) };
        let missing = version.missing(&format!("schema {schema:?}"), MIGRATIONS)?;
        let limit = AssertSqlSafe(format!("SET LOCAL lock_timeout = {}", LOCK_TIMEOUT.as_millis()));
        self.answer(what, sqlx::query(limit).execute(&mut *connection)).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Back to here all that it has locked is let go, but not the right to migrate.
            let mut attempt = self.answer(what, connection.begin()).await?;
            match apply(&mut attempt, schema, version.number, missing).await {
                Ok(()) => break self.answer(what, attempt.commit()).await?,
                Err(error) if fault::waited_in_vain(&error) && Instant::now() < deadline => {
                    info!(schema, %error, "a table is in use, trying again");
                    self.answer(what, attempt.rollback()).await?;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(fault::failed(what)(error)),
            }
        }
        Ok(missing.len())
    }

    /// One instance migrates at a time.
    async fn take_turn(&self, connection: &mut PgConnection, what: &str, turn: Duration) -> Result<()> {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('tidelock migrate ' || $1, 0))";
        let lock = sqlx::query(lock).bind(&self.0.schema).execute(connection);
        match within(turn.saturating_add(self.0.answer_timeout), what, lock).await? {
            Err(error) if fault::waited_in_vain(&error) => {
                let what = format!("{what}: waited {turn:?} for another session that is migrating it");
                Err(Error::caused(Kind::Unavailable, what, error))
            }
            outcome => outcome.map(drop).map_err(fault::failed(what)),
        }
    }
}

async fn apply(
    connection: &mut PgConnection,
    schema: &str,
    version: usize,
    missing: &[Migration],
) -> sqlx::Result<()> {
    for (number, Migration { sql, needs }) in (version as i32 + 1..).zip(missing) {
        let sql = in_schema(sql, schema);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
        let note = in_schema("INSERT INTO tidelock.migration (version, needs) VALUES ($1, $2)", schema);
        sqlx::query(AssertSqlSafe(note)).bind(number).bind(needs).execute(&mut *connection).await?;
    }
    Ok(())
}
