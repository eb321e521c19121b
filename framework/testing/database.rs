//! A database as one process sees it, which can be stopped and killed at its calls.

use std::{collections::HashSet, future::pending, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    plan::{Deed, Seam},
    script::Script,
};
use crate::{
    commit::Commit,
    database::{
        Advance, Advanced, Database, Fence, FenceKey, FirstStart, HeldKey, Quarantined, Submitted, Unit,
    },
    error::{Error, Kind, Result},
    log::embedded::Client,
    message::MessageId,
};

/// The database of a process. Handlers see the connection of the database below.
#[derive(Clone)]
pub(super) struct Connected<D> {
    pub(super) inner: D,
    pub(super) process: Process,
}

/// A process and its fate.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) client: Client,
    pub(super) script: Script,
}

impl Process {
    async fn call<T>(&self, work: impl Future<Output = T>) -> T {
        self.client.running().await;
        if self.script.is_doomed(self.client.name()) {
            return self.die().await;
        }
        let answer = work.await;
        self.client.running().await;
        answer
    }

    async fn die<T>(&self) -> T {
        self.client.kill();
        pending().await
    }
}

#[async_trait]
impl<D: Database> Database for Connected<D> {
    type Connection = D::Connection;
    type Unit = ConnectedUnit<D::Unit>;
    const FENCED: bool = D::FENCED;
    const ONE_WRITER: bool = D::ONE_WRITER;

    async fn check_durable(&self) -> Result<()> {
        self.process.call(self.inner.check_durable()).await
    }

    async fn fence(&self, key: &FenceKey) -> Result<Option<Fence>> {
        self.process.call(self.inner.fence(key)).await
    }

    async fn first_start(&self, key: &FenceKey, partitions: i32) -> Result<FirstStart> {
        self.process.call(self.inner.first_start(key, partitions)).await
    }

    async fn note_topic(&self, key: &FenceKey, id: &str) -> Result<Option<String>> {
        self.process.call(self.inner.note_topic(key, id)).await
    }

    async fn insert_fence(&self, key: &FenceKey, next_offset: i64, owner: &str) -> Result<()> {
        self.process.call(self.inner.insert_fence(key, next_offset, owner)).await
    }

    async fn begin(&self) -> Result<Self::Unit> {
        let inner = self.process.call(self.inner.begin()).await?;
        Ok(ConnectedUnit { inner, process: self.process.clone() })
    }

    async fn claim_outputs(&self, key: &FenceKey, submitted: &Submitted, owner: &str) -> Result<Option<i64>> {
        self.process.call(self.inner.claim_outputs(key, submitted, owner)).await
    }

    async fn quarantine_outputs(
        &self,
        key: &FenceKey,
        submitted: &Submitted,
        pending: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool> {
        let moved = self.inner.quarantine_outputs(key, submitted, pending, refused);
        self.process.call(moved).await
    }

    async fn clean_inbox(&self, group: &str, age: Duration) -> Result<u64> {
        self.process.call(self.inner.clean_inbox(group, age)).await
    }
}

/// An open transaction of the process. It is rolled back when the process is gone.
pub(super) struct ConnectedUnit<U> {
    inner: U,
    process: Process,
}

fn lost(what: &str) -> Commit {
    Commit::Unknown(Error::new(Kind::Unknown, format!("the {what} of COMMIT was lost")))
}

#[async_trait]
impl<U: Unit> Unit for ConnectedUnit<U> {
    type Connection = U::Connection;

    fn connection(&mut self) -> &mut U::Connection {
        self.inner.connection()
    }

    async fn admit(&mut self, group: &str, ids: &[MessageId]) -> Result<HashSet<MessageId>> {
        let process = self.process.clone();
        process.call(self.inner.admit(group, ids)).await
    }

    async fn retract(&mut self, group: &str, ids: &[MessageId]) -> Result<()> {
        let process = self.process.clone();
        process.call(self.inner.retract(group, ids)).await
    }

    async fn advance(&mut self, advance: Advance<'_>) -> Result<Advanced> {
        let process = self.process.clone();
        let advanced = process.call(self.inner.advance(advance)).await;
        if let Err(error) = &advanced {
            process.script.failed(error);
        }
        advanced
    }

    async fn held_outputs(&mut self, keys: &[HeldKey]) -> Result<HashSet<HeldKey>> {
        let process = self.process.clone();
        process.call(self.inner.held_outputs(keys)).await
    }

    async fn hold_back(&mut self, key: &FenceKey, pending: Bytes, held: &[Quarantined]) -> Result<()> {
        let process = self.process.clone();
        process.call(self.inner.hold_back(key, pending, held)).await
    }

    async fn commit(self) -> Commit {
        let Self { inner, process } = self;
        process.client.running().await;
        let deed = process.script.at(process.client.name(), Seam::DatabaseCommit);
        match deed {
            Some(Deed::Kill) => return process.die().await,
            Some(Deed::LoseRequest) => {
                inner.rollback().await;
                return lost("request");
            }
            _ => process.client.running().await,
        }
        let outcome = inner.commit().await;
        match &outcome {
            Commit::Committed => process.script.succeeded(),
            Commit::Aborted(error) | Commit::Unknown(error) => process.script.failed(error),
        }
        match deed {
            Some(Deed::KillAfter) => process.die().await,
            Some(Deed::LoseAnswer) => lost("answer"),
            _ => {
                process.client.running().await;
                outcome
            }
        }
    }

    async fn rollback(self) {
        let Self { inner, process } = self;
        process.client.running().await;
        inner.rollback().await;
    }
}
