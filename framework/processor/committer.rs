//! One Kafka transaction per cycle, for every partition whose database commit is done.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    error::{Error, Kind, Result},
    failpoint::{Point, Variant, hit, left_out},
    health::{Entry, Health, State},
    log::{Assignment, Commit, Consumer, KnownTopics, Log, PartitionOffset, Producer, Record, Refusal},
    policy::advice,
    retry::{Backoff, Portion},
    telemetry,
};

/// Beyond this many outputs a batch ends, and the rest waits for the next transaction.
pub(crate) const MAX_OUTPUTS: usize = 10_000;
/// The same for bytes: what could not be delivered before the broker ends the transaction (15 s)
/// would be sent again for ever. This much takes 300 kB/s.
pub(crate) const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// What a partition wants committed: the outputs of one batch and the offset after it.
pub(crate) struct Submission {
    pub(crate) assignment: Assignment,
    pub(crate) offset: i64,
    pub(crate) outputs: Vec<Record>,
    pub(crate) verdict: oneshot::Sender<Verdict>,
}

impl Submission {
    /// Outputs and their bytes.
    fn size(&self) -> (usize, usize) {
        (self.outputs.len(), self.outputs.iter().map(Record::size).sum())
    }
}

/// What became of a submission. Unless it is committed, the transaction's outcome is decided by now: a new producer
/// was initialised since.
pub(crate) enum Verdict {
    /// Outputs and offset are committed.
    Committed,
    /// Look at fence and offset to find out; why, and whether for want of a right.
    Look(Kind, String),
    /// Not committed: these outputs (by their index in the submission) are refused for good.
    Refused(Vec<Refusal>),
}

/// The sending side.
#[derive(Clone)]
pub(crate) struct Committer(mpsc::UnboundedSender<Submission>);

impl Committer {
    /// Hands a batch over; at most one per partition at a time.
    pub(crate) fn submit(
        &self,
        assignment: &Assignment,
        offset: i64,
        outputs: Vec<Record>,
    ) -> oneshot::Receiver<Verdict> {
        let (verdict, receiver) = oneshot::channel();
        let _ = self.0.send(Submission { assignment: assignment.clone(), offset, outputs, verdict });
        receiver
    }
}

/// The working side.
pub(crate) struct Cycle {
    log: Arc<dyn Log>,
    transactional_id: String,
    group: Arc<str>,
    /// `None` between a failed rotation and the next submission.
    producer: Option<Box<dyn Producer>>,
    topics: KnownTopics,
    submissions: mpsc::UnboundedReceiver<Submission>,
    /// Submissions are of outputs that another process may claim.
    claimable: bool,
    /// How many partitions go into one transaction.
    portion: Portion,
    health: Health,
    stop: CancellationToken,
}

impl Cycle {
    /// Initialises the producer: whatever a predecessor of the same name left open is decided from here on.
    pub(crate) async fn start(
        log: Arc<dyn Log>,
        transactional_id: String,
        group: Arc<str>,
        claimable: bool,
        health: Health,
        stop: CancellationToken,
    ) -> Result<(Committer, Self)> {
        let producer = log.producer(&transactional_id).await?;
        let (sender, submissions) = mpsc::unbounded_channel();
        let topics = KnownTopics::new(log.clone());
        Ok((
            Committer(sender),
            Self {
                log,
                transactional_id,
                group,
                producer: Some(producer),
                topics,
                submissions,
                claimable,
                portion: Portion::ALL,
                health,
                stop,
            },
        ))
    }

