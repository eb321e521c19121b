//! One shard: recover, then publish batch after batch.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{
    RelayConfig,
    cleaner::{Cleaner, cleaning_failed},
    envelope::Envelope,
    position::Position,
    publish::{Publication, publish},
    read_ahead::{Planned, ReadAhead},
    sorting::Sorting,
    within,
};
use crate::{
    database::{Claim, HeldKey, Released, Shard, Source},
    error::{Error, Kind, Result},
    failpoint::{Point, Variant, hit, left_out},
    health::{Health, State},
    log::{KnownTopics, Log, Producer, Rotation, codec},
    message::MessageId,
    policy::{Action, action, advice, recovering, stay_stopped},
    retry::{Backoff, Portion},
    telemetry,
};

/// How often a shard looks whether somebody asked for a release from the quarantine.
const RELEASE_INTERVAL: Duration = Duration::from_secs(1);
/// The same where a release has left something that is asked for: what waits behind it gets no shorter.
const RELEASE_AGAIN: Duration = Duration::from_millis(10);

/// How often in a row a topic without a leader is waited for. What is refused again must be asked for again.
const UNAVAILABLE: u32 = 3;

/// What a relayed shard keeps from one session to the next.
pub(crate) struct ShardRelay<S: Source> {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) source: S,
    pub(crate) config: Arc<RelayConfig>,
    pub(crate) shard: Shard,
    pub(crate) health: Health,
    pub(crate) stop: CancellationToken,
    /// The last position this process knows of; the log may never show an older one.
    pub(crate) known: Option<u64>,
    /// What was seen to exist stays known: a rotation asks nobody again.
    pub(crate) topics: KnownTopics,
    /// When somebody may have asked for a release. `None` after one has failed: the next session does not begin with it, for it
    /// would hold back everything else for as long as it fails.
    pub(crate) release_due: Option<Instant>,
    /// Then it is not ready before one has succeeded.
    pub(crate) release_failed: bool,
    /// How many rows go into one transaction.
    pub(crate) portion: Portion,
    /// How often in a row a topic could not be looked at that something is to be released to.
    pub(crate) unavailable: HashMap<Arc<str>, u32>,
    /// How much of what is released does.
    pub(crate) released: Portion,
    /// Rows that the log refused, until their quarantine is confirmed.
    pub(crate) refused: HashMap<MessageId, String>,
}

/// From one `init_transactions` to the next.
struct Session<'a, S: Source> {
    shard: &'a mut ShardRelay<S>,
    claim: Claim,
    producer: Box<dyn Producer>,
    position: Position,
    envelope: Envelope,
    sorting: Sorting,
    /// It has published, or has nothing to publish.
    at_work: bool,
}

impl<S: Source> ShardRelay<S> {
    pub(crate) fn name(&self) -> String {
        format!("relay {} shard {}", self.config.name, self.shard.index)
    }

