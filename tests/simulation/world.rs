//! One history: a log, a database, processes that live and die on them, and a writer with business to do.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection};
use tidelock::{
    commit::Commit,
    database::sqlite::{Sqlite, on_the_spot},
    event::Event,
    failpoint::{self, Variant},
    log::{
        Assignor, Cleanup, ConsumerEvent, Log, Record, Subscription, TopicSpec,
        embedded::{Client, Embedded, EmbeddedConfig},
    },
    message::{Headers, header},
    prelude::{
        BoxError, Context, Handler, Key, Message, Outcome, Pipeline, Processor, RelayConfig, async_trait,
    },
    processor::ProcessorConfig,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    fate::{Fate, Life, Status},
    store::Store,
};
use crate::verdict::Verdict;

const SCHEMA: &str = "
    CREATE TABLE ledger (key text NOT NULL, n integer NOT NULL, PRIMARY KEY (key, n));
    CREATE TABLE effect (id integer PRIMARY KEY AUTOINCREMENT, key text NOT NULL, n integer NOT NULL);
    CREATE VIEW everything AS SELECT 1;";
thread_local! {
    static DATABASE: Cell<Option<Sqlite>> = const { Cell::new(None) };
}

const KEYS: [&str; 3] = ["a", "b", "c"];
/// How long business goes on, and how long faults may come.
const BUSY: Duration = Duration::from_secs(7);
/// How long the calm may take until everything has come to its end.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long nothing more may happen once everything is there: longer than every time-out.
const QUIET: Duration = Duration::from_millis(4_500);

/// What is enqueued.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct In {
    key: String,
    n: i64,
}

impl Event for In {
    const TYPE: &'static str = "In";
    const TOPIC: &'static str = "in";

    fn key(&self) -> Key {
        self.key.as_str().into()
    }
}

/// What the handler emits: none for every third message, two for every second one.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Out {
    key: String,
    n: i64,
    copy: i64,
}

impl Event for Out {
    const TYPE: &'static str = "Out";
    const TOPIC: &'static str = "out";

    fn key(&self) -> Key {
        self.key.as_str().into()
    }
}

fn copies(n: i64) -> i64 {
    if n % 3 == 0 { 0 } else { 1 + i64::from(n % 2 == 0) }
}

struct Copy {
    fate: Fate,
}

#[async_trait]
impl Handler<Store> for Copy {
    type Event = In;

    async fn handle(
        &self,
        message: &Message<In>,
        context: &mut Context<'_, Store>,
    ) -> Result<Outcome, BoxError> {
        let In { key, n } = &message.event;
        if self.fate.random(|random| random.u32(..8) == 0) {
            tokio::time::sleep(Duration::from_millis(self.fate.random(|random| random.u64(..3_000)))).await;
        }
        let insert = sqlx::query("INSERT INTO effect (key, n) VALUES ($1, $2)").bind(key).bind(n);
        on_the_spot(insert.execute(context.connection()))?;
        if !self.fate.is_calm() && self.fate.random(|random| random.u32(..40) == 0) {
            return Err("the handler fails".into());
        }
        for copy in 0..copies(*n) {
            context.emit(&Out { key: key.clone(), n: *n, copy })?;
        }
        Ok(Outcome::Done)
    }
}

/// What one history was like.
pub(crate) struct History {
    pub(crate) published: Verdict,
    pub(crate) effects: Verdict,
    pub(crate) outputs: Verdict,
    /// What did not come to its end.
    pub(crate) stuck: Option<String>,
    pub(crate) messages: usize,
    pub(crate) faults: BTreeMap<&'static str, u32>,
    pub(crate) trace: Vec<String>,
}

