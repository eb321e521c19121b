//! The databases the example runs on.
//!
//! Every service says in a trait what it does with its tables, and writes it once, in SQL that both databases understand.

use std::ops::DerefMut;

use sqlx::{Connection as _, PgConnection, SqliteConnection, pool::PoolConnection};
use tidelock::{
    database::{Database, Enqueue, Source, sqlite::Sqlite},
    prelude::*,
};

use crate::{inventory::Shelf, orders::Book, payment::Till, roles::Role, shipping::Parcels, verify::Audit};

/// A database with the tables of all services.
#[async_trait]
pub(crate) trait Shop:
    Database<Connection: Tables> + Source + Enqueue<Driver: sqlx::Database<Connection: Tables>>
{
    /// A connection for reading, outside of every handler.
    type Reading: DerefMut<Target = Self::Connection> + Send;

    async fn reading(&self) -> sqlx::Result<Self::Reading>;

    /// Creates the framework's tables and those of these services. Many processes may start together.
    async fn prepare(&self, services: &[Role]) -> Result<(), BoxError>;
}

#[async_trait]
impl Shop for Postgres {
    type Reading = PoolConnection<sqlx::Postgres>;

    async fn reading(&self) -> sqlx::Result<Self::Reading> {
        self.pool().acquire().await
    }

    async fn prepare(&self, services: &[Role]) -> Result<(), BoxError> {
        const LOCK: i64 = 7_012_026;
        self.migrate().await?;
        let mut transaction = self.pool().begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
        // Else every start logs that every table is there already.
        sqlx::query("SET LOCAL client_min_messages = warning").execute(&mut *transaction).await?;
        for service in services {
            sqlx::raw_sql(service.postgres()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl Shop for Sqlite {
    type Reading = Box<SqliteConnection>;

    async fn reading(&self) -> sqlx::Result<Self::Reading> {
        Ok(Box::new(SqliteConnection::connect_with(&self.options()).await?))
    }

    async fn prepare(&self, services: &[Role]) -> Result<(), BoxError> {
        self.migrate().await?;
        let mut connection = self.reading().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for service in services {
            sqlx::raw_sql(service.sqlite()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// What the services do with their tables.
pub(crate) trait Tables: Shelf + Book + Till + Parcels + Audit {}

impl<C: Shelf + Book + Till + Parcels + Audit> Tables for C {}

/// Where the two differ.
pub(crate) trait Dialect {
    /// Behind a `SELECT`: locks its rows. SQLite has one writer at a time and needs none.
    const FOR_UPDATE: bool;
    /// Whether there is a table of that name.
    const HAS_TABLE: &str;
}

impl Dialect for PgConnection {
    const FOR_UPDATE: bool = true;
    const HAS_TABLE: &str = "SELECT to_regclass($1) IS NOT NULL";
}

impl Dialect for SqliteConnection {
    const FOR_UPDATE: bool = false;
    const HAS_TABLE: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1)";
}

/// Implements a trait for the connections of both databases.
macro_rules! on_both {
    (impl $tables:ident { $($body:tt)* }) => {
        #[tidelock::prelude::async_trait]
        impl $tables for sqlx::PgConnection { $($body)* }

        #[tidelock::prelude::async_trait]
        impl $tables for sqlx::SqliteConnection { $($body)* }
    };
}
pub(crate) use on_both;