    /// Runs until stopped, starting a session anew after every failure that a new session can mend.
    pub(crate) async fn run(mut self) {
        let name = self.name();
        let backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(5) };
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let before = self.known;
            let outcome = AssertUnwindSafe(self.session()).catch_unwind().await;
            let panicked = |_| Err(Error::new(Kind::Unavailable, format!("{name} panicked")));
            let failure = match outcome.unwrap_or_else(panicked) {
                Ok(rotation) => {
                    metrics::counter!(telemetry::ROTATIONS, "component" => "relay", "reason" => rotation.as_str())
                        .increment(1);
                    info!(relay = name, reason = %rotation, "rotating the producer");
                    failures = 0;
                    continue;
                }
                Err(failure) => failure,
            };
            self.topics.doubt();
            // A refusal is an answer in time.
            if failure.kind() != Kind::Refused {
                self.portion.failed();
            }
            match action(failure.kind()) {
                Action::End if self.stop.is_cancelled() => break,
                Action::Stop => {
                    error!(relay = name, error = %failure, advice = advice(failure.kind()), "the relay stopped");
                    self.health.set(&name, State::Failed(failure.to_string()));
                    stay_stopped(failure.kind(), &self.stop).await;
                }
                Action::Recover | Action::End => {
                    failures = if self.known == before { failures + 1 } else { 1 };
                    recovering(&name, &failure, failures);
                    self.health.set(&name, State::Recovering(failure.to_string()));
                    self.stop.run_until_cancelled(tokio::time::sleep(backoff.wait(failures))).await;
                }
            }
        }
        self.health.remove(&name);
    }

    /// A step of the database.
    async fn ask<T>(&self, step: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.config.database_timeout, step).await
    }

    /// The four steps of every start and recovery, then batches. Ends with the reason to rotate, or an error.
    async fn session(&mut self) -> Result<Rotation> {
        let id = self.config.transactional_id(self.shard.index);
        // Before the producer: else the order of claims would not be the order in which producers fence each other.
        let claim = self.ask(self.source.claim(self.shard)).await?;
        let mut producer = self.log.producer(&id).await?;
        let position = match self.durable_position().await? {
            Some(position) => position,
            None => self.first_position(producer.as_mut()).await?,
        };
        // Before anything but the epoch is written: the position may belong to another database.
        let reader = self.ask(self.source.reader(self.shard, &position.source)).await?;
        self.ask(self.source.mark_started(self.shard)).await?;
        self.ask(self.source.settle_quarantine(claim, position.attempt)).await?;
        let (held, _) = self.ask(self.source.held_keys(self.shard)).await?;
        let mut ahead = ReadAhead::spawn(reader, self.source.hint(), &self.config, self.portion);
        self.known = Some(position.count);
        let stop = self.stop.clone();
        let mut session = Session {
            claim,
            producer,
            position,
            envelope: Envelope::new(self.config.source()),
            sorting: Sorting::new(held),
            at_work: false,
            shard: self,
        };
        let cleaner = Cleaner::spawn(session.shard.source.clone(), session.shard.config.database_timeout);
        loop {
            if let Some(rotation) = session.producer.must_rotate() {
                return Ok(rotation);
            }
            // A rotation does not put it off.
            let release_due =
                *session.shard.release_due.get_or_insert_with(|| Instant::now() + RELEASE_INTERVAL);
            if release_due <= Instant::now() {
                session.shard.release_failed = true;
                session.shard.release_due = None;
                let released = session.release().await;
                if released.as_ref().is_err_and(|failure| failure.kind() != Kind::Refused) {
                    session.shard.released.failed();
                }
                let more = released?;
                session.shard.release_failed = false;
                session.show();
                let pause = if more { RELEASE_AGAIN } else { RELEASE_INTERVAL };
                session.shard.release_due = Some(Instant::now() + pause);
                continue;
            }
            let planned = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Error::new(Kind::Stopped, "the relay was stopped")),
                () = cleaner.ended() => return Err(cleaning_failed()),
                planned = ahead.next() => planned?,
                () = tokio::time::sleep_until(release_due) => continue,
            };
            let Some(planned) = planned else {
                session.at_work = true;
                session.show();
                continue;
            };
            let published = match session.publish(planned).await {
                Err(_) if left_out(Variant::UnknownForgotten) && session.renew().await => continue,
                published => published?,
            };
            hit(Point::R6);
            cleaner.clean(published).await?;
        }
    }

    /// Steps 2 and 3: the last position in the log.
    async fn durable_position(&self) -> Result<Option<Position>> {
        let topic = self.config.progress_topic();
        let Some(record) = self.log.last_record(&topic, self.shard.index as i32).await? else {
            return match self.known {
                None => Ok(None),
                Some(known) => {
                    Err(lost_progress(&topic, self.shard, &format!("position {known} was there before")))
                }
            };
        };
        let position = Position::decode(&record, self.shard)?;
        match self.known {
            Some(known) if position.count < known => Err(Error::new(
                Kind::Corrupt,
                format!(
                    "{topic}[{}] went back from position {known} to {}",
                    self.shard.index, position.count
                ),
            )),
            _ => Ok(Some(position)),
        }
    }

    /// The very first start: the position before the first row, in a transaction of its own.
    async fn first_position(&self, producer: &mut dyn Producer) -> Result<Position> {
        let topic = self.config.progress_topic();
        if self.ask(self.source.started(self.shard)).await? {
            return Err(lost_progress(
                &topic,
                self.shard,
                "the database says that the shard has published before",
            ));
        }
        let position = Position::first(self.shard, self.ask(self.source.origin()).await?);
        let nothing = Publication { topic: &topic, records: Vec::new(), position: &position };
        publish(producer, nothing, async { Ok(()) }).await?.map_err(|_| {
            Error::new(
                Kind::Refused,
                format!("{topic}[{}]: the first position was refused", self.shard.index),
            )
        })?;
        info!(relay = self.name(), "first start");
        Ok(position)
    }
}

