//! PostgreSQL 13 or newer; all of its SQL lies here and in `migrations/postgres`.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::Notify;

mod checks;
mod config;
mod fault;
mod identity;
mod migrate;
mod position;
mod quarantine;
mod reader;
mod snapshot;
mod source;
mod store;
mod unit;
mod write;

pub use config::PostgresConfig;
pub use unit::PostgresUnit;

pub use super::QuarantineEntry;

use crate::{
    config::Problems,
    error::{Error, Kind, Result},
};

/// Connections for fence rows, clean-up and quarantine: never waited for by a handler's transaction.
const CONTROL_CONNECTIONS: u32 = 4;

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
    hint: Arc<Notify>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Postgres").field("schema", &self.0.schema).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Connects.
    ///
    /// # Errors
    /// Kind `Config` for settings that cannot be right, `Unavailable` when the server does not answer.
    pub async fn connect(config: PostgresConfig) -> Result<Self> {
        let mut problems = Problems::default();
        problems.check(!config.url.expose().is_empty(), || "database url is not set".to_owned());
        config.report(&mut problems);
        problems.into_result()?;
        let options = PgConnectOptions::from_str(config.url.expose()).map_err(|_| {
            Error::new(
                Kind::Config,
                "database url cannot be read, expected postgres://user@host:port/database",
            )
        })?;
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.connect_timeout)
            .connect_with(options)
            .await
            .map_err(fault::failed("connect to the database"))?;
        Self::over(pool, config)
    }

    /// Uses the service's own pool for handlers; `config.url` and `config.max_connections` do not matter then.
    ///
    /// # Errors
    /// Kind `Config` for settings that cannot be right.
    pub fn from_pool(pool: PgPool, config: PostgresConfig) -> Result<Self> {
        let mut problems = Problems::default();
        config.report(&mut problems);
        problems.into_result()?;
        Self::over(pool, config)
    }

    fn over(pool: PgPool, config: PostgresConfig) -> Result<Self> {
        // Durable commits and an error instead of missing rows, whatever the role's defaults are.
        let idle_in_transaction = config.idle_in_transaction_timeout;
        let safe = [
            ("synchronous_commit", "on".to_owned()),
            ("row_security", "off".to_owned()),
            ("enable_seqscan", "off".to_owned()),
            ("idle_in_transaction_session_timeout", idle_in_transaction.as_millis().to_string()),
            ("lock_timeout", LOCK_TIMEOUT.as_millis().to_string()),
        ];
        let options = pool.connect_options().as_ref().clone().options(safe);
        let control = PgPoolOptions::new()
            .max_connections(CONTROL_CONNECTIONS)
            .acquire_timeout(config.connect_timeout)
            .connect_lazy_with(options);
        Ok(Self(Arc::new(Shared {
            pool,
            control,
            schema: config.schema,
            idle_in_transaction,
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

    /// A statement with the configured schema in place of `tidelock.`.
    fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(in_schema(text, &self.0.schema))
    }
}

fn in_schema(text: &str, schema: &str) -> String {
    text.replace("tidelock.", &format!("{schema}."))
}