impl History {
    /// Nothing when it is as promised.
    pub(crate) fn wrong(&self) -> Option<String> {
        let parts = [("published", &self.published), ("effects", &self.effects), ("outputs", &self.outputs)];
        let wrong: Vec<String> = parts
            .iter()
            .filter(|(_, verdict)| !verdict.is_clean())
            .map(|(what, verdict)| format!("{what}: {verdict:?}"))
            .chain(self.stuck.clone())
            .collect();
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}

/// Lives one history through, on a runtime of its own with a clock that nobody waits for.
pub(crate) fn live(seed: u64, left_out: &'static [Variant]) -> History {
    fastrand::seed(seed);
    failpoint::leave_out(left_out);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (history, database) = runtime.block_on(history(seed, DATABASE.take()));
    // Every process ends with the runtime, and with it whatever it had open.
    drop(runtime);
    DATABASE.set(Some(database));
    failpoint::leave_out(&[]);
    history
}

async fn history(seed: u64, used: Option<Sqlite>) -> (History, Sqlite) {
    let fate = Fate::new(seed);
    let config = EmbeddedConfig {
        topic_partitions: 2,
        session_timeout: Duration::from_secs(3),
        heartbeat_interval: Duration::from_secs(1),
        transaction_timeout: Duration::from_secs(4),
        query_timeout: Duration::from_secs(2),
        init_timeout: Duration::from_secs(8),
        max_poll_interval: Duration::from_secs(6),
        ..EmbeddedConfig::default()
    };
    let log = Embedded::in_memory_with(config).unwrap().with_faults(fate.clone());
    let database = match used {
        Some(used) => emptied(used).await,
        None => created().await,
    };
    for name in [In::TOPIC, Out::TOPIC] {
        let spec = TopicSpec { name: name.to_owned(), partitions: None, cleanup: Cleanup::Any };
        log.topic(&spec).await.unwrap();
    }
    let shape = Shape::draw(&fate);
    let world = World { log, database, fate: fate.clone(), shape };
    let until = Instant::now() + BUSY;
    let (calm, calmed) = watch::channel(false);
    let slots: Vec<JoinHandle<()>> = (0..world.shape.processes)
        .map(|slot| tokio::spawn(world.clone().live(slot, calmed.clone())))
        .collect();
    world.write().await;
    tokio::time::sleep_until(until).await;
    fate.calm();
    calm.send_replace(true);
    let (stuck, messages) = world.settle().await;
    let history = world.judge(stuck, messages).await;
    for slot in slots {
        slot.abort();
    }
    (history, world.database)
}

async fn created() -> Sqlite {
    let database = Sqlite::in_memory().await.unwrap().inline();
    database.migrate().await.unwrap();
    let mut transaction = database.outbox().begin().await.unwrap();
    on_the_spot(sqlx::raw_sql(SCHEMA).execute(&mut *transaction)).unwrap();
    let tables = "SELECT group_concat('DELETE FROM \"' || name || '\";', ' ') FROM sqlite_schema WHERE type = 'table' \
                  AND name NOT IN ('tidelock_database', 'tidelock_migration')";
    let empty: String = on_the_spot(sqlx::query_scalar(tables).fetch_one(&mut *transaction)).unwrap();
    let trigger = format!("CREATE TRIGGER empty INSTEAD OF DELETE ON everything BEGIN {empty} END");
    on_the_spot(sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut *transaction)).unwrap();
    transaction.commit().await.unwrap();
    database
}

/// As new, which takes longer to make than a history to live. The trigger is compiled once.
async fn emptied(database: Sqlite) -> Sqlite {
    let mut transaction = database.outbox().begin().await.unwrap();
    on_the_spot(sqlx::query("DELETE FROM everything").execute(&mut *transaction)).unwrap();
    transaction.commit().await.unwrap();
    database
}

/// What differs from history to history besides its faults.
#[derive(Debug, Clone)]
struct Shape {
    processes: usize,
    shards: u32,
    max_batch: usize,
    max_rows: usize,
    transactions: u32,
    assignor: Assignor,
    named: bool,
    inbox: bool,
}

impl Shape {
    fn draw(fate: &Fate) -> Self {
        fate.random(|random| Self {
            processes: random.usize(1..=2),
            shards: random.u32(1..=2),
            max_batch: random.usize(1..=4),
            max_rows: random.usize(1..=6),
            transactions: random.u32(2..=7),
            assignor: if random.bool() { Assignor::Cooperative } else { Assignor::Eager },
            named: random.bool(),
            inbox: random.u32(..4) == 0,
        })
    }
}

/// What the database holds.
struct Tables {
    left: i64,
    ledger: Vec<(String, i64)>,
    effects: Vec<(String, i64)>,
}

#[derive(Clone)]
struct World {
    log: Embedded,
    database: Sqlite,
    fate: Fate,
    shape: Shape,
}

