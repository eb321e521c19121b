//! SQLite as what a relay reads from and a processor is fenced by, on real files, through the public traits.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Row, SqliteConnection, SqlitePool, sqlite::SqlitePoolOptions};
use tidelock::database::{Batch, Claim, Reader as _, Shard, Source, sqlite::Sqlite};

mod backlog;
mod checks;
mod cleanup;
mod contention;
mod fences;
mod identity;
mod in_memory;
mod migrations;
mod outbox;
mod reading;
mod shards;
mod unit;
mod unit_commit;
mod unlike_postgres;

type Reader = <Sqlite as Source>::Reader;
type Rows = Batch<<Sqlite as Source>::Published>;

const ALL: Shard = Shard { index: 0, count: 1 };
/// The first claim of it, which every [`Shop`] makes.
const CLAIM: Claim = Claim { shard: ALL, epoch: 1 };

/// A database of one's own, deleted at the end.
struct Shop {
    folder: PathBuf,
    sqlite: Sqlite,
    pool: SqlitePool,
}

impl Shop {
    async fn new() -> Self {
        let shop = Self::bare().await;
        shop.sqlite.migrate().await.unwrap();
        assert_eq!(shop.sqlite.claim(ALL).await.unwrap(), CLAIM);
        shop
    }

    /// Without the framework's tables.
    async fn bare() -> Self {
        static SHOPS: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop_{}_{}", std::process::id(), SHOPS.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir(&folder).unwrap();
        let sqlite = Sqlite::open(folder.join("shop.db")).await.unwrap();
        let pool = pool(&sqlite);
        Self { folder, sqlite, pool }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("shop.db")
    }

    /// The same file as another process opens it.
    async fn again(&self) -> Sqlite {
        Sqlite::open(self.path()).await.unwrap()
    }

    /// The file as it is now, for later.
    async fn back_up(&self) -> PathBuf {
        let copy = self.folder.join("backup.db");
        let _ = std::fs::remove_file(&copy);
        let vacuum = sqlx::query("VACUUM INTO ?1").bind(copy.to_str().unwrap());
        vacuum.execute(&self.pool).await.unwrap();
        copy
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

    async fn commit_all(&self, texts: impl IntoIterator<Item = String>) {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        for text in texts {
            put(&mut transaction, "key", &text).await;
        }
        transaction.commit().await.unwrap();
    }

    /// What stands in the outbox, in order of `seq`.
    async fn outbox(&self) -> Vec<String> {
        let rows = sqlx::query("SELECT CAST(payload AS TEXT) FROM tidelock_outbox ORDER BY seq")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn start(&self) -> Reader {
        self.start_at(&self.sqlite.origin().await.unwrap()).await
    }

    async fn start_at(&self, position: &[u8]) -> Reader {
        self.sqlite.reader(ALL, position).await.unwrap()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn pool(sqlite: &Sqlite) -> SqlitePool {
    SqlitePoolOptions::new().max_connections(8).connect_lazy_with(sqlite.options())
}

/// A hand-written INSERT, in whatever transaction the connection is.
async fn put(connection: &mut SqliteConnection, key: &str, text: &str) {
    sqlx::query("INSERT INTO tidelock_outbox (topic, key, payload, bucket) VALUES ('t', ?1, ?2, ?3)")
        .bind(key.as_bytes())
        .bind(text.as_bytes())
        .bind(bucket(Some(key)))
        .execute(connection)
        .await
        .unwrap();
}

/// As the table's documentation says.
fn bucket(key: Option<&str>) -> i64 {
    use sha2::Digest as _;
    i64::from(sha2::Sha256::digest(key.unwrap_or_default())[0])
}

fn text(bytes: Option<&Bytes>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

fn texts(batch: &Rows) -> Vec<String> {
    batch.rows.iter().map(|row| text(row.payload.as_ref())).collect()
}

fn numbers(from: i32, to: i32) -> Vec<String> {
    (from..=to).map(|n| n.to_string()).collect()
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
