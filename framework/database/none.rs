//! No database: handlers only emit, and the log's own offset is the only truth.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Advance, Advanced, Database, Fence, FenceKey, FirstStart, HeldKey, Quarantined, Submitted, Unit,
};
use crate::{
    commit::Commit,
    error::{Error, Kind, Result},
    message::MessageId,
};

/// Kafka-only mode: what a handler emits and the offset are one Kafka transaction; there is no inbox.
///
/// Nothing but the group's committed offset says what was handled. When Kafka has forgotten it, because the group was
/// empty for longer than `offsets.retention.minutes` (7 days by default) or somebody deleted it, everything that is
/// still in the topic is handled again. A processor that starts at the latest record is refused: it would skip records
/// instead, without a word.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDatabase;

#[async_trait]
impl Database for NoDatabase {
    type Connection = ();
    type Unit = NoUnit;
    const FENCED: bool = false;

    async fn check_durable(&self) -> Result<()> {
        Ok(())
    }

    async fn fence(&self, _: &FenceKey) -> Result<Option<Fence>> {
        Ok(None)
    }

    async fn first_start(&self, _: &FenceKey, partitions: i32) -> Result<FirstStart> {
        Ok(FirstStart { partitions, fenced: false })
    }

    async fn note_topic(&self, _: &FenceKey, id: &str) -> Result<Option<String>> {
        Ok(Some(id.to_owned()))
    }

    async fn insert_fence(&self, _: &FenceKey, _: i64, _: &str) -> Result<()> {
        Ok(())
    }

    async fn begin(&self) -> Result<NoUnit> {
        Ok(NoUnit(()))
    }

    async fn claim_outputs(&self, _: &FenceKey, submitted: &Submitted, _: &str) -> Result<Option<i64>> {
        Ok(Some(submitted.claim))
    }

    async fn quarantine_outputs(
        &self,
        key: &FenceKey,
        _: &Submitted,
        _: Bytes,
        refused: &[Quarantined],
    ) -> Result<bool> {
        let reason = refused.first().map_or("", |each| each.reason.as_str());
        Err(Error::new(
            Kind::Refused,
            format!(
                "{}[{}]: an output was refused and there is no database to keep it in: {reason}",
                key.topic, key.partition
            ),
        ))
    }

    async fn clean_inbox(&self, _: &str, _: Duration) -> Result<u64> {
        Ok(0)
    }
}

/// The transaction of [`NoDatabase`]: there is nothing to commit.
#[derive(Debug)]
pub struct NoUnit(());

#[async_trait]
impl Unit for NoUnit {
    type Connection = ();

    fn connection(&mut self) -> &mut () {
        &mut self.0
    }

    async fn admit(&mut self, _: &str, _: &[MessageId]) -> Result<HashSet<MessageId>> {
        Ok(HashSet::new())
    }

    async fn retract(&mut self, _: &str, _: &[MessageId]) -> Result<()> {
        Ok(())
    }

    async fn advance(&mut self, _: Advance<'_>) -> Result<Advanced> {
        Ok(Advanced::Clear)
    }

    async fn held_outputs(&mut self, _: &[HeldKey]) -> Result<HashSet<HeldKey>> {
        Ok(HashSet::new())
    }

    async fn hold_back(&mut self, key: &FenceKey, _: Bytes, _: &[Quarantined]) -> Result<()> {
        let what = format!("{}[{}]: there is no database to hold outputs back in", key.topic, key.partition);
        Err(Error::new(Kind::Refused, what))
    }

    async fn commit(self) -> Commit {
        Commit::Committed
    }

    async fn rollback(self) {}
}
