//! Whole pipelines in this process, on real servers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{PgPool, postgres::PgPoolOptions};
use tidelock::{
    database::postgres::{Postgres, PostgresConfig},
    log::kafka::{Kafka, KafkaConfig},
};
use tidelock_lab::{Lab, Right};

use crate::witness::{self, Found, Sent};

/// Events with a number, and the key that is made of it.
macro_rules! events {
    ($($name:ident: $topic:expr, $n:ident => $key:expr;)+) => {
        $(
            #[derive(serde::Serialize, serde::Deserialize)]
            struct $name {
                n: i64,
            }

            impl Event for $name {
                const TYPE: &'static str = stringify!($name);
                const TOPIC: &'static str = $topic;

                fn key(&self) -> Key {
                    let $n = self.n;
                    $key.into()
                }
            }
        )+
    };
}

mod build;
mod denied;
mod described;
mod faults;
mod foreign;
mod kafka_only;
mod large;
mod outage;
mod outcomes;
mod quarantine;
mod readme;
mod recreated;

/// A database of its own on the shared servers, and a name for topics and groups.
struct Stage {
    name: String,
    kafka_url: String,
    url: String,
    postgres: Postgres,
    pool: PgPool,
}

impl Stage {
    async fn new(test: &str) -> Self {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let lab = tokio::task::spawn_blocking(Lab::shared).await.unwrap();
        let name = format!("{test}_{}_{}", std::process::id(), STAGES.fetch_add(1, Ordering::Relaxed));
        let admin = PgPoolOptions::new().max_connections(1).connect(&lab.database_url()).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name:?}"))).execute(&admin).await.unwrap();
        let server = lab.database_url();
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = format!("{base}/{name}");
        let postgres =
            Postgres::connect(PostgresConfig { url: url.clone().into(), ..PostgresConfig::default() })
                .await
                .unwrap();
        postgres.migrate().await.unwrap();
        let pool = postgres.pool().clone();
        Self { name, kafka_url: lab.kafka_url(), url, postgres, pool }
    }

    fn kafka(&self) -> Kafka {
        self.kafka_with(|_| {})
    }

    fn kafka_with(&self, change: impl FnOnce(&mut KafkaConfig)) -> Kafka {
        let mut config =
            KafkaConfig { brokers: self.kafka_url.clone(), topic_partitions: 2, ..KafkaConfig::default() };
        change(&mut config);
        Kafka::new(config).unwrap()
    }

    /// As a producer that knows nothing of the framework.
    async fn write(&self, topic: &str, records: impl IntoIterator<Item = Sent>) {
        let (kafka, topic, records) =
            (self.kafka_url.clone(), topic.to_owned(), records.into_iter().collect::<Vec<_>>());
        tokio::task::spawn_blocking(move || witness::write(&kafka, &topic, &records)).await.unwrap();
    }

    async fn committed(&self, topic: &str) -> Vec<Found> {
        let (kafka, topic) = (self.kafka_url.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || witness::committed(&kafka, &topic)).await.unwrap()
    }

    /// The committed records of a topic, once there are as many.
    async fn committed_at_least(&self, topic: &str, count: usize) -> Vec<Found> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.committed(topic).await;
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < deadline, "{} of {count} records in {topic}", found.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

/// A stage whose broker is its own, and asks for rights.
async fn with_rights(test: &str) -> (Arc<Lab>, Stage) {
    let start = || Lab::builder().postgres(false).authorizer(true).start().unwrap();
    let lab = Arc::new(tokio::task::spawn_blocking(start).await.unwrap());
    let stage = Stage::new(test).await;
    let kafka_url = lab.kafka_url();
    (lab, Stage { kafka_url, ..stage })
}

/// Takes a right away, or gives it back.
async fn tell(lab: &Arc<Lab>, right: Right<'static>, allow: bool) {
    let lab = lab.clone();
    let told = move || if allow { lab.cluster().allow(right) } else { lab.cluster().deny(right) };
    tokio::task::spawn_blocking(told).await.unwrap().unwrap();
}

/// Waits until it holds.
#[track_caller]
fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut holds: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds().await {
            assert!(Instant::now() < deadline, "{what}: not within a minute, waited for at {caller}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
