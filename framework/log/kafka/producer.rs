//! A transactional producer, as async callers see it.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rdkafka::consumer::ConsumerGroupMetadata;
use tokio::{sync::oneshot, time};

use super::{
    batch_size::{self, BatchSize, BatchSizes},
    config::KafkaConfig,
    deliveries::Deliveries,
    producer_thread::{self, Command, Reply, Setup, Timed},
};
use crate::{
    error::{Error, Kind, Result},
    failpoint::{self, Variant},
    log::{Commit, GroupMetadata, PartitionOffset, Producer, Record, Refusal, Rotation},
};

/// How much longer than a call's own time-out its thread may stay silent before it is given up.
const WATCHDOG_GRACE: Duration = Duration::from_secs(2);
/// What the coordinator needs after a commit until it takes the offsets of the next transaction. Asked earlier it says
/// "concurrent transactions", and librdkafka comes back after the retry backoff, 250 ms; records in between wait less.
const SETTLING: Duration = Duration::from_millis(6);
/// How long the rest of a transaction may still be acknowledged after a refusal, to find others.
const AFTER_REFUSAL: Duration = Duration::from_millis(250);

/// How long batches stay small after some were too large, in transaction time-outs. Then a transaction fails if the topic
/// still takes none that are larger.
const SMALL_FOR: u32 = 4;

/// The async end of a producer's thread.
pub(super) struct KafkaProducer {
    id: String,
    /// `None` once the thread was given up.
    commands: Option<mpsc::Sender<Command>>,
    deliveries: Arc<Deliveries>,
    rotation: Option<Rotation>,
    commit_tried: bool,
    committed_at: Option<Instant>,
    batch_size: BatchSize,
    batch_sizes: BatchSizes,
    timeout: Duration,
    /// librdkafka's own time-out for offsets is no use while their coordinator is away: it may stay for half a minute. A
    /// new producer finds the new coordinator at once.
    offsets_timeout: Duration,
    slow: Duration,
    delivery_timeout: Duration,
}

impl KafkaProducer {
    pub(super) async fn start(config: &KafkaConfig, id: &str, batch_sizes: &BatchSizes) -> Result<Self> {
        let batch_size = batch_sizes.of(id);
        let (commands, inbox) = mpsc::channel();
        let deliveries = Arc::new(Deliveries::default());
        let (ready, readied) = oneshot::channel();
        // Two requests: one to each coordinator.
        let offsets_timeout = (config.socket_timeout * 2).min(config.call_timeout);
        let setup = Setup {
            id: id.to_owned(),
            config: config.producer(id, batch_size.bytes),
            call_timeout: config.call_timeout,
            offsets_timeout,
            abort_timeout: config.socket_timeout.min(config.call_timeout),
            init_timeout: config.init_timeout,
            backoff: config.init_backoff(),
        };
        producer_thread::start(setup, Arc::clone(&deliveries), inbox, ready)?;
        match time::timeout(config.init_timeout + WATCHDOG_GRACE, readied).await {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) => {
                return Err(Error::new(Kind::Unavailable, format!("thread of producer {id:?} ended")));
            }
            Err(_) => {
                return Err(Error::new(
                    Kind::Timeout,
                    format!("producer {id:?} is not initialised after {:?}", config.init_timeout),
                ));
            }
        }
        Ok(Self {
            id: id.to_owned(),
            commands: Some(commands),
            deliveries,
            rotation: None,
            commit_tried: false,
            committed_at: None,
            batch_size,
            batch_sizes: batch_sizes.clone(),
            timeout: config.call_timeout,
            offsets_timeout,
            slow: config.slow_call(),
            delivery_timeout: config.transaction_timeout,
        })
    }

    /// One call on the thread; a thread that stays silent is given up and never gets another command.
    async fn call<T>(&mut self, within: Duration, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.as_ref().is_some_and(|commands| commands.send(command(reply)).is_ok());
        if !sent {
            return Err(Error::new(Kind::Stopped, format!("thread of producer {:?} is gone", self.id)));
        }
        match time::timeout(within + WATCHDOG_GRACE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                self.give_up();
                Err(Error::new(Kind::Unknown, format!("thread of producer {:?} ended", self.id)))
            }
            Err(_) => {
                self.give_up();
                Err(Error::new(
                    Kind::Unknown,
                    format!("a call of producer {:?} did not come back in {within:?}", self.id),
                ))
            }
        }
    }

    fn small_for(&self) -> Duration {
        self.delivery_timeout * SMALL_FOR
    }

    fn give_up(&mut self) {
        self.commands = None;
        self.rotation = Some(Rotation::Watchdog);
    }

    /// The first reason stands, but for reasons that say more.
    fn rotate(&mut self, why: Rotation) {
        let late = !matches!(why, Rotation::Unknown | Rotation::Watchdog | Rotation::Fenced);
        if late && failpoint::left_out(Variant::NoRotation) {
            return;
        }
        if self.rotation.is_none() || matches!(why, Rotation::Fenced) {
            self.rotation = Some(why);
        }
    }

    fn failed(&mut self, error: &Error, why: Rotation) {
        if self.commands.is_some() {
            self.rotate(match error.kind() {
                Kind::Fenced => Rotation::Fenced,
                _ => why,
            });
        }
    }

    /// Marks the transaction as one that a cancelled caller leaves in an unknown state; undone after the call.
    fn enter(&mut self) -> Option<Rotation> {
        let before = self.rotation;
        self.rotation = before.or(Some(Rotation::Unknown));
        before
    }

    fn leave(&mut self, before: Option<Rotation>) {
        if self.commands.is_some() {
            self.rotation = before;
        }
    }
}

