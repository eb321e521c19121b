//! A move to the quarantine that the database carries out after its answer was given up.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidelock::{
    database::{
        Database, Fence, FenceKey, FirstStart, Quarantined, Submitted,
        sqlite::{Sqlite, SqliteUnit},
    },
    error::{Error, Kind, Result},
    failpoint::{self, Variant},
    log::{Cleanup, embedded::Embedded},
    prelude::*,
};
use tokio::sync::{Semaphore, mpsc};

use super::{
    narrow::Narrow,
    pipeline::{Double, Number, by_key, feed},
    topic, within,
};

/// The first move takes place when it is let go, and its answer is given up before.
#[derive(Clone)]
struct Late {
    inner: Sqlite,
    log: Narrow,
    first: Arc<Semaphore>,
    let_go: Arc<Semaphore>,
    moved: mpsc::UnboundedSender<bool>,
}

#[async_trait]
impl Database for Late {
    type Connection = <Sqlite as Database>::Connection;
    type Unit = SqliteUnit;
    const ONE_WRITER: bool = Sqlite::ONE_WRITER;

    async fn check_durable(&self) -> Result<()> {
        self.inner.check_durable().await
    }

    async fn fence(&self, key: &FenceKey) -> Result<Option<Fence>> {
        self.inner.fence(key).await
    }

    async fn first_start(&self, key: &FenceKey, partitions: i32) -> Result<FirstStart> {
        self.inner.first_start(key, partitions).await
    }

    async fn note_topic(&self, key: &FenceKey, id: &str) -> Result<Option<String>> {
        self.inner.note_topic(key, id).await
    }

    async fn insert_fence(&self, key: &FenceKey, next_offset: i64, owner: &str) -> Result<()> {
        self.inner.insert_fence(key, next_offset, owner).await
    }

    async fn begin(&self) -> Result<SqliteUnit> {
        self.inner.begin().await
    }

    async fn claim_outputs(&self, key: &FenceKey, submitted: &Submitted, owner: &str) -> Result<Option<i64>> {
        self.inner.claim_outputs(key, submitted, owner).await
    }

    async fn quarantine_outputs(
        &self,
        key: &FenceKey,
        submitted: &Submitted,
        pending: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool> {
        let Ok(permit) = self.first.try_acquire() else {
            return self.inner.quarantine_outputs(key, submitted, pending, refused).await;
        };
        permit.forget();
        // What is sent again is accepted.
        self.log.refuses(None);
        let (late, key, submitted, refused) =
            (self.clone(), key.clone(), submitted.clone(), refused.to_vec());
        tokio::spawn(async move {
            late.let_go.acquire().await.unwrap().forget();
            let moved = late.inner.quarantine_outputs(&key, &submitted, pending, &refused).await.unwrap();
            late.moved.send(moved).unwrap();
        });
        Err(Error::new(Kind::Timeout, "the database did not answer"))
    }

    async fn clean_inbox(&self, group: &str, age: Duration) -> Result<u64> {
        self.inner.clean_inbox(group, age).await
    }
}

struct Doubles;

#[async_trait]
impl Handler<Late> for Doubles {
    type Event = Number;

    async fn handle(
        &self,
        message: &Message<Number>,
        context: &mut Context<'_, Late>,
    ) -> Result<Outcome, BoxError> {
        context.emit(&Double { n: 2 * message.event.n })?;
        Ok(Outcome::Done)
    }
}

/// Whether outputs that are published went to the quarantine.
async fn moved_what_is_published() -> bool {
    let log = Embedded::in_memory();
    for name in [Number::TOPIC, Double::TOPIC] {
        topic(&log, name, 1, Cleanup::Any).await;
    }
    let inner = Sqlite::in_memory().await.unwrap();
    inner.migrate().await.unwrap();
    let (sender, mut moved) = mpsc::unbounded_channel();
    let narrow = Narrow::new(log.clone(), usize::MAX);
    narrow.refuses(Double::TOPIC);
    let let_go = Arc::new(Semaphore::new(0));
    let late = Late {
        inner: inner.clone(),
        log: narrow.clone(),
        first: Arc::new(Semaphore::new(1)),
        let_go: let_go.clone(),
        moved: sender,
    };
    let pipeline =
        Pipeline::builder(narrow, late).processor(Processor::new("doubles").handle(Doubles)).build().unwrap();
    pipeline.start().await.unwrap();
    feed(&log, 1..=1).await;
    within(20, by_key(&log, Double::TOPIC, 1)).await;
    let_go.add_permits(1);
    let moved = within(20, moved.recv()).await.unwrap();
    assert_eq!(inner.quarantine(10).await.unwrap().len(), usize::from(moved));
    feed(&log, 8..=8).await;
    within(20, by_key(&log, Double::TOPIC, if moved { 1 } else { 2 })).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
    moved
}

#[tokio::test]
async fn it_moves_nothing() {
    assert!(!moved_what_is_published().await);
}

/// So the test above can fail.
#[tokio::test]
async fn without_a_claim_it_moves_what_is_published() {
    failpoint::leave_out(&[Variant::OutputsUnclaimed]);
    assert!(moved_what_is_published().await);
}