impl World {
    fn pipeline(&self, slot: usize, client: &Client, life: Arc<Life>) -> Pipeline {
        let store = Store::new(self.database.clone(), client.name(), life, self.fate.clone());
        let shape = &self.shape;
        let relay = RelayConfig {
            shards: shape.shards,
            max_rows: shape.max_rows,
            // All processes share the hint of the one database; a look now and then is enough.
            poll_busy: Duration::from_secs(3),
            poll_idle: Duration::from_secs(3),
            assignor: shape.assignor,
            ..RelayConfig::new("sim")
        };
        let processor = ProcessorConfig {
            max_batch: shape.max_batch,
            inbox: shape.inbox,
            retry_most: Duration::from_secs(1),
            assignor: shape.assignor,
            ..ProcessorConfig::default()
        };
        let mut builder = Pipeline::builder(client.clone(), store)
            .relay(relay)
            .processor_defaults(processor)
            .processor(Processor::new("copy").handle(Copy { fate: self.fate.clone() }));
        if shape.named {
            builder = builder.instance(format!("slot-{slot}"));
        }
        builder.build().unwrap()
    }

    /// One process after the other under the same name: each lives until fate ends it.
    async fn live(self, slot: usize, calm: watch::Receiver<bool>) {
        for incarnation in 0.. {
            let name = format!("{slot}.{incarnation}");
            let client = self.log.client(&name);
            let life = self.fate.born(client.clone());
            let pipeline = self.pipeline(slot, &client, life.clone());
            let work = async {
                while pipeline.start().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = life.is(Status::Dead) => {}
                () = work => {}
            }
            client.kill();
            drop(pipeline);
            let calm = *calm.borrow();
            let rest = if calm { 100 } else { self.fate.random(|random| random.u64(10..5_000)) };
            tokio::time::sleep(Duration::from_millis(rest)).await;
        }
    }

    /// Business: each transaction moves one or two keys on; one in five is rolled back.
    async fn write(&self) {
        let mut producer = self.log.producer("foreign").await.unwrap();
        for _ in 0..self.shape.transactions {
            let (pause, both, undo, first) = self.fate.random(|random| {
                (random.u64(..1_200), random.bool(), random.u32(..5) == 0, random.usize(..KEYS.len()))
            });
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let mut transaction = self.database.outbox().begin().await.unwrap();
            for key in KEYS.iter().cycle().skip(first).take(1 + usize::from(both)) {
                let n = next(&mut transaction, key);
                transaction.enqueue(&In { key: (*key).to_owned(), n }).unwrap();
            }
            if undo {
                drop(transaction);
            } else {
                transaction.commit().await.unwrap();
            }
            if self.shape.inbox {
                self.write_twice(producer.as_mut()).await;
            }
        }
    }

    /// A program that knows the log and not its own transactions: everything comes twice, under the same id.
    async fn write_twice(&self, producer: &mut dyn tidelock::log::Producer) {
        let key = "foreign";
        let n = {
            let mut transaction = self.database.outbox().begin().await.unwrap();
            let n = next(&mut transaction, key);
            transaction.commit().await.unwrap();
            n
        };
        let mut headers = Headers::new();
        headers.push(header::ID, format!("foreign-{n}"));
        headers.push(header::TYPE, In::TYPE);
        let event = In { key: key.to_owned(), n };
        let record = Record {
            topic: In::TOPIC.into(),
            partition: None,
            key: Some(key.into()),
            payload: Some(event.encode().unwrap()),
            headers,
            time_ms: None,
        };
        for _ in 0..2 {
            producer.begin().await.unwrap();
            producer.send(vec![record.clone()]).await.unwrap();
            assert!(producer.acknowledged().await.unwrap().is_empty());
            assert!(matches!(producer.commit().await, Commit::Committed));
            tokio::time::sleep(Duration::from_millis(self.fate.random(|random| random.u64(..800)))).await;
        }
    }

