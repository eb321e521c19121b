//! PostgreSQL 13 or newer; all of its SQL lies here and in `migrations/postgres`.
//!
//! Where it differs from SQLite is listed there: [`sqlite`](super::sqlite).

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::{sync::Notify, time::timeout};

mod checks;
mod config;
mod fault;
mod identity;
mod migrate;
mod position;
mod quarantine;
mod reader;
mod silence;
mod snapshot;
mod source;
mod store;
mod unit;
mod write;

pub use config::PostgresConfig;
pub use unit::PostgresUnit;

pub use super::QuarantineEntry;

use silence::Silence;

use crate::{
    config::Problems,
    error::{Error, Kind, Result},
};

/// How long the reason is looked for why no connection came about.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Connections for fence rows, clean-up and quarantine: never waited for by a handler's transaction.
const CONTROL_CONNECTIONS: u32 = 4;

/// What to say of a server in recovery, whose tables may lag behind.
const STANDBY: &str = "the server is a standby, expected the primary";

/// How long the framework's own statements wait for a lock: then they are tried again, and it shows that they wait.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A PostgreSQL database. Cheap to clone.
#[derive(Clone)]
pub struct Postgres(Arc<Shared>);

struct Shared {
    pool: PgPool,
    control: PgPool,
    schema: String,
    idle_in_transaction: Duration,
    answer_timeout: Duration,
    silence: Silence,
    hint: Arc<Notify>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Postgres").field("schema", &self.0.schema).finish_non_exhaustive()
    }
}

/// The text may hold a password: only its scheme is told.
fn options(url: &str) -> Result<PgConnectOptions> {
    const EXPECTED: &str = "expected postgres://user@host:port/database";
    let (scheme, _) = url.split_once("://").unwrap_or_default();
    if !matches!(scheme, "postgres" | "postgresql") {
        let found =
            if scheme.is_empty() { "has no scheme".to_owned() } else { format!("begins with {scheme}://") };
        return Err(Error::new(Kind::Config, format!("database url {found}, {EXPECTED}")));
    }
    PgConnectOptions::from_str(url)
        .map_err(|_| Error::new(Kind::Config, format!("database url cannot be read, {EXPECTED}")))
}

impl Postgres {
    /// Connects.
    ///
    /// # Errors
    /// Kind `Config` for settings that cannot be right, or a database that does not exist; `Denied`, at once, for a wrong password
    /// or a role that may not log in; `Unavailable` when the server does not answer within `connect_timeout`.
    pub async fn connect(config: PostgresConfig) -> Result<Self> {
        let mut problems = Problems::default();
        problems.check(!config.url.expose().is_empty(), || "database url is not set".to_owned());
        config.report(&mut problems);
        problems.into_result()?;
        let options = options(config.url.expose())?;
        let at = format!("PostgreSQL at {}:{}", options.get_host(), options.get_port());
        let silence = Silence::default();
        let pool = silence
            .watched(&config)
            .max_connections(config.max_connections)
            .connect_with(options.clone())
            .await;
        let pool = match pool {
            // A pool tries again while a server starts, and in the end knows no reason but that it took too long.
            Err(sqlx::Error::PoolTimedOut) => {
                let within = config.connect_timeout;
                let reason = timeout(LAST_LOOK, PgConnection::connect_with(&options)).await;
                let late = || Error::new(Kind::Unavailable, format!("{at}: no connection within {within:?}"));
                return Err(match reason {
                    Ok(Err(reason)) => Error::caused(Kind::Unavailable, late().to_string(), reason),
                    _ => late(),
                });
            }
            outcome => outcome.map_err(fault::failed(format!("connect to {at}")))?,
        };
        Self::over(pool, config, silence)
    }

    /// Uses the service's own pool for handlers; `config.url` and `config.max_connections` do not matter then. A
    /// connection whose server is gone without a word keeps its place in such a pool until the operating system gives
    /// it up, unless the pool's `after_release` closes what does not answer; and one that was at rest costs whoever is
    /// given it the pool's whole `acquire_timeout`, unless its `before_acquire` gives it up sooner. A statement that waits for a
    /// lock when its connection is given up waits on in the server, unless `client_connection_check_interval` is set.
    ///
    /// # Errors
    /// Kind `Config` for settings that cannot be right.
    pub fn from_pool(pool: PgPool, config: PostgresConfig) -> Result<Self> {
        let mut problems = Problems::default();
        config.report(&mut problems);
        problems.into_result()?;
        Self::over(pool, config, Silence::default())
    }

    fn over(pool: PgPool, config: PostgresConfig, silence: Silence) -> Result<Self> {
        // Durable commits and an error instead of missing rows, whatever the role's defaults are.
        let idle_in_transaction = config.idle_in_transaction_timeout;
        let safe = [
            ("synchronous_commit", "on".to_owned()),
            ("row_security", "off".to_owned()),
            ("enable_seqscan", "off".to_owned()),
            // Where there is no index after all, a sequential scan then looks so expensive that each statement is compiled:
            // 40 ms for nothing in an empty quarantine, 600 ms among 12,000 messages.
            ("jit", "off".to_owned()),
            ("idle_in_transaction_session_timeout", idle_in_transaction.as_millis().to_string()),
            ("lock_timeout", LOCK_TIMEOUT.as_millis().to_string()),
        ];
        let options = pool.connect_options().as_ref().clone().options(safe);
        let control =
            silence.watched(&config).max_connections(CONTROL_CONNECTIONS).connect_lazy_with(options);
        Ok(Self(Arc::new(Shared {
            pool,
            control,
            schema: config.schema,
            idle_in_transaction,
            answer_timeout: config.answer_timeout,
            silence,
            hint: Arc::default(),
        })))
    }

    /// The pool that handlers use, for the service's own queries.
    pub fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    fn control(&self) -> &PgPool {
        &self.0.control
    }

    /// The answer to a statement of the framework, or an error of kind `Timeout`.
    async fn answer<T>(&self, what: &str, work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
        let answer = within(self.0.answer_timeout, what, work).await;
        answer.inspect_err(|_| self.0.silence.noticed())?.map_err(fault::failed(what))
    }

    /// A statement with the configured schema in place of `tidelock.`.
    fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(in_schema(text, &self.0.schema))
    }
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T> {
    timeout(limit, work).await.map_err(|_| {
        Error::new(Kind::Timeout, format!("{what}: the database did not answer within {limit:?}"))
    })
}

fn in_schema(text: &str, schema: &str) -> String {
    text.replace("tidelock.", &format!("{schema}."))
}
