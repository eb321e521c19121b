//! One test's own database, topics and group on the shared servers, and what must come out.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection, PgPool, Row, postgres::PgPoolOptions};
use tidelock::database::{
    Database as _, Fence, FenceKey, Submitted,
    postgres::{Postgres, PostgresConfig},
};
use tidelock_lab::Lab;

use super::{
    child::{Input, Output, Spec},
    verdict::Verdict,
};
use crate::witness::{self, Found, Sent};

pub(crate) fn input_topic(scene: &str) -> String {
    format!("{scene}.in")
}

pub(crate) fn output_topic(scene: &str) -> String {
    format!("{scene}.out")
}

/// How long anything may take to come through.
const WAIT: Duration = Duration::from_secs(60);

pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) kafka: String,
    pub(crate) database: String,
    pub(crate) pool: PgPool,
    pub(crate) postgres: Postgres,
    directory: PathBuf,
    children: AtomicU32,
}

impl Scene {
    /// On the servers that all tests share.
    pub(crate) async fn new(test: &str) -> Self {
        let lab = tokio::task::spawn_blocking(Lab::shared).await.unwrap();
        Self::on(test, lab.kafka_url(), lab.database_url()).await
    }

    pub(crate) async fn on(test: &str, kafka: String, server: String) -> Self {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let name = format!("{test}_{}_{}", std::process::id(), SCENES.fetch_add(1, Ordering::Relaxed));
        let admin = PgPoolOptions::new().max_connections(1).connect(&server).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name:?}"))).execute(&admin).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let database = format!("{base}/{name}");
        let config = PostgresConfig { url: database.clone().into(), ..PostgresConfig::default() };
        let postgres = Postgres::connect(config).await.unwrap();
        postgres.migrate().await.unwrap();
        let pool = PgPoolOptions::new().max_connections(8).connect(&database).await.unwrap();
        for statement in [
            "CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, key text NOT NULL, n bigint NOT NULL)",
            "CREATE TABLE counter (key text PRIMARY KEY, n bigint NOT NULL)",
            "CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY, key text NOT NULL, n bigint NOT NULL)",
        ] {
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        let directory = tidelock_lab::root().join("crash").join(&name);
        std::fs::create_dir_all(&directory).unwrap();
        Self { name, kafka, database, pool, postgres, directory, children: AtomicU32::new(0) }
    }

    /// A child on this scene: short time-outs, inbox off so that it hides nothing.
    pub(crate) fn child(&self, roles: &str) -> Spec {
        let number = self.children.fetch_add(1, Ordering::Relaxed);
        Spec::new(&self.name, roles, self.directory.join(format!("child-{number}.log")))
            .env("TIDELOCK_KAFKA_BROKERS", &self.kafka)
            .env("TIDELOCK_DATABASE_URL", &self.database)
            .env("TIDELOCK_KAFKA_TOPIC_PARTITIONS", "3")
            .env("TIDELOCK_KAFKA_SESSION_TIMEOUT", "3s")
            .env("TIDELOCK_KAFKA_HEARTBEAT_INTERVAL", "500ms")
            .env("TIDELOCK_KAFKA_TRANSACTION_TIMEOUT", "6s")
            .env("TIDELOCK_RELAY_NAME", &self.name)
            .env("TIDELOCK_RELAY_MAX_ROWS", "20")
            .env("TIDELOCK_PROCESSOR_MAX_BATCH", "10")
            .env("TIDELOCK_PROCESSOR_INBOX", "false")
    }

    /// Commits `count` messages, spread over a few keys, in business transactions that lock their entity first; every
    /// tenth is rolled back. What is committed stands in the ledger too.
    pub(crate) async fn enqueue(&self, count: i64) {
        self.enqueue_with(&self.pool, count).await.unwrap();
    }

    pub(crate) async fn enqueue_with(&self, pool: &PgPool, count: i64) -> Result<(), sqlx::Error> {
        self.enqueue_on(&mut *pool.acquire().await?, count).await
    }

    pub(crate) async fn enqueue_on(
        &self,
        connection: &mut PgConnection,
        count: i64,
    ) -> Result<(), sqlx::Error> {
        for i in 0..count {
            let key = format!("k{}", i % 7);
            let mut transaction = connection.begin().await?;
            let n: i64 = sqlx::query(
                "INSERT INTO counter VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counter.n + 1 RETURNING n",
            )
            .bind(&key)
            .fetch_one(&mut *transaction)
            .await?
            .get(0);
            sqlx::query("INSERT INTO ledger (key, n) VALUES ($1, $2)")
                .bind(&key)
                .bind(n)
                .execute(&mut *transaction)
                .await?;
            sqlx::query("SELECT tidelock.enqueue($1, $2, convert_to($3, 'UTF8'))")
                .bind(input_topic(&self.name))
                .bind(key.as_bytes())
                .bind(serde_json::json!({ "key": key, "n": n }).to_string())
                .execute(&mut *transaction)
                .await?;
            if i % 10 == 9 {
                transaction.rollback().await?;
            } else {
                transaction.commit().await?;
            }
        }
        Ok(())
    }