    /// Waits until everything that was committed has come to its end, and then for what should not come.
    async fn settle(&self) -> (Option<String>, usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let Tables { left, ledger, effects } = self.tables().await;
            let (messages, effects) = (ledger.len(), effects.len());
            if left == 0 && effects >= messages && self.outputs_are_there(&ledger).await {
                tokio::time::sleep(QUIET).await;
                return (None, messages);
            }
            if Instant::now() >= until {
                let stuck = format!("stuck: {left} rows in the outbox, {effects} effects of {messages}");
                return (Some(stuck), messages);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The outputs may come later than the effects: a successor sends them.
    async fn outputs_are_there(&self, ledger: &[(String, i64)]) -> bool {
        let outputs: i64 = ledger.iter().map(|(_, n)| copies(*n)).sum();
        self.records(Out::TOPIC).await.len() as i64 >= outputs
    }

    async fn tables(&self) -> Tables {
        let mut transaction = self.database.outbox().begin().await.unwrap();
        let query = "SELECT 0, 0, '', count(*) FROM tidelock_outbox UNION ALL SELECT 1, rowid, key, n FROM ledger \
                     UNION ALL SELECT 2, id, key, n FROM effect ORDER BY 1, 2";
        let rows = on_the_spot(sqlx::query(query).fetch_all(&mut *transaction)).unwrap();
        let of = |table: i64| {
            let rows = rows.iter().filter(move |row| row.get::<i64, _>(0) == table);
            rows.map(|row| (row.get(2), row.get(3))).collect::<Vec<(String, i64)>>()
        };
        Tables { left: of(0)[0].1, ledger: of(1), effects: of(2) }
    }

    /// Every committed record of a topic, partition by partition, read by a group of its own.
    async fn records(&self, topic: &str) -> Vec<(i32, i64, serde_json::Value)> {
        let log: &dyn Log = &self.log;
        let mut left = BTreeMap::new();
        for partition in 0..2 {
            if let Some(last) = log.last_record(topic, partition).await.unwrap() {
                left.insert(partition, last.offset);
            }
        }
        let subscription = Subscription {
            group: "judge".to_owned(),
            topics: vec![topic.to_owned()],
            instance: None,
            assignor: Assignor::Eager,
        };
        let (consumer, mut events) = log.consumer(&subscription).await.unwrap();
        let mut found = Vec::new();
        while !left.is_empty() {
            match events.recv().await.unwrap() {
                ConsumerEvent::Assigned(partitions) => {
                    for each in partitions {
                        consumer.start(&each, 0).await.unwrap();
                    }
                }
                ConsumerEvent::Records { records, .. } => {
                    for record in records {
                        if left.get(&record.partition).is_some_and(|last| record.offset >= *last) {
                            left.remove(&record.partition);
                        }
                        let payload = serde_json::from_slice(&record.payload.unwrap()).unwrap();
                        found.push((record.partition, record.offset, payload));
                    }
                }
                _ => {}
            }
        }
        let given_back = async { while events.recv().await.is_some() {} };
        tokio::join!(consumer.close(), given_back);
        found.sort_by_key(|(partition, offset, _)| (*partition, *offset));
        found
    }

    async fn judge(&self, stuck: Option<String>, messages: usize) -> History {
        let Tables { ledger, effects, .. } = self.tables().await;
        let ledger: BTreeSet<(String, i64)> = ledger.into_iter().collect();
        let mut published: Vec<(String, i64)> = self
            .records(In::TOPIC)
            .await
            .into_iter()
            .map(|(_, _, payload)| serde_json::from_value(payload).unwrap())
            .map(|In { key, n }| (key, n))
            .collect();
        // What comes twice by another's fault is there twice.
        let mut once = BTreeSet::new();
        published.retain(|(key, n)| key != "foreign" || once.insert(*n));
        let expected: BTreeSet<(String, i64)> = ledger
            .iter()
            .flat_map(|(key, n)| (0..copies(*n)).map(move |copy| (key.clone(), n * 2 + copy)))
            .collect();
        let outputs: Vec<(String, i64)> = self
            .records(Out::TOPIC)
            .await
            .into_iter()
            .map(|(_, _, payload)| serde_json::from_value(payload).unwrap())
            .map(|Out { key, n, copy }| (key, n * 2 + copy))
            .collect();
        History {
            published: Verdict::of(&ledger, &published),
            effects: Verdict::of(&ledger, &effects),
            outputs: Verdict::of(&expected, &outputs),
            stuck,
            messages,
            faults: self.fate.faults(),
            trace: self.fate.trace(),
        }
    }
}

/// The next number of the key, written down in the ledger.
fn next(connection: &mut SqliteConnection, key: &str) -> i64 {
    let next = sqlx::query(
        "INSERT INTO ledger SELECT $1, 1 + coalesce(max(n), 0) FROM ledger WHERE key = $1 RETURNING n",
    );
    on_the_spot(next.bind(key).fetch_one(connection)).unwrap().get(0)
}
