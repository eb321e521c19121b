//! A log that remembers what was done with it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    error::Result,
    log::{
        Bounds, Commit, Consumer, ConsumerEvents, GroupMetadata, Log, PartitionOffset, Producer, Received,
        Record, Refusal, Rotation, Subscription, TopicSpec, embedded::Operation,
    },
};

/// Any log, with a memory of the calls to it and of the transactions of its producers. Its clones are the same log.
#[derive(Clone)]
pub struct Recording {
    inner: Arc<dyn Log>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    calls: Vec<(Operation, String)>,
    transactions: Vec<Transaction>,
}

/// A transaction of a producer.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Under which transactional id.
    pub transactional_id: String,
    /// What was sent, in order.
    pub records: Vec<Record>,
    /// The consumed offsets.
    pub offsets: Vec<PartitionOffset>,
    /// What became of it, as far as the producer was told.
    pub end: End,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Not yet, or its producer was dropped.
    Open,
    /// Committed.
    Committed,
    /// Aborted.
    Aborted,
    /// It may be either: the answer was lost.
    Unknown,
}

impl Recording {
    /// Around that log.
    pub fn new(log: impl Log) -> Self {
        Self { inner: Arc::new(log), memory: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, operation: Operation, about: &str) {
        self.lock().calls.push((operation, about.to_owned()));
    }

    /// Every call to the log and its producers so far, and what it was about: the transactional id, the group or the topic.
    pub fn calls(&self) -> Vec<(Operation, String)> {
        self.lock().calls.clone()
    }

    /// Every transaction so far, in the order of their begin.
    pub fn transactions(&self) -> Vec<Transaction> {
        self.lock().transactions.clone()
    }

    /// The records of the transactions that were answered as committed, in order.
    pub fn committed(&self) -> Vec<Record> {
        let committed = |each: Transaction| (each.end == End::Committed).then_some(each.records);
        self.transactions().into_iter().filter_map(committed).flatten().collect()
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Recording").field(&*self.lock()).finish()
    }
}

#[async_trait]
impl Log for Recording {
    async fn check(&self) -> Result<()> {
        self.called(Operation::Check, "");
        self.inner.check().await
    }

    async fn topic(&self, spec: &TopicSpec) -> Result<i32> {
        self.called(Operation::Topic, &spec.name);
        self.inner.topic(spec).await
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        self.called(Operation::Init, transactional_id);
        let inner = self.inner.producer(transactional_id).await?;
        Ok(Box::new(RecordingProducer { inner, log: self.clone(), transaction: None }))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        self.called(Operation::Join, &subscription.group);
        self.inner.consumer(subscription).await
    }

    async fn last_record(&self, topic: &str, partition: i32) -> Result<Option<Received>> {
        self.called(Operation::LastRecord, topic);
        self.inner.last_record(topic, partition).await
    }

    async fn topic_id(&self, topic: &str) -> Result<Option<String>> {
        self.inner.topic_id(topic).await
    }

    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        self.called(Operation::Bounds, topic);
        self.inner.bounds(topic, partition).await
    }
}

struct RecordingProducer {
    inner: Box<dyn Producer>,
    log: Recording,
    /// Which of the transactions is its own.
    transaction: Option<usize>,
}

impl RecordingProducer {
    fn note(&self, operation: Operation, change: impl FnOnce(&mut Transaction)) {
        self.log.called(operation, self.inner.transactional_id());
        if let Some(number) = self.transaction {
            change(&mut self.log.lock().transactions[number]);
        }
    }

    fn ended(&self, end: End) {
        if let Some(number) = self.transaction {
            self.log.lock().transactions[number].end = end;
        }
    }
}

#[async_trait]
impl Producer for RecordingProducer {
    fn transactional_id(&self) -> &str {
        self.inner.transactional_id()
    }

    async fn begin(&mut self) -> Result<()> {
        self.log.called(Operation::Begin, self.inner.transactional_id());
        self.inner.begin().await?;
        let transaction = Transaction {
            transactional_id: self.inner.transactional_id().to_owned(),
            records: Vec::new(),
            offsets: Vec::new(),
            end: End::Open,
        };
        let transactions = &mut self.log.lock().transactions;
        transactions.push(transaction);
        self.transaction = Some(transactions.len() - 1);
        Ok(())
    }

    async fn send(&mut self, records: Vec<Record>) -> Result<()> {
        self.note(Operation::Send, |transaction| transaction.records.extend(records.iter().cloned()));
        self.inner.send(records).await
    }

    async fn acknowledged(&mut self) -> Result<Vec<Refusal>> {
        self.note(Operation::Acknowledged, |_| {});
        self.inner.acknowledged().await
    }

    async fn send_offsets(&mut self, offsets: &[PartitionOffset], group: GroupMetadata) -> Result<()> {
        self.note(Operation::SendOffsets, |transaction| transaction.offsets.extend_from_slice(offsets));
        self.inner.send_offsets(offsets, group).await
    }

    async fn commit(&mut self) -> Commit {
        self.note(Operation::Commit, |_| {});
        let outcome = self.inner.commit().await;
        self.ended(match outcome {
            Commit::Committed => End::Committed,
            Commit::Aborted(_) => End::Aborted,
            Commit::Unknown(_) => End::Unknown,
        });
        outcome
    }

    async fn abort(&mut self) {
        self.note(Operation::Abort, |_| {});
        self.inner.abort().await;
        let undecided =
            self.transaction.is_some_and(|at| self.log.lock().transactions[at].end == End::Unknown);
        if !undecided {
            self.ended(End::Aborted);
        }
    }

    fn must_rotate(&self) -> Option<Rotation> {
        self.inner.must_rotate()
    }
}