    async fn pairs(&self, table: &'static str) -> Vec<(String, i64)> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT key, n FROM {table} ORDER BY id")))
            .fetch_all(&self.pool)
            .await
            .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Releases whatever is in the quarantine, until it is empty.
    pub(crate) async fn released(&self) {
        let deadline = Instant::now() + WAIT;
        loop {
            let waiting = self.postgres.quarantine(1_000).await.unwrap();
            if waiting.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{waiting:?}, see {}", self.directory.display());
            for entry in waiting.iter().filter(|entry| !entry.release_asked) {
                // One of the same key may have taken it along.
                self.postgres.release(entry.id).await.ok();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until every message of the ledger was published and every published row deleted, then judges.
    pub(crate) async fn published(&self) -> Verdict {
        let deadline = Instant::now() + WAIT;
        loop {
            let left: i64 = sqlx::query("SELECT count(*) FROM tidelock.outbox")
                .fetch_one(&self.pool)
                .await
                .unwrap()
                .get(0);
            if left == 0 {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{left} rows stay in the outbox, see {}",
                self.directory.display()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.judge_published().await
    }

    /// Compares ledger and topic as they are.
    pub(crate) async fn judge_published(&self) -> Verdict {
        let expected: BTreeSet<(String, i64)> = self.pairs("ledger").await.into_iter().collect();
        let found: Vec<(String, i64)> = self
            .committed(input_topic(&self.name))
            .await
            .iter()
            .map(|record| (record.key.clone(), record.json()["n"].as_i64().unwrap()))
            .collect();
        assert!(!expected.is_empty() || !found.is_empty(), "nothing was tested");
        let verdict = Verdict::of(&expected, &found);
        self.keep_evidence(&verdict, input_topic(&self.name)).await;
        verdict
    }

    /// Of a verdict that is not clean: what a second reader finds, what was hidden from both, and the broker's files,
    /// beside the logs of the children in `target/lab/crash`. The verdict stands.
    async fn keep_evidence(&self, verdict: &Verdict, topic: String) {
        if verdict.is_clean() {
            return;
        }
        let (kafka, directory) = (self.kafka.clone(), self.directory.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let again = witness::committed(&kafka, &topic);
            std::fs::write(directory.join("read_again.txt"), lines(&again))?;
            let all = witness::everything(&kafka, &topic);
            std::fs::write(directory.join("read_uncommitted.txt"), lines(&all))?;
            for broker in Lab::shared().brokers() {
                let copy = directory.join(broker.name());
                let done =
                    std::process::Command::new("cp").arg("-r").arg(broker.directory()).arg(copy).status()?;
                assert!(done.success(), "the broker's files are not copied");
            }
            std::io::Result::Ok(())
        });
        kept.await.unwrap().unwrap();
    }

    pub(crate) async fn committed(&self, topic: String) -> Vec<Found> {
        let kafka = self.kafka.clone();
        tokio::task::spawn_blocking(move || witness::committed(&kafka, &topic)).await.unwrap()
    }

    /// Writes messages `from..=to` of every key to the input topic.
    pub(crate) async fn feed(&self, from: i64, to: i64) {
        let inputs = (from..=to).flat_map(|n| KEYS.map(|key| Input { key: key.to_owned(), n }));
        let sent: Vec<Sent> = inputs
            .map(|input| Sent {
                key: input.key.clone(),
                payload: serde_json::to_string(&input).unwrap(),
                headers: vec![
                    ("ce_id".into(), uuid::Uuid::now_v7().to_string()),
                    ("ce_type".into(), "Input".into()),
                ],
            })
            .collect();
        let (kafka, topic) = (self.kafka.clone(), input_topic(&self.name));
        tokio::task::spawn_blocking(move || witness::write(&kafka, &topic, &sent)).await.unwrap();
    }

    /// Creates the topics of a processor.
    pub(crate) async fn topics(&self) {
        witness::create_topic(&self.kafka, &input_topic(&self.name), 3, &[]).await;
        witness::create_topic(&self.kafka, &output_topic(&self.name), 3, &[]).await;
    }

    /// The output topic takes messages of that size, in bytes, and no larger ones.
    pub(crate) async fn limit_outputs(&self, size: u32) {
        witness::set_topic(&self.kafka, &output_topic(&self.name), "max.message.bytes", &size.to_string())
            .await;
    }

    /// Waits until the group's committed offsets stand at the end of the input, then judges effects and outputs of
    /// messages `1..=to`.
    pub(crate) async fn processed(&self, to: i64) -> (Verdict, Verdict) {
        self.settled().await;
        self.judge_processed(to).await
    }

    /// Waits until the group's committed offsets stand at the end of the input.
    pub(crate) async fn settled(&self) {
        let deadline = Instant::now() + WAIT;
        let topic = input_topic(&self.name);
        let ends = {
            let mut ends = vec![0; 3];
            for record in self.committed(topic.clone()).await {
                ends[record.partition as usize] = record.offset + 1;
            }
            ends
        };
        loop {
            let (kafka, group, topic) = (self.kafka.clone(), self.name.clone(), topic.clone());
            let offsets =
                tokio::task::spawn_blocking(move || witness::offsets(&kafka, &group, &topic)).await.unwrap();
            if offsets.iter().zip(&ends).all(|(offset, end)| offset.unwrap_or(0) >= *end) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "the group stands at {offsets:?} of {ends:?}, see {}",
                self.directory.display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until all partitions but one have moved on from their first offset; answers that one.
    pub(crate) async fn untouched_fence(&self) -> (FenceKey, Fence) {
        let deadline = Instant::now() + WAIT;
        loop {
            let mut untouched = Vec::new();
            for partition in 0..3 {
                let (group, topic) = (self.name.as_str().into(), input_topic(&self.name).into());
                let key = FenceKey { group, topic, partition };
                let fence = self.postgres.fence(&key).await.unwrap();
                untouched
                    .extend(fence.filter(|fence| fence.pending_from.is_none()).map(|fence| (key, fence)));
            }
            if untouched.len() == 1 {
                return untouched.remove(0);
            }
            assert!(Instant::now() < deadline, "{} partitions have not begun", untouched.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The fence rows with outputs, as they are.
    pub(crate) async fn pending(&self) -> Vec<(FenceKey, Submitted)> {
        let mut all = Vec::new();
        for partition in 0..3 {
            let (group, topic) = (self.name.as_str().into(), input_topic(&self.name).into());
            let key = FenceKey { group, topic, partition };
            if let Some(Fence { next_offset, pending, claim, .. }) = self.postgres.fence(&key).await.unwrap()
                && !pending.is_empty()
            {
                all.push((key, Submitted { next_offset, pending, claim }));
            }
        }
        assert!(!all.is_empty(), "nothing was pending");
        all
    }

    /// Compares the effects alone with messages `from..=to` of every key.
    pub(crate) async fn judge_effects(&self, from: i64, to: i64) -> Verdict {
        let inputs = (from..=to).flat_map(|n| KEYS.map(|key| (key.to_owned(), n))).collect();
        Verdict::of(&inputs, &self.pairs("effect").await)
    }

    /// Compares effects and outputs with the inputs, as they are.
    pub(crate) async fn judge_processed(&self, to: i64) -> (Verdict, Verdict) {
        let inputs: BTreeSet<(String, i64)> =
            (1..=to).flat_map(|n| KEYS.map(|key| (key.to_owned(), n))).collect();
        let effects = Verdict::of(&inputs, &self.pairs("effect").await);
        let expected: BTreeSet<(String, i64)> = inputs
            .iter()
            .flat_map(|(key, n)| (0..Output::copies(*n)).map(move |copy| (key.clone(), n * 2 + copy)))
            .collect();
        let outputs: Vec<(String, i64)> = self
            .committed(output_topic(&self.name))
            .await
            .iter()
            .map(|record| {
                let output: Output = serde_json::from_slice(&record.payload).unwrap();
                (output.key, output.n * 2 + output.copy)
            })
            .collect();
        let outputs = Verdict::of(&expected, &outputs);
        self.keep_evidence(&effects, input_topic(&self.name)).await;
        self.keep_evidence(&outputs, output_topic(&self.name)).await;
        (effects, outputs)
    }
}

fn lines(records: &[Found]) -> String {
    let line = |record: &Found| {
        format!(
            "{}[{}] {} {}\n",
            record.partition,
            record.offset,
            record.key,
            String::from_utf8_lossy(&record.payload)
        )
    };
    records.iter().map(line).collect()
}

/// Enough keys for every partition to have some.
pub(crate) const KEYS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