    /// Runs until every [`Committer`] is gone.
    pub(crate) async fn run(mut self, consumer: Arc<dyn Consumer>) {
        let mut carried: Option<Submission> = None;
        loop {
            let first = match carried.take() {
                Some(carried) => carried,
                None => match self.submissions.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let (mut outputs, mut bytes) = first.size();
            let mut batch = vec![first];
            while batch.len() < self.portion.of(usize::MAX)
                && outputs < MAX_OUTPUTS
                && bytes < MAX_OUTPUT_BYTES
                && let Ok(next) = self.submissions.try_recv()
            {
                let size = next.size();
                (outputs, bytes) = (outputs + size.0, bytes + size.1);
                if outputs > MAX_OUTPUTS || bytes > MAX_OUTPUT_BYTES {
                    carried = Some(next);
                    break;
                }
                batch.push(next);
            }
            if !self.cycle(consumer.as_ref(), batch).await && self.claimable {
                // Somebody else may have initialised this producer's id and claimed what waits here.
                let waiting = std::iter::from_fn(|| self.submissions.try_recv().ok());
                for each in carried.take().into_iter().chain(waiting) {
                    let _ = each
                        .verdict
                        .send(Verdict::Look(Kind::Unavailable, "a transaction before it failed".to_owned()));
                }
            }
        }
    }

    /// `false`: the transaction failed, or was not begun for want of a producer.
    async fn cycle(&mut self, consumer: &dyn Consumer, mut batch: Vec<Submission>) -> bool {
        batch.retain(|each| consumer.holds(&each.assignment));
        let held: Vec<Assignment> = batch.iter().map(|each| each.assignment.clone()).collect();
        if batch.is_empty() {
            return true;
        }
        if !self.renew(consumer, &held).await {
            return false;
        }
        let counts: Vec<usize> = batch.iter().map(|each| each.outputs.len()).collect();
        let outcome = self.transaction(consumer, &mut batch).await;
        hit(Point::P5);
        let answered = outcome.is_ok();
        let (refusals, kind, reason) = match outcome {
            Ok(refusals) if refusals.is_empty() => {
                self.portion.succeeded();
                metrics::counter!(telemetry::PROCESSOR_TRANSACTIONS, "group" => self.group.to_string())
                    .increment(1);
                for each in batch {
                    let _ = each.verdict.send(Verdict::Committed);
                }
                self.renew(consumer, &held).await;
                return true;
            }
            Ok(refusals) => {
                (refusals, Kind::Unavailable, "an output of another partition was refused".to_owned())
            }
            Err(error) => {
                self.portion.failed();
                info!(group = &*self.group, %error, "a transaction was not committed, looking what became of it");
                (Vec::new(), error.kind(), error.to_string())
            }
        };
        // A partition may look only after the next producer is initialised: until then the outcome can change.
        if !self.renew(consumer, &held).await {
            return answered;
        }
        let mut first = 0;
        for (each, count) in batch.into_iter().zip(counts) {
            let own: Vec<Refusal> = refusals
                .iter()
                .filter(|refusal| (first..first + count).contains(&refusal.index))
                .map(|refusal| Refusal { index: refusal.index - first, ..refusal.clone() })
                .collect();
            first += count;
            let verdict = match own.is_empty() {
                true => Verdict::Look(kind, reason.clone()),
                false => Verdict::Refused(own),
            };
            let _ = each.verdict.send(verdict);
        }
        answered
    }

    /// Not empty: refused outputs, indexes over the whole batch; the transaction is aborted.
    async fn transaction(
        &mut self,
        consumer: &dyn Consumer,
        batch: &mut [Submission],
    ) -> Result<Vec<Refusal>> {
        let unknown = self.unknown_topics(batch).await?;
        if !unknown.is_empty() {
            return Ok(unknown);
        }
        let Some(producer) = self.producer.as_deref_mut() else {
            return Err(Error::new(Kind::Unavailable, "there is no producer"));
        };
        let emits = batch.iter().any(|each| !each.outputs.is_empty());
        hit(Point::P3Begin);
        producer.begin().await?;
        match fill(producer, consumer, batch).await {
            Ok(refusals) if refusals.is_empty() => {}
            Ok(refusals) => {
                producer.abort().await;
                return Ok(refusals);
            }
            Err(error) => {
                producer.abort().await;
                return Err(error);
            }
        }
        if emits {
            hit(Point::P3Commit);
        }
        let outcome = producer.commit().await;
        hit(Point::P4);
        match outcome {
            Commit::Committed => Ok(Vec::new()),
            Commit::Aborted(error) | Commit::Unknown(error) => Err(error),
        }
    }

    async fn unknown_topics(&mut self, batch: &[Submission]) -> Result<Vec<Refusal>> {
        let mut refusals = Vec::new();
        for (index, record) in batch.iter().flat_map(|each| &each.outputs).enumerate() {
            if let Some(reason) = self.topics.refusal(&record.topic).await? {
                refusals.push(Refusal::new(index, reason));
            }
        }
        Ok(refusals)
    }

    /// A new producer where the last one may not be used again. Fenced can mean slow, or that somebody else runs
    /// under this name: so it is tried only while a partition is still held, and with backoff. `false`: given up.
    async fn renew(&mut self, consumer: &dyn Consumer, held: &[Assignment]) -> bool {
        if let Some(None) = self.producer.as_ref().map(|producer| producer.must_rotate()) {
            return true;
        }
        let entry = self.health.entry(format!("processor {} transactions", self.group));
        self.rotate(&entry, consumer, held).await
    }

    async fn rotate(&mut self, entry: &Entry, consumer: &dyn Consumer, held: &[Assignment]) -> bool {
        let backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(5) };
        let mut failures = 0;
        loop {
            match self.producer.as_ref().map(|producer| producer.must_rotate()) {
                Some(None) => return true,
                Some(Some(reason)) => {
                    metrics::counter!(telemetry::ROTATIONS, "component" => "processor", "reason" => reason.as_str())
                        .increment(1);
                    info!(group = &*self.group, %reason, "rotating the producer");
                    self.producer = None;
                }
                None => {}
            }
            if self.stop.is_cancelled() || !held.iter().any(|each| consumer.holds(each)) {
                return false;
            }
            match self.log.producer(&self.transactional_id).await {
                Ok(producer) => self.producer = Some(producer),
                Err(error) => {
                    failures += 1;
                    entry.set(State::Recovering(error.to_string()));
                    warn!(group = &*self.group, %error, failures, advice = advice(error.kind()), "no new producer yet");
                    self.stop.run_until_cancelled(tokio::time::sleep(backoff.wait(failures))).await;
                }
            }
        }
    }
}

/// Outputs in offset order, all acknowledged, then the offsets under checked metadata.
async fn fill(
    producer: &mut dyn Producer,
    consumer: &dyn Consumer,
    batch: &mut [Submission],
) -> Result<Vec<Refusal>> {
    let mut outputs: Vec<Record> =
        batch.iter_mut().flat_map(|each| std::mem::take(&mut each.outputs)).collect();
    if !outputs.is_empty() {
        if left_out(Variant::OutputsReversed) {
            outputs.reverse();
        }
        let rest = outputs.split_off(outputs.len().div_ceil(2));
        producer.send(outputs).await?;
        hit(Point::P3Send);
        if !rest.is_empty() {
            producer.send(rest).await?;
        }
        let refusals = producer.acknowledged().await?;
        if !refusals.is_empty() {
            return Ok(refusals);
        }
        hit(Point::P3Offsets);
    }
    let held: Vec<Assignment> = batch.iter().map(|each| each.assignment.clone()).collect();
    let metadata = consumer.metadata(&held)?;
    let offsets: Vec<PartitionOffset> = batch
        .iter()
        .map(|each| PartitionOffset {
            topic: each.assignment.topic.clone(),
            partition: each.assignment.partition,
            offset: each.offset,
        })
        .collect();
    producer.send_offsets(&offsets, metadata).await?;
    Ok(Vec::new())
}
