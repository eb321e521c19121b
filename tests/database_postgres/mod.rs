//! PostgreSQL as what a relay reads from and a processor is fenced by, on a real server, through the public traits.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row, postgres::PgPoolOptions};
use tidelock::{
    database::{
        Batch, Reader as _, Shard, Source,
        postgres::{Postgres, PostgresConfig},
    },
    health::State,
    pipeline::Pipeline,
};
use tidelock_lab::Lab;

mod checks;
mod chunks;
mod cleanup;
mod differences;
mod fences;
mod flush;
mod grants;
mod identity;
mod migrations;
mod outbox;
mod quarantine;
mod rights;
mod silence;
mod sql;
mod standby;
mod unit;
mod unit_commit;
mod unlike_sqlite;

type Reader = <Postgres as Source>::Reader;
type Rows = Batch<<Postgres as Source>::Published>;

const ALL: Shard = Shard { index: 0, count: 1 };
const WAIT: Duration = Duration::from_secs(30);

/// A database of one's own.
struct Shop {
    url: String,
    postgres: Postgres,
    pool: PgPool,
}

impl Shop {
    async fn new() -> Self {
        let shop = Self::bare().await;
        shop.postgres.migrate().await.unwrap();
        shop
    }

    /// Without the framework's tables.
    async fn bare() -> Self {
        let lab = tokio::task::spawn_blocking(Lab::shared).await.unwrap();
        Self::on(&lab.database_url()).await
    }

    async fn on(server: &str) -> Self {
        static SHOPS: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop_{}_{}", std::process::id(), SHOPS.fetch_add(1, Ordering::Relaxed));
        let admin = PgPoolOptions::new().max_connections(1).connect(server).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin).await.unwrap();
        admin.close().await;
        let (server, _) = server.rsplit_once('/').unwrap();
        let url = format!("{server}/{name}");
        let postgres = connect(&url).await;
        let pool = PgPoolOptions::new().max_connections(8).connect(&url).await.unwrap();
        Self { url, postgres, pool }
    }

    /// The same database by new connections.
    async fn again(&self) -> Self {
        let pool = PgPoolOptions::new().max_connections(8).connect(&self.url).await.unwrap();
        Self { url: self.url.clone(), postgres: connect(&self.url).await, pool }
    }

    async fn run(&self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.pool).await.unwrap();
    }

    async fn count(&self, what: &str) -> i64 {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {what}"));
        sqlx::query(count).fetch_one(&self.pool).await.unwrap().get(0)
    }

    /// Commits one row.
    async fn commit(&self, text: &str) {
        put(&mut self.pool.acquire().await.unwrap(), "key", text).await;
    }

    /// What stands in the outbox, in order of `seq`, to a transaction of now.
    async fn outbox(&self) -> Vec<String> {
        let rows = sqlx::query("SELECT convert_from(payload, 'UTF8') FROM tidelock.outbox ORDER BY seq")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn start(&self) -> Reader {
        self.start_at(&self.postgres.origin().await.unwrap()).await
    }

    async fn start_at(&self, position: &[u8]) -> Reader {
        self.postgres.reader(ALL, position).await.unwrap()
    }
}

async fn connect(url: &str) -> Postgres {
    let config = PostgresConfig { url: url.to_owned().into(), ..PostgresConfig::default() };
    Postgres::connect(config).await.unwrap()
}

/// A hand-written INSERT, in whatever transaction the connection is.
async fn put(connection: &mut PgConnection, key: &str, text: &str) {
    sqlx::query("INSERT INTO tidelock.outbox (topic, key, payload) VALUES ('t', $1, $2)")
        .bind(key.as_bytes())
        .bind(text.as_bytes())
        .execute(connection)
        .await
        .unwrap();
}

fn text(bytes: Option<&Bytes>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

fn texts(batch: &Rows) -> Vec<String> {
    batch.rows.iter().map(|row| text(row.payload.as_ref())).collect()
}

/// The next batch's payloads; none when nothing is new.
async fn next(reader: &mut Reader) -> Vec<String> {
    let batch = reader.read(1_000).await.unwrap();
    reader.durable().await.unwrap();
    batch.as_ref().map(texts).unwrap_or_default()
}

async fn next_batch(reader: &mut Reader, rows: usize) -> Rows {
    let batch = reader.read(rows).await.unwrap().unwrap();
    reader.durable().await.unwrap();
    batch
}

/// Those that occur another number of times than once.
fn not_once(expected: impl IntoIterator<Item = String>, found: &[String]) -> BTreeMap<String, i32> {
    let mut counts: BTreeMap<String, i32> = expected.into_iter().map(|text| (text, 0)).collect();
    for text in found {
        // What was not expected at all comes out as minus one.
        *counts.entry(text.clone()).or_insert(-2) += 1;
    }
    counts.retain(|_, count| *count != 1);
    counts
}

/// Waits until a component says that this is why it tries again; none may give up.
async fn recovering(pipeline: &Pipeline, why: &str) {
    eventually(why, async || {
        let report = pipeline.health();
        assert!(!report.values().any(|state| matches!(state, State::Failed(_))), "{report:?}");
        report.values().any(|state| matches!(state, State::Recovering(text) if text.contains(why)))
    })
    .await;
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + WAIT;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within {WAIT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
