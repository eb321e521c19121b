//! What the campaign asks the database, by a connection of its own past the proxy.

use std::{sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, Row,
    postgres::{PgPoolOptions, PgRow},
};
use tidelock::database::postgres::{Postgres, PostgresConfig};
use tidelock_campaign::{Result, tables};
use tokio::runtime::Runtime;

/// How long the campaign waits for an answer of its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of the database that blocks.
pub(crate) struct Db {
    runtime: Arc<Runtime>,
    url: String,
    pool: PgPool,
}

impl Db {
    pub(crate) fn new(runtime: Arc<Runtime>, url: String) -> Result<Self> {
        let options = PgPoolOptions::new().max_connections(4).acquire_timeout(PATIENCE);
        let pool = runtime.block_on(async { options.connect_lazy(&url) })?;
        Ok(Self { runtime, url, pool })
    }

    /// A client of another database.
    pub(crate) fn aside(&self, url: String) -> Result<Self> {
        Self::new(Arc::clone(&self.runtime), url)
    }

    /// Creates the tables of the framework and of the run.
    pub(crate) fn prepare(&self) -> Result<()> {
        self.block_on(self.framework()?.migrate())?;
        self.prepare_run()
    }

    /// Creates the tables of the run.
    pub(crate) fn prepare_run(&self) -> Result<()> {
        self.runtime.block_on(async {
            for statement in tables::CREATE {
                sqlx::query(*statement).execute(&self.pool).await?;
            }
            Ok(())
        })
    }

    /// The framework's own calls, past the proxy.
    pub(crate) fn framework(&self) -> Result<Postgres> {
        let config = PostgresConfig { url: self.url.clone().into(), ..PostgresConfig::default() };
        Ok(self.block_on(Postgres::connect(config))?)
    }

    /// Runs something beside everything else.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// Waits for a future with this client's runtime.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// One statement.
    pub(crate) fn run(&self, sql: impl Into<String>) -> Result<u64> {
        let sql = sql.into();
        let done = self.block_on(async {
            let statement = sqlx::query(AssertSqlSafe(sql.clone())).execute(&self.pool);
            tokio::time::timeout(PATIENCE, statement).await
        });
        Ok(done.map_err(|_| format!("no answer within {PATIENCE:?}: {sql}"))??.rows_affected())
    }

    /// The rows that a statement answers.
    pub(crate) fn rows(&self, sql: impl Into<String>) -> Result<Vec<PgRow>> {
        let sql = sql.into();
        let done = self.block_on(async {
            let rows = sqlx::query(AssertSqlSafe(sql.clone())).fetch_all(&self.pool);
            tokio::time::timeout(PATIENCE, rows).await
        });
        Ok(done.map_err(|_| format!("no answer within {PATIENCE:?}: {sql}"))??)
    }

    /// The one number that a statement answers.
    pub(crate) fn number(&self, sql: impl Into<String>) -> Result<i64> {
        let rows = self.rows(sql)?;
        Ok(rows.first().ok_or("no row")?.try_get(0)?)
    }

    /// A session of its own, by the direct way.
    pub(crate) fn session(&self) -> Result<PgConnection> {
        Ok(self.block_on(PgConnection::connect(&self.url))?)
    }

    /// One statement in such a session.
    pub(crate) fn run_in(&self, session: &mut PgConnection, sql: impl Into<String>) -> Result<u64> {
        let statement = sqlx::query(AssertSqlSafe(sql.into())).execute(session);
        Ok(self.block_on(statement)?.rows_affected())
    }

    /// Messages that were committed.
    pub(crate) fn ledger(&self) -> Result<i64> {
        self.number("SELECT count(*) FROM campaign.ledger")
    }
}
