//! One assigned partition: take over, then batch after batch.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};

use super::{
    Shared,
    attempt::{Executed, Failure, execute},
    committer::Verdict,
    valve::Valve,
};
use crate::{
    database::{Advance, Advanced, Database, FenceKey, Submitted, Unit},
    error::{Error, Kind, Result},
    failpoint::{Point, Variant, hit, left_out},
    health::State,
    log::{Assignment, Commit, Received, Record, codec},
    policy::{Action, action, advice, recovering},
    retry::Portion,
    telemetry,
};

/// How often a record, or the database before it, fails until health says so: what passes by itself, as a deadlock does,
/// does not show.
const TROUBLED_AFTER: u32 = 3;

/// How long a partition waits that has failed before a record that cannot be read. Only a member that joins again gets what
/// came before it once more, and all of its group share anew then.
const JOINS_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What the consumer hands on.
pub(crate) enum Chunk {
    /// Records of one flow, in order.
    Records(u64, Vec<Received>),
    /// Why nothing follows, until an operator acts.
    End(Error),
}

/// A partition from its assignment to its end.
pub(crate) struct Partition<D: Database> {
    pub(crate) shared: Arc<Shared<D>>,
    pub(crate) at: Assignment,
    pub(crate) key: FenceKey,
    pub(crate) chunks: mpsc::UnboundedReceiver<Chunk>,
    pub(crate) valve: Arc<Valve>,
    /// What was received and not yet handled.
    pub(crate) waiting: VecDeque<Received>,
    /// The flow that `waiting` belongs to.
    pub(crate) flow: u64,
    /// Why nothing comes after `waiting`.
    pub(crate) end: Option<Error>,
    /// The next offset the database has not seen, as this worker knows it.
    pub(crate) next: i64,
    /// The claim of the fence row, as this worker knows it.
    pub(crate) claim: i64,
    /// The log transaction of the last batch, until its verdict.
    pub(crate) in_flight: Option<InFlight>,
    /// How many records the next batch may have.
    pub(crate) portion: Portion,
    /// The offset of the record that failed last, and how often it did.
    pub(crate) failures: (i64, u32),
}

/// A batch that the committer has.
pub(crate) struct InFlight {
    verdict: oneshot::Receiver<Verdict>,
    batch: Submitted,
}

impl<D: Database> Partition<D> {
    pub(crate) fn name(&self) -> String {
        format!("processor {} {}", self.key.group, self.at)
    }

