//! SQLite as one simulated process sees it: its calls hang, fail and lose their answers as fate will have it.

use std::{collections::HashSet, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use tidelock::{
    commit::Commit,
    database::{
        Advance, Advanced, Batch, Claim, Database, Fence, FenceKey, FirstStart, HeldKey, Quarantined, Reader,
        Released, Shard, Source, Submitted, Unit,
        sqlite::{Sqlite, SqlitePublished, SqliteReader, SqliteUnit},
    },
    error::{Error, Kind, Result},
    log::embedded::Fault,
    message::MessageId,
    prelude::async_trait,
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::fate::{Fate, Life, Mishap, Status};

/// The connection of one process.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Sqlite,
    client: Arc<str>,
    life: Arc<Life>,
    fate: Fate,
}

/// What becomes of the answer.
enum Answer {
    Given,
    Lost,
    Never,
}

fn lost(what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{what}: the connection is lost"))
}

impl Store {
    pub(crate) fn new(inner: Sqlite, client: &str, life: Arc<Life>, fate: Fate) -> Self {
        Self { inner, client: client.into(), life, fate }
    }

    /// Waits while the process is stopped; for ever if it is dead.
    async fn alive(&self) {
        self.life.is(Status::Running).await;
    }

    async fn enter(&self, what: &str) -> Result<Answer> {
        self.alive().await;
        // An open transaction of a process that stands still would keep every other one waiting.
        let stops =
            !matches!(what, "admit" | "retract" | "advance" | "held_outputs" | "hold_back" | "commit");
        let fault = match self.fate.of_database(&self.client, what, stops) {
            Mishap::Call(fault) => fault,
            Mishap::Stop(time, lag) => {
                self.life.stop(time, lag);
                Fault::None
            }
        };
        let answer = match fault {
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                Answer::Given
            }
            Fault::LoseRequest => return Err(lost(what)),
            Fault::LoseAnswer => Answer::Lost,
            Fault::Kill => pending().await,
            Fault::KillAfter => Answer::Never,
            Fault::None | Fault::Fence | Fault::AbortTransaction => Answer::Given,
        };
        self.alive_unless(&answer).await;
        Ok(answer)
    }

    /// One that dies after the call makes it still.
    async fn alive_unless(&self, answer: &Answer) {
        if !matches!(answer, Answer::Never) {
            self.alive().await;
        }
    }

    async fn leave<T>(&self, what: &str, answer: Answer, result: Result<T>) -> Result<T> {
        match answer {
            Answer::Given => {
                self.alive().await;
                result
            }
            Answer::Lost => result.and(Err(lost(what))),
            Answer::Never => pending().await,
        }
    }

    async fn call<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = self.enter(what).await?;
        let result = work.await;
        self.leave(what, answer, result).await
    }
}

#[async_trait]
impl Database for Store {
    type Connection = sqlx::SqliteConnection;
    type Unit = StoreUnit;
    const ONE_WRITER: bool = Sqlite::ONE_WRITER;

    async fn check_durable(&self) -> Result<()> {
        self.call("check_durable", self.inner.check_durable()).await
    }

    async fn fence(&self, key: &FenceKey) -> Result<Option<Fence>> {
        self.call("fence", self.inner.fence(key)).await
    }

    async fn first_start(&self, key: &FenceKey, partitions: i32) -> Result<FirstStart> {
        self.call("first_start", self.inner.first_start(key, partitions)).await
    }

    async fn note_topic(&self, key: &FenceKey, id: &str) -> Result<Option<String>> {
        self.call("note_topic", self.inner.note_topic(key, id)).await
    }

    async fn insert_fence(&self, key: &FenceKey, next_offset: i64, owner: &str) -> Result<()> {
        self.call("insert_fence", self.inner.insert_fence(key, next_offset, owner)).await
    }

    async fn begin(&self) -> Result<StoreUnit> {
        let inner = self.call("begin", self.inner.begin()).await?;
        Ok(StoreUnit { inner, store: self.clone() })
    }

    async fn claim_outputs(&self, key: &FenceKey, submitted: &Submitted, owner: &str) -> Result<Option<i64>> {
        self.call("claim_outputs", self.inner.claim_outputs(key, submitted, owner)).await
    }

    async fn quarantine_outputs(
        &self,
        key: &FenceKey,
        submitted: &Submitted,
        pending: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool> {
        let moved = self.inner.quarantine_outputs(key, submitted, pending, refused);
        self.call("quarantine_outputs", moved).await
    }

    async fn clean_inbox(&self, group: &str, age: Duration) -> Result<u64> {
        self.call("clean_inbox", self.inner.clean_inbox(group, age)).await
    }
}

/// An open transaction of the process.
pub(crate) struct StoreUnit {
    inner: SqliteUnit,
    store: Store,
}

#[async_trait]
impl Unit for StoreUnit {
    type Connection = sqlx::SqliteConnection;