fn lost_progress(topic: &str, shard: Shard, why: &str) -> Error {
    Error::new(
        Kind::Identity,
        format!(
            "{topic}[{}] holds no position, but {why}: the progress topic was lost or replaced",
            shard.index
        ),
    )
}

impl<S: Source> Session<'_, S> {
    /// Publishes one batch; answers what to delete.
    async fn publish(&mut self, planned: Planned<S::Published>) -> Result<S::Published> {
        let Planned { batch, durable } = planned;
        hit(Point::R1);
        for row in &batch.rows {
            if let Some(reason) = self.shard.topics.refusal(&row.topic).await? {
                self.shard.refused.insert(row.id, reason);
            }
        }
        let mut rows = batch.rows;
        if left_out(Variant::RowsReversed) {
            rows.reverse();
        }
        let sorted = self.sorting.sort(rows, &self.shard.refused, &self.envelope)?;
        let attempt = (!sorted.held.is_empty()).then(uuid::Uuid::now_v7);
        if let Some(attempt) = attempt {
            let shard = &self.shard;
            shard.ask(shard.source.propose(self.claim, attempt, &sorted.held)).await?;
        }
        let position = match left_out(Variant::PositionStale) {
            true => self.position.next(self.position.source.clone(), attempt),
            false => self.position.next(batch.position, attempt),
        };
        let durable = async {
            durable.await.unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "the reader ended")))
        };
        let count = sorted.records.len();
        let topic = self.shard.config.progress_topic();
        let publication = Publication { topic: &topic, records: sorted.records, position: &position };
        let published = publish(self.producer.as_mut(), publication, durable).await?;
        self.shard.portion.succeeded();
        if let Err(refusals) = published {
            for refusal in &refusals {
                if let Some(id) = sorted.ids.get(refusal.index) {
                    self.shard.refused.insert(*id, refusal.reason.clone());
                }
            }
            return Err(Error::new(
                Kind::Refused,
                format!("{} of {count} messages were refused and go to the quarantine", refusals.len()),
            ));
        }
        self.advance(position, count);
        if attempt.is_some() {
            self.settle(attempt, sorted.held.len()).await?;
            for message in &sorted.held {
                self.shard.refused.remove(&message.id);
                error!(
                    id = %message.id, topic = %message.topic, reason = message.reason,
                    "the message went to the quarantine; release it once the reason is gone"
                );
            }
            metrics::counter!(telemetry::QUARANTINED, "origin" => "outbox")
                .increment(sorted.held.len() as u64);
            self.sorting.hold(&sorted.held);
        }
        Ok(batch.published)
    }

    /// Publishes quarantined messages whose release was asked for, before anything later of their keys; answers
    /// whether there are more.
    async fn release(&mut self) -> Result<bool> {
        let (held, requested) = self.held_keys().await?;
        self.sorting = Sorting::new(held);
        if !requested {
            return Ok(false);
        }
        let attempt = uuid::Uuid::now_v7();
        let shard = &self.shard;
        let take = shard.source.take_released(self.claim, attempt, shard.released.of(shard.config.max_rows));
        let released = shard.ask(take).await?;
        if released.is_empty() {
            return Ok(false);
        }
        let released = self.with_topics(released).await?;
        if !released.is_empty() {
            self.publish_released(attempt, &released).await?;
        }
        let (held, more) = self.held_keys().await?;
        self.sorting = Sorting::new(held);
        Ok(more)
    }

    /// What of it has a topic; the rest, with its keys, is refused again.
    async fn with_topics(&mut self, mut released: Vec<Released>) -> Result<Vec<Released>> {
        let mut refused = Vec::new();
        // One answer for all messages of a topic: none may pass another one of its key.
        let mut asked: HashMap<Arc<str>, Option<String>> = HashMap::new();
        self.shard.topics.ask_again();
        for each in &released {
            let topic = &each.message.topic;
            if !asked.contains_key(topic) {
                let refusal = match self.shard.topics.refusal(topic).await {
                    // Waited for, it would hold up the releases of all other topics.
                    Err(error) if error.kind() == Kind::Denied => Some(error.to_string()),
                    // It has no leader, or the log is away, and all with it.
                    Err(error) if self.shard.topics.is_seen(topic).await => {
                        let times = self.shard.unavailable.entry(topic.clone()).or_default();
                        *times += 1;
                        if *times < UNAVAILABLE {
                            return Err(error);
                        }
                        Some(error.to_string())
                    }
                    answer => answer?,
                };
                self.shard.unavailable.remove(topic);
                asked.insert(topic.clone(), refusal);
            }
            refused.extend(asked[topic].clone().map(|reason| (each.entry, reason)));
        }
        if let Some((_, reason)) = refused.first() {
            let count = refused.len();
            error!(relay = self.shard.name(), count, reason, "released messages were refused again");
            let shard = &self.shard;
            shard.ask(shard.source.refuse_released(self.claim, &refused)).await?;
            let refused: HashSet<i64> = refused.into_iter().map(|(entry, _)| entry).collect();
            released.retain(|each| !refused.contains(&each.entry));
        }
        Ok(released)
    }

    async fn publish_released(&mut self, attempt: uuid::Uuid, released: &[Released]) -> Result<()> {
        let mut records = Vec::with_capacity(released.len());
        for each in released {
            records.extend(codec::decode(&each.message.record)?);
        }
        let position = self.position.next(self.position.source.clone(), Some(attempt));
        let count = records.len();
        let topic = self.shard.config.progress_topic();
        let publication = Publication { topic: &topic, records, position: &position };
        let published = publish(self.producer.as_mut(), publication, async { Ok(()) }).await?;
        self.shard.released.succeeded();
        if let Err(refusals) = published {
            let refused: Vec<(i64, String)> = refusals
                .iter()
                .filter_map(|refusal| Some((released.get(refusal.index)?.entry, refusal.reason.clone())))
                .collect();
            let shard = &self.shard;
            shard.ask(shard.source.refuse_released(self.claim, &refused)).await?;
            return Err(Error::new(
                Kind::Refused,
                format!("{} released messages were refused again", refused.len()),
            ));
        }
        self.advance(position, count);
        self.settle(Some(attempt), released.len()).await?;
        info!(relay = self.shard.name(), count, "released from the quarantine");
        Ok(())
    }

    async fn held_keys(&mut self) -> Result<(HashSet<HeldKey>, bool)> {
        self.shard.ask(self.shard.source.held_keys(self.claim.shard)).await
    }

    /// After a commit: all of the attempt's entries must still be there.
    async fn settle(&mut self, attempt: Option<uuid::Uuid>, expected: usize) -> Result<()> {
        let settled = self.shard.ask(self.shard.source.settle_quarantine(self.claim, attempt)).await?;
        if settled == expected as u64 {
            return Ok(());
        }
        Err(Error::new(
            Kind::Corrupt,
            format!(
                "{}: the position names {expected} entries of the quarantine, {settled} were there",
                self.shard.name()
            ),
        ))
    }

    /// A new producer, and on with the next batch: the wrong way, for the tests of the tests.
    async fn renew(&mut self) -> bool {
        match self.shard.log.producer(&self.shard.config.transactional_id(self.shard.shard.index)).await {
            Ok(producer) => self.producer = producer,
            Err(_) => return false,
        }
        true
    }

    fn advance(&mut self, position: Position, published: usize) {
        let shard = self.shard.shard.index.to_string();
        metrics::counter!(telemetry::RELAY_TRANSACTIONS, "shard" => shard.clone()).increment(1);
        metrics::counter!(telemetry::RELAY_PUBLISHED, "shard" => shard).increment(published as u64);
        self.shard.known = Some(position.count);
        self.at_work = true;
        self.show();
        self.position = position;
    }

    /// Ready is who is at work and can release.
    fn show(&self) {
        if self.at_work && !self.shard.release_failed {
            self.shard.health.set(&self.shard.name(), State::Ready);
        }
    }
}