    /// Works until the partition is taken away. Cancel by dropping; [`finish`](Self::finish) then waits for the
    /// transaction in flight.
    pub(crate) async fn run(&mut self) {
        let name = self.name();
        let backoff = self.shared.config.backoff();
        let mut failures = 0;
        self.shared.health.set(&name, State::Starting);
        loop {
            let before = self.next;
            let failure = match self.hold().await {
                Ok(end) => return self.stop(end).await,
                Err(failure) => failure,
            };
            match action(failure.kind()) {
                Action::End if !self.shared.consumer.holds(&self.at) => return,
                Action::Stop => {
                    self.stopped(&failure);
                    if failure.kind() != Kind::Config {
                        return std::future::pending().await;
                    }
                    // Brokers that do not know a topic yet, or no more for a moment, answer as if it were a mistake.
                    tokio::time::sleep(3 * backoff.most).await;
                }
                Action::Recover | Action::End => {
                    failures = if self.next == before { failures + 1 } else { 1 };
                    recovering(&name, &failure, failures);
                    self.shared.health.set(&name, State::Recovering(failure.to_string()));
                    let pause = if self.has_ended() { JOINS_AGAIN_AFTER } else { backoff.wait(failures) };
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Whether nothing can be read on from where it was.
    fn has_ended(&mut self) -> bool {
        self.keep_all();
        self.end.is_some()
    }

    /// What came before is handled: an operator who passes over what cannot be read passes over nothing else.
    async fn stop(&self, failure: Error) {
        self.stopped(&failure);
        if let Some(failure) = self.shared.other_topic(&self.key).await {
            self.stopped(&failure);
        }
        std::future::pending().await
    }

    fn stopped(&self, failure: &Error) {
        error!(processor = self.name(), error = %failure, advice = advice(failure.kind()), "the partition stopped");
        self.shared.health.set(&self.name(), State::Failed(failure.to_string()));
    }

    /// Waits for the transaction in flight, so that the next owner finds it decided.
    pub(crate) async fn finish(mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            let _ = in_flight.verdict.await;
        }
    }

    /// Answers why nothing follows, once everything else is handled.
    async fn hold(&mut self) -> Result<Error> {
        if self.in_flight.is_some() {
            // Whatever it says: two submissions of one partition must never be under way together.
            verdict(&mut self.in_flight).await;
        }
        self.next = self.take_over().await?;
        self.drop_waiting();
        self.flow = self.shared.consumer.start(&self.at, self.next).await?;
        self.valve.opened();
        debug!(processor = self.name(), offset = self.next, flow = self.flow, "reading");
        self.shared.health.set(&self.name(), State::Ready);
        loop {
            if let Some(end) = self.receive().await? {
                return Ok(end);
            }
            self.batch().await?;
        }
    }

    /// Waits until there is something to handle; settles the last batch meanwhile. `Some`: there will be nothing.
    async fn receive(&mut self) -> Result<Option<Error>> {
        loop {
            self.keep_all();
            if !self.waiting.is_empty() {
                return Ok(None);
            }
            if self.in_flight.is_none() && self.end.is_some() {
                return Ok(self.end.take());
            }
            tokio::select! {
                biased;
                chunk = self.chunks.recv(), if self.end.is_none() => match chunk {
                    Some(chunk) => self.keep(chunk),
                    None => return Err(Error::new(Kind::Stopped, "the consumer ended")),
                },
                (verdict, batch) = verdict(&mut self.in_flight) => self.judge(verdict, &batch).await?,
            }
        }
    }

    /// Takes what has come.
    fn keep_all(&mut self) {
        while let Ok(chunk) = self.chunks.try_recv() {
            self.keep(chunk);
        }
    }

    fn keep(&mut self, chunk: Chunk) {
        let (flow, records) = match chunk {
            Chunk::Records(flow, records) => (flow, records),
            Chunk::End(failure) => {
                self.end = Some(failure);
                return;
            }
        };
        for record in records {
            if flow == self.flow && record.offset >= self.next || left_out(Variant::StaleRecords) {
                self.waiting.push_back(record);
            } else {
                self.valve.taken([&record]);
            }
        }
    }

    fn drop_waiting(&mut self) {
        self.valve.taken(&self.waiting);
        self.waiting.clear();
    }

    /// One batch: handlers, then the last batch's log transaction, then this one's database commit.
    async fn batch(&mut self) -> Result<()> {
        self.same_topic().await?;
        if D::ONE_WRITER {
            self.settle().await?;
        }
        let count = self.portion.of(self.waiting.len().min(self.shared.config.max_batch));
        let batch: Vec<Received> = self.waiting.drain(..count).collect();
        let executed = match self.execute(&batch).await {
            Ok(executed) => executed,
            Err(failure) => {
                self.valve.taken(&batch);
                return Err(failure);
            }
        };
        let used = executed.used;
        let rest = batch[used..].to_vec();
        let batch = &batch[..used];
        self.valve.taken(batch);
        for record in rest.into_iter().rev() {
            self.waiting.push_front(record);
        }
        self.settle().await?;
        let to = batch[batch.len() - 1].offset + 1;
        if let Err(failure) = self.commit(executed, to).await {
            // If a record is to blame, it will be alone before long. If none is, as with a lost connection, what waits must
            // not be tried one by one.
            self.portion.failed();
            if used == 1 {
                self.failures = (batch[0].offset, self.attempt_at(batch[0].offset));
            }
            return Err(failure);
        }
        self.portion.succeeded();
        let group = self.key.group.to_string();
        metrics::counter!(telemetry::HANDLED, "group" => group).increment(batch.len() as u64);
        Ok(())
    }

    /// Waits for the log transaction of the last batch, and does what is left to do.
    async fn settle(&mut self) -> Result<()> {
        if self.in_flight.is_none() || left_out(Variant::CommitEarly) {
            return Ok(());
        }
        let (verdict, batch) = verdict(&mut self.in_flight).await;
        self.judge(verdict, &batch).await
    }

    /// Which execution of the record at that offset comes next, from 1.
    fn attempt_at(&self, offset: i64) -> u32 {
        let (failed, times) = self.failures;
        if failed == offset { times + 1 } else { 1 }
    }

    /// Runs the handlers; a batch that fails is cut before the failing record, which is then tried alone, again and
    /// again. While the database does not even begin, no record is to blame, and none was executed.
    async fn execute(&mut self, batch: &[Received]) -> Result<Executed<D::Unit>> {
        let backoff = self.shared.config.backoff();
        let first = batch[0].offset;
        let (mut count, mut outages) = (batch.len(), 0);
        loop {
            let attempt = self.attempt_at(first);
            let failure = match execute(&self.shared, &self.key, &batch[..count], attempt).await {
                Ok(executed) => {
                    if attempt.max(outages + 1) > TROUBLED_AFTER {
                        self.shared.health.set(&self.name(), State::Ready);
                    }
                    return Ok(executed);
                }
                Err(failure) => failure,
            };
            if !self.shared.consumer.holds(&self.at) {
                return Err(Error::new(Kind::Unassigned, format!("{} was taken away", self.at)));
            }
            let (times, state) = match failure {
                Failure::Before(error) => {
                    outages += 1;
                    recovering(&self.name(), &error, outages);
                    (outages, State::Recovering(error.to_string()))
                }
                Failure::At(index, error) => {
                    let group = self.key.group.to_string();
                    metrics::counter!(telemetry::FAILED_ATTEMPTS, "group" => group).increment(1);
                    if index > 0 {
                        count = index;
                        continue;
                    }
                    self.failures = (first, attempt);
                    warn!(
                        processor = self.name(), offset = first, attempt, %error,
                        "rolled back, the message is tried again and its partition waits"
                    );
                    (attempt, State::Retrying(format!("offset {first} failed {attempt} times: {error}")))
                }
            };
            count = 1;
            if times >= TROUBLED_AFTER {
                self.shared.health.set(&self.name(), state);
            }
            // What the last batch emitted must not wait for this one.
            self.settle().await?;
            tokio::time::sleep(backoff.wait(times)).await;
        }
    }

    async fn commit(&mut self, executed: Executed<D::Unit>, to: i64) -> Result<()> {
        let Executed { mut unit, mut outputs, duplicates, .. } = executed;
        if !self.shared.consumer.holds(&self.at) {
            unit.rollback().await;
            return Err(Error::new(Kind::Unassigned, format!("{} was taken away", self.at)));
        }
        hit(Point::P1);
        let owner = &self.shared.transactional_id;
        let mut pending = stored(&outputs)?;
        let mut held = Vec::new();
        let advance = Advance { key: &self.key, from: self.next, to, pending: pending.clone(), owner };
        match unit.advance(advance).await? {
            Advanced::Clear => {}
            Advanced::Quarantine => {
                (outputs, held) = self.behind(&mut unit, outputs).await?;
                if !held.is_empty() {
                    pending = stored(&outputs)?;
                    unit.hold_back(&self.key, pending.clone(), &held).await?;
                }
            }
            Advanced::Stale => {
                unit.rollback().await;
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "{}: the fence is not at {} any more, somebody else handled the batch",
                        self.at, self.next
                    ),
                ));
            }
        }
        if left_out(Variant::OffsetFirst) {
            self.submit(outputs.clone(), self.submitted(to, pending.clone()));
            verdict(&mut self.in_flight).await;
        }
        let outcome = unit.commit().await;
        hit(Point::P2);
        match outcome {
            Commit::Committed => {}
            Commit::Aborted(error) | Commit::Unknown(error) => return Err(error),
        }
        metrics::counter!(telemetry::DUPLICATES, "group" => self.key.group.to_string())
            .increment(duplicates as u64);
        self.report_held(&held);
        self.next = to;
        self.submit(outputs, self.submitted(to, pending));
        Ok(())
    }