    fn connection(&mut self) -> &mut sqlx::SqliteConnection {
        self.inner.connection()
    }

    async fn admit(&mut self, group: &str, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
        let store = self.store.clone();
        store.call("admit", self.inner.admit(group, ids)).await
    }

    async fn retract(&mut self, group: &str, ids: &[MessageId]) -> Result<()> {
        let store = self.store.clone();
        store.call("retract", self.inner.retract(group, ids)).await
    }

    async fn advance(&mut self, advance: Advance<'_>) -> Result<Advanced> {
        let store = self.store.clone();
        store.call("advance", self.inner.advance(advance)).await
    }

    async fn held_outputs(&mut self, keys: &[HeldKey]) -> Result<HashSet<HeldKey>> {
        let store = self.store.clone();
        store.call("held_outputs", self.inner.held_outputs(keys)).await
    }

    async fn hold_back(&mut self, key: &FenceKey, pending: Bytes, held: &[Quarantined]) -> Result<()> {
        let store = self.store.clone();
        store.call("hold_back", self.inner.hold_back(key, pending, held)).await
    }

    async fn commit(self) -> Commit {
        let Self { inner, store } = self;
        let answer = match store.enter("commit").await {
            Ok(answer) => answer,
            Err(error) => {
                inner.rollback().await;
                return Commit::Unknown(error);
            }
        };
        let outcome = inner.commit().await;
        match store.leave("commit", answer, Ok(())).await {
            Ok(()) => outcome,
            Err(error) => Commit::Unknown(error),
        }
    }

    async fn rollback(self) {
        self.inner.rollback().await;
    }
}

#[async_trait]
impl Source for Store {
    type Reader = StoreReader;
    type Published = SqlitePublished;

    fn hint(&self) -> Arc<Notify> {
        self.inner.hint()
    }

    async fn check(&self) -> Result<()> {
        self.call("check", self.inner.check()).await
    }

    async fn fix_shards(&self, count: u32) -> Result<()> {
        self.call("fix_shards", self.inner.fix_shards(count)).await
    }

    async fn started(&self, shard: Shard) -> Result<bool> {
        self.call("started", self.inner.started(shard)).await
    }

    async fn mark_started(&self, shard: Shard) -> Result<()> {
        self.call("mark_started", self.inner.mark_started(shard)).await
    }

    async fn origin(&self) -> Result<Bytes> {
        self.call("origin", self.inner.origin()).await
    }

    async fn reader(&self, shard: Shard, position: &[u8]) -> Result<StoreReader> {
        let inner = self.call("reader", self.inner.reader(shard, position)).await?;
        Ok(StoreReader { inner, store: self.clone() })
    }

    async fn clean(&self, published: SqlitePublished) -> Result<u64> {
        self.call("clean", self.inner.clean(published)).await
    }

    async fn claim(&self, shard: Shard) -> Result<Claim> {
        self.call("claim", self.inner.claim(shard)).await
    }

    async fn settle_quarantine(&self, claim: Claim, attempt: Option<Uuid>) -> Result<u64> {
        self.call("settle_quarantine", self.inner.settle_quarantine(claim, attempt)).await
    }

    async fn propose(&self, claim: Claim, attempt: Uuid, refused: &[Quarantined]) -> Result<()> {
        self.call("propose", self.inner.propose(claim, attempt, refused)).await
    }

    async fn held_keys(&self, shard: Shard) -> Result<(HashSet<HeldKey>, bool)> {
        self.call("held_keys", self.inner.held_keys(shard)).await
    }

    async fn take_released(&self, claim: Claim, attempt: Uuid, limit: usize) -> Result<Vec<Released>> {
        self.call("take_released", self.inner.take_released(claim, attempt, limit)).await
    }

    async fn refuse_released(&self, claim: Claim, refused: &[(i64, String)]) -> Result<()> {
        self.call("refuse_released", self.inner.refuse_released(claim, refused)).await
    }
}

/// Reads the outbox for the process.
pub(crate) struct StoreReader {
    inner: SqliteReader,
    store: Store,
}

#[async_trait]
impl Reader for StoreReader {
    type Published = SqlitePublished;

    async fn read(&mut self, rows: usize) -> Result<Option<Batch<SqlitePublished>>> {
        let store = self.store.clone();
        store.call("read", self.inner.read(rows)).await
    }

    async fn durable(&mut self) -> Result<()> {
        let store = self.store.clone();
        store.call("durable", self.inner.durable()).await
    }
}
