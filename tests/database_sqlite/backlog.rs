//! Handlers that are slow and have a lot to do: whoever else writes gets a turn in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use tidelock::{
    commit::Commit,
    database::{Database as _, Reader as _, Source as _, Unit as _, sqlite::Sqlite},
    log::{
        Assignor, Cleanup, ConsumerEvent, Log as _, TopicSpec,
        embedded::{Embedded, EmbeddedConfig},
    },
    outbox::Outgoing,
    prelude::*,
    relay::RelayConfig,
};

use super::{
    ALL, put,
    unit::{effect, fenced},
};
use crate::conformance::{Member, committed, record, sent, within};

/// Opens one unit after the other until the shop is gone; counts those that have ended.
fn keep_busy(sqlite: &Sqlite, tasks: usize, each: Duration) -> (Arc<AtomicUsize>, tokio::task::JoinSet<()>) {
    let (ended, mut busy) = (Arc::new(AtomicUsize::new(0)), tokio::task::JoinSet::new());
    for _ in 0..tasks {
        let (sqlite, ended) = (sqlite.clone(), ended.clone());
        busy.spawn(async move {
            loop {
                let mut unit = sqlite.begin().await.unwrap();
                effect(&mut unit).await;
                tokio::time::sleep(each).await;
                assert!(matches!(unit.commit().await, Commit::Committed));
                ended.fetch_add(1, SeqCst);
            }
        });
    }
    (ended, busy)
}

/// However many partitions wait to open a unit, whoever else waits comes next.
#[tokio::test]
async fn a_write_waits_for_one_unit() {
    let shop = fenced().await;
    let (ended, _busy) = keep_busy(&shop.sqlite, 8, Duration::from_millis(10));
    while ended.load(SeqCst) < 8 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        let before = ended.load(SeqCst);
        shop.sqlite.outbox().begin().await.unwrap().commit().await.unwrap();
        let waited = ended.load(SeqCst) - before;
        assert!(waited <= 2, "{waited} units ended first");
    }
}

#[tokio::test]
async fn what_only_reads_waits_for_no_unit() {
    let shop = fenced().await;
    let mut unit = shop.sqlite.begin().await.unwrap();
    effect(&mut unit).await;
    let read = async {
        assert!(!shop.sqlite.started(ALL).await.unwrap());
        assert!(shop.sqlite.held_keys(ALL).await.unwrap().0.is_empty());
        assert!(shop.sqlite.quarantine(1).await.unwrap().is_empty());
        let mut reader = shop.start().await;
        assert!(reader.read(1).await.unwrap().is_none());
    };
    within(20, read).await;
    assert!(matches!(unit.commit().await, Commit::Committed));
}

/// Another connection cannot queue up; it meets a rest.
#[tokio::test]
async fn another_connection_gets_through() {
    let shop = fenced().await;
    let (ended, _busy) = keep_busy(&shop.sqlite, 4, Duration::from_millis(50));
    for _ in 0..4 {
        let before = ended.load(SeqCst);
        let own = shop.pool.begin_with("BEGIN IMMEDIATE").await.expect("got through");
        own.commit().await.unwrap();
        // A stretch is 20 of them.
        let waited = ended.load(SeqCst) - before;
        assert!(waited <= 40, "{waited} units ended first");
    }
}

#[derive(Serialize, Deserialize)]
struct Task {
    n: usize,
}

impl Event for Task {
    const TYPE: &'static str = "Task";
    const TOPIC: &'static str = "tasks";

    fn key(&self) -> Key {
        Key::NONE
    }
}

/// Slow, and counts.
struct Slow(Arc<AtomicUsize>);

#[async_trait]
impl Handler<Sqlite> for Slow {
    type Event = Task;

    async fn handle(
        &self,
        _: &Message<Task>,
        context: &mut Context<'_, Sqlite>,
    ) -> Result<Outcome, BoxError> {
        let done = sqlx::query("INSERT INTO effect VALUES (1)");
        done.execute(context.connection()).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.0.fetch_add(1, SeqCst);
        Ok(Outcome::Done)
    }
}

const PARTITIONS: i32 = 4;
const TASKS: usize = 4_000;
/// Two seconds of handlers: what they do while somebody waits for two or three turns of a quarter of a second, and for
/// a rest of other connections. A batch of 500 is ten seconds long, and four of them stand in line.
const MEANWHILE: usize = 100;

/// Ten seconds of work in each batch, if nobody cut it.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_and_business_transactions_get_their_turn() {
    let shop = fenced().await;
    let log = Embedded::in_memory_with(EmbeddedConfig {
        topic_partitions: PARTITIONS,
        ..EmbeddedConfig::default()
    })
    .unwrap();
    for name in [Task::TOPIC, "t"] {
        let spec = TopicSpec { name: name.to_owned(), partitions: None, cleanup: Cleanup::Any };
        log.topic(&spec).await.unwrap();
    }
    let mut producer = log.producer("backlog").await.unwrap();
    let tasks = (0..TASKS).map(|n| {
        let mut one = record(Task::TOPIC, n as i32 % PARTITIONS, serde_json::to_vec(&Task { n }).unwrap());
        one.headers.push("ce_type", Task::TYPE);
        one
    });
    sent(&mut *producer, tasks.collect()).await;
    committed(producer.commit().await);
    let handled = Arc::new(AtomicUsize::new(0));
    let pipeline = Pipeline::builder(log.clone(), shop.sqlite.clone())
        .relay(RelayConfig::new("backlog"))
        .processor(Processor::new("workers").handle(Slow(handled.clone())))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    within(60, pipeline.ready()).await;
    while handled.load(SeqCst) < 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let mut reader = Member::join(&log, "reader", "t", Assignor::Eager).await;
    for at in reader.assigned().await {
        reader.consumer.start(&at, 0).await.unwrap();
    }
    for round in 0..4 {
        let before = handled.load(SeqCst);
        match round % 2 {
            0 => queue_up(&shop.sqlite).await,
            _ => ask_again(&shop.pool).await,
        }
        let committed = handled.load(SeqCst) - before;
        assert!(committed <= MEANWHILE, "{committed} tasks were done until a transaction was");
        match reader.event().await {
            ConsumerEvent::Records { records, .. } => assert_eq!(records.len(), 1),
            other => panic!("{other:?}"),
        }
        let published = handled.load(SeqCst) - before - committed;
        assert!(published <= MEANWHILE, "{published} tasks were done until a message was published");
    }
    assert!(handled.load(SeqCst) < TASKS, "there was a backlog all the time");
    let _ = pipeline.stop(Duration::from_secs(5)).await;
}

async fn queue_up(sqlite: &Sqlite) {
    let mut transaction = sqlite.outbox().begin().await.unwrap();
    transaction.enqueue_message(Outgoing::raw("t", "k", Some("in line".into())));
    transaction.commit().await.unwrap();
}

async fn ask_again(pool: &SqlitePool) {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    put(&mut transaction, "k", "from outside").await;
    transaction.commit().await.unwrap();
}