    /// What the fence row holds once a batch is committed, or its outputs are claimed.
    pub(crate) fn submitted(&self, next_offset: i64, pending: Bytes) -> Submitted {
        Submitted { next_offset, pending, claim: self.claim }
    }

    pub(crate) fn submit(&mut self, outputs: Vec<Record>, batch: Submitted) {
        let verdict = self.shared.committer.submit(&self.at, batch.next_offset, outputs);
        self.in_flight = Some(InFlight { verdict, batch });
    }

    /// Acts on the verdict over the last batch. Unless it was committed, fence and offset say what is left to do.
    async fn judge(&mut self, verdict: Verdict, batch: &Submitted) -> Result<()> {
        match verdict {
            Verdict::Committed => return Ok(()),
            Verdict::Refused(refusals) => self.quarantine(&refusals, batch).await?,
            // Nothing of it is stored: it is handled again, and need not be as much. What is stored is sent as it is.
            Verdict::Look(..) if !D::FENCED => self.portion.failed(),
            Verdict::Look(..) => {}
        }
        let next = self.take_over().await?;
        if next == self.next {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, format!("{}: continuing at {next} instead of {}", self.at, self.next)))
    }
}

/// What the fence row holds of these outputs.
fn stored(outputs: &[Record]) -> Result<Bytes> {
    codec::encode(if left_out(Variant::PendingUnstored) { &[] } else { outputs })
}

/// The verdict over what is in flight; never, while nothing is. A committer that is gone leaves the partition to look.
pub(crate) async fn verdict(in_flight: &mut Option<InFlight>) -> (Verdict, Submitted) {
    let verdict = match in_flight {
        Some(in_flight) => (&mut in_flight.verdict).await.unwrap_or_else(|_| {
            Verdict::Look(Kind::Unavailable, "the committer has let go of it".to_owned())
        }),
        None => std::future::pending().await,
    };
    match in_flight.take() {
        Some(in_flight) => (verdict, in_flight.batch),
        None => std::future::pending().await,
    }
}