#[async_trait]
impl Producer for KafkaProducer {
    fn transactional_id(&self) -> &str {
        &self.id
    }

    async fn begin(&mut self) -> Result<()> {
        if let Some(why) = self.must_rotate() {
            return Err(Error::new(Kind::Conflict, format!("producer {:?} must be rotated: {why}", self.id)));
        }
        let before = self.enter();
        let begun = self.call(self.timeout, Command::Begin).await?;
        self.leave(before);
        self.commit_tried = false;
        begun.inspect_err(|error| self.failed(error, Rotation::Unknown))
    }

    async fn send(&mut self, records: Vec<Record>) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let before = self.enter();
        let sent = self.call(self.timeout, |reply| Command::Send(records, reply)).await?;
        self.leave(before);
        sent
    }

    async fn acknowledged(&mut self) -> Result<Vec<Refusal>> {
        let until = Instant::now() + self.delivery_timeout + WATCHDOG_GRACE;
        let mut purge_at = None;
        let mut purged = false;
        loop {
            let (outstanding, bad) = self.deliveries.outstanding();
            if outstanding == 0 {
                break;
            }
            let now = Instant::now();
            if now >= until {
                self.rotate(Rotation::Unknown);
                return Err(Error::new(
                    Kind::Timeout,
                    format!("{outstanding} records of producer {:?} are not acknowledged", self.id),
                ));
            }
            let mut next = until;
            if bad && !purged {
                // Once a record is refused librdkafka may hold back the others until the transaction is aborted.
                let at = *purge_at.get_or_insert(now + AFTER_REFUSAL);
                if now >= at {
                    self.call(self.timeout, Command::Purge).await?;
                    purged = true;
                    continue;
                }
                next = at;
            }
            self.deliveries.changed(next.saturating_duration_since(now)).await;
        }
        let settled = self.deliveries.settled();
        let together = batch_size::together(&settled.too_large, self.batch_size.bytes);
        if together > 0 {
            let bytes = self.batch_sizes.reduce(&self.id, together, Instant::now(), self.small_for());
            return Err(Error::new(
                Kind::Unavailable,
                format!(
                    "a batch of producer {:?} was too large for its topic: {bytes} bytes are tried next",
                    self.id
                ),
            ));
        }
        match settled.failure {
            Some(error) if settled.refusals.is_empty() => {
                // A record only tells that it was not sent, the client why.
                let error = match self.call(self.timeout, Command::Fatal).await {
                    Ok(Some(fatal)) => Error::caused(fatal.kind(), error.to_string(), fatal),
                    _ => error,
                };
                if error.kind() == Kind::Fenced {
                    self.rotate(Rotation::Fenced);
                }
                Err(error)
            }
            _ => Ok(settled.refusals),
        }
    }

    async fn send_offsets(&mut self, offsets: &[PartitionOffset], group: GroupMetadata) -> Result<()> {
        let group = group
            .0
            .downcast::<ConsumerGroupMetadata>()
            .map_err(|_| Error::new(Kind::Config, "group metadata of another log"))?;
        if let Some(committed_at) = self.committed_at.filter(|_| self.deliveries.is_empty()) {
            time::sleep_until((committed_at + SETTLING).into()).await;
        }
        let before = self.enter();
        let offsets = offsets.to_vec();
        let within = self.offsets_timeout;
        let Timed { result, took } =
            self.call(within, |reply| Command::Offsets(offsets, group, reply)).await?;
        self.leave(before);
        if let Some(why) = Rotation::after_offsets(&result, took >= self.slow) {
            self.rotate(why);
        }
        result
    }

    async fn commit(&mut self) -> Commit {
        if let Some(answer) = Rotation::forbids_commit(self.rotation) {
            return answer;
        }
        let before = self.enter();
        self.commit_tried = true;
        // Twice the time: the drain and the call have one each.
        let answer = self.call(self.timeout * 2, Command::Commit).await;
        self.leave(before);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Commit::Unknown(error),
        };
        match answer.result {
            Ok(true) => {
                let now = Instant::now();
                self.committed_at = Some(now);
                if answer.took >= self.slow {
                    self.rotate(Rotation::SlowCommit);
                }
                if self.batch_size.is_over(now) {
                    self.batch_sizes.raise(&self.id, now, self.small_for());
                    self.rotate(Rotation::Batches);
                }
                Commit::Committed
            }
            Ok(false) => {
                self.commit_tried = false;
                self.rotate(Rotation::Aborted);
                Commit::Aborted(Error::new(
                    Kind::Conflict,
                    format!("records of producer {:?} are not acknowledged", self.id),
                ))
            }
            Err(error) => {
                self.failed(&error, Rotation::Unknown);
                Commit::Unknown(error)
            }
        }
    }

    async fn abort(&mut self) {
        self.rotate(Rotation::Aborted);
        // After a failed commit an abort could undo what the coordinator is about to complete.
        if self.commit_tried || self.commands.is_none() || self.rotation == Some(Rotation::Fenced) {
            return;
        }
        let result = self.call(self.timeout, Command::Abort).await;
        if let Ok(Err(error)) | Err(error) = result {
            tracing::debug!(target: "tidelock::kafka", id = self.id, %error, "abort");
        }
    }

    fn must_rotate(&self) -> Option<Rotation> {
        self.rotation
    }
}
