//! The checker, which knows nothing of us, on a real broker and PostgreSQL: what it says of right and of wrong topics.

mod right;
mod wrong;

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use sqlx::{AssertSqlSafe, PgPool};
use tidelock::{
    log::{
        Cleanup, Log, Producer, Record, TopicSpec,
        kafka::{Kafka, KafkaConfig},
    },
    message::Headers,
};
use tidelock_checker::{Class, Identity, Options, Report, Sealed, Tables, Watch, WatchOptions};
use tidelock_lab::Lab;

use crate::conformance::{committed, sent, unique, within};

const RUN: &str = "r1";
const PARTITIONS: i32 = 3;

/// Two topics, three tables, and writers that do as they are told.
struct Stage {
    log: Kafka,
    pool: PgPool,
    schema: String,
    input: String,
    output: String,
    files: PathBuf,
    next: u64,
}

/// A message of producer 1.
#[derive(Debug, Clone)]
struct Said {
    seq: u64,
    txn: u64,
    of: u32,
}

impl Said {
    fn key(&self) -> Bytes {
        format!("key {}", self.seq % 5).into_bytes().into()
    }

    fn record(&self, topic: &str, copy: u32) -> Record {
        let (key, payload) = (self.key(), Bytes::from(vec![b'p'; (self.seq % 7) as usize]));
        let Self { seq, txn, of } = *self;
        // Keys take turns, so their numbers are counted by fives.
        let key_seq = (seq - 1) / 5 + 1;
        let identity =
            Identity { run: RUN, producer: 1, seq, key_seq, txn, of, copy, at: 1_700_000_000_000 + seq };
        let mut headers = Headers::new();
        headers.push("other", "text");
        headers.push("check", identity.seal(Some(&key), Some(&payload)));
        Record {
            topic: topic.into(),
            partition: None,
            key: Some(key),
            payload: Some(payload),
            headers,
            time_ms: None,
        }
    }

    fn crc(&self) -> i64 {
        let record = self.record("any", 0);
        Sealed::read(record.headers.get("check").unwrap()).unwrap().crc.into()
    }
}

impl Stage {
    async fn new() -> Self {
        let lab = tokio::task::spawn_blocking(Lab::shared).await.unwrap();
        let config = KafkaConfig { brokers: lab.kafka_url(), ..KafkaConfig::default() };
        let log = Kafka::new(config).unwrap();
        let pool = PgPool::connect(&lab.database_url()).await.unwrap();
        let schema = unique("checker").replace('-', "_");
        let stage = Self {
            log,
            pool,
            input: unique("in"),
            output: unique("out"),
            files: std::env::temp_dir().join(&schema),
            schema,
            next: 1,
        };
        std::fs::create_dir(&stage.files).unwrap();
        for name in [&stage.input, &stage.output] {
            let spec = TopicSpec { name: name.clone(), partitions: Some(PARTITIONS), cleanup: Cleanup::Any };
            stage.log.topic(&spec).await.unwrap();
        }
        let schema = &stage.schema;
        stage.sql(format!("CREATE SCHEMA {schema}")).await;
        stage
            .sql(format!(
                "CREATE TABLE {schema}.ledger (producer int, seq bigint, key_seq bigint, txn bigint, of int, copies int)"
            ))
            .await;
        stage.sql(format!("CREATE TABLE {schema}.effect (producer int, seq bigint, crc numeric)")).await;
        stage
    }

    async fn sql(&self, statement: String) {
        sqlx::query(AssertSqlSafe(statement)).execute(&self.pool).await.unwrap();
    }

    async fn producer(&self) -> Box<dyn Producer> {
        self.log.producer(&unique("writer")).await.unwrap()
    }

    /// The next transaction of so many messages, as the ledger has it.
    async fn enqueue(&mut self, of: u32) -> Vec<Said> {
        let txn = self.next;
        let all: Vec<_> = (0..u64::from(of)).map(|each| Said { seq: self.next + each, txn, of }).collect();
        self.next += u64::from(of);
        for Said { seq, txn, of } in &all {
            let key_seq = (seq - 1) / 5 + 1;
            let schema = &self.schema;
            self.sql(format!("INSERT INTO {schema}.ledger VALUES (1, {seq}, {key_seq}, {txn}, {of}, 1)"))
                .await;
        }
        all
    }

    async fn handle(&self, all: &[Said]) {
        for said in all {
            let (schema, seq, crc) = (&self.schema, said.seq, said.crc());
            self.sql(format!("INSERT INTO {schema}.effect VALUES (1, {seq}, {crc})")).await;
        }
    }

    fn inputs(&self, all: &[Said]) -> Vec<Record> {
        all.iter().map(|said| said.record(&self.input, 0)).collect()
    }

    fn outputs(&self, all: &[Said]) -> Vec<Record> {
        all.iter().map(|said| said.record(&self.output, 0)).collect()
    }

    /// One Kafka transaction that commits.
    async fn publish(&self, records: Vec<Record>) {
        let mut producer = self.producer().await;
        sent(&mut *producer, records).await;
        committed(producer.commit().await);
    }

    fn watch(&self, group: &str) -> Watch {
        Watch::start(WatchOptions {
            kafka: kafka(),
            run: RUN.into(),
            topics: vec![self.input.clone(), self.output.clone()],
            groups: vec![group.into()],
            progress: Some(self.files.join("progress.jsonl")),
        })
        .unwrap()
    }

    async fn finish(&self, watch: Watch) {
        let summary = tokio::task::spawn_blocking(|| watch.finish()).await.unwrap().unwrap();
        summary.write(&self.files.join("watch.json")).unwrap();
    }

    fn options(&self) -> Options {
        let schema = &self.schema;
        let file = |name| Some(self.files.join(name)).filter(|path| path.exists());
        Options {
            kafka: kafka(),
            run: RUN.into(),
            inputs: vec![self.input.clone()],
            outputs: vec![self.output.clone()],
            tables: Some(Tables {
                url: Lab::shared().database_url(),
                ledger: format!(
                    "SELECT producer, seq, key_seq, txn, of, copies FROM {schema}.ledger ORDER BY 2;"
                ),
                effects: Some(format!("SELECT producer, seq, crc FROM {schema}.effect")),
            }),
            watch: file("watch.json"),
            progress: file("progress.jsonl"),
            history: file("history.jsonl"),
            foreign_allowed: false,
        }
    }

    async fn judge(&self) -> Report {
        let options = self.options();
        tokio::task::spawn_blocking(move || tidelock_checker::judge(&options)).await.unwrap().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.files).ok();
    }
}

fn kafka() -> tidelock_checker::Kafka {
    let patience = Duration::from_secs(5);
    tidelock_checker::Kafka {
        brokers: Lab::shared().kafka_url(),
        patience,
        ..tidelock_checker::Kafka::default()
    }
}

/// What was found, as class and `producer/seq`.
fn found(report: &Report) -> Vec<(Class, Vec<String>)> {
    let wrong = report.verdicts.iter().filter(|verdict| verdict.count > 0);
    let ids = wrong.map(|verdict| {
        let ids = verdict.first.iter().filter_map(|finding| finding.id);
        (verdict.class, ids.map(|id| id.to_string()).collect())
    });
    ids.collect()
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    within(30, async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(reached(), "{what}");
}
