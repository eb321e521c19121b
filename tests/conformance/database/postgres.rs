//! PostgreSQL, on a real server.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tidelock::{
    database::{
        QuarantineEntry,
        postgres::{Postgres, PostgresConfig},
    },
    error::Result,
    message::MessageId,
};
use tidelock_lab::Lab;

use super::{UnderTest, database_clauses};
use crate::conformance::database_tests;

database_clauses!(database_tests);

/// A database of the server that all tests share.
pub(in crate::conformance) struct Own {
    url: String,
    postgres: Postgres,
}

async fn connect(url: &str) -> Postgres {
    let config = PostgresConfig { url: url.to_owned().into(), ..PostgresConfig::default() };
    Postgres::connect(config).await.unwrap()
}

impl UnderTest for Own {
    type Own = Postgres;

    const PREFIX: &str = "tidelock.";
    const RUIN: &str = "SELECT 1 / 0";

    async fn bare() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let lab = tokio::task::spawn_blocking(Lab::shared).await.unwrap();
        let name = format!("clause_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let server = lab.database_url();
        let admin = connect(&server).await;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(admin.pool()).await.unwrap();
        let (server, _) = server.rsplit_once('/').unwrap();
        let url = format!("{server}/{name}");
        Self { postgres: connect(&url).await, url }
    }

    fn own(&self) -> &Postgres {
        &self.postgres
    }

    async fn another(&self) -> Postgres {
        connect(&self.url).await
    }

    async fn of_the_service(&self) -> sqlx::Transaction<'static, sqlx::Postgres> {
        self.postgres.pool().begin().await.unwrap()
    }

    async fn migrate(own: &Postgres) -> Result<()> {
        own.migrate().await
    }

    async fn run(connection: &mut PgConnection, statements: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.map(drop)
    }

    async fn count(&self, table: &str) -> i64 {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query(count).fetch_one(self.postgres.pool()).await.unwrap().get(0)
    }

    async fn entries(&self) -> Vec<QuarantineEntry> {
        self.postgres.quarantine(100).await.unwrap()
    }

    async fn release(&self, id: MessageId) -> Result<u64> {
        self.postgres.release(id).await
    }
}
