//! Log to handler to database and log: group membership, and one worker per assigned partition.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{error, info};
use uuid::Uuid;

mod assignment;
mod attempt;
mod committer;
mod config;
mod holding;
mod inbox;
mod partition;
mod registry;
mod same_topic;
mod take_over;
#[cfg(test)]
mod tests;
#[cfg(feature = "testing")]
mod through;
mod valve;

pub use config::{Adopt, ProcessorConfig, StartAt, Unhandled};

use committer::{Committer, Cycle};
use partition::{Chunk, Partition};
use registry::Registry;
use same_topic::SameTopic;
#[cfg(feature = "testing")]
pub(crate) use through::Witness;
use valve::Valve;

use crate::{
    config::Problems,
    database::{Database, FenceKey, FirstStart},
    error::{Error, Kind, Result},
    failpoint::{Point, hit},
    handler::Handler,
    health::{Health, State, without_partitions},
    log::{Assignment, Cleanup, Consumer, ConsumerEvent, Log, Subscription, TopicSpec},
    policy::{Action, action},
    retry::{Backoff, Portion},
    seen,
    time::end_by,
};

/// How long a partition that is taken away may take to see its last transaction decided; whoever gets it next waits
/// for that outcome anyway.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a member that may not read a partition waits before it asks to be assigned it anew: all of them share anew then,
/// partitions that may be read among them.
const DENIED: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(60) };

/// Reads topics as one consumer group and runs handlers. Built by hand, run by a `Pipeline`.
pub struct Processor<D: Database> {
    group: Arc<str>,
    config: Option<ProcessorConfig>,
    registry: Registry<D>,
}

impl<D: Database> Processor<D> {
    /// A processor of that consumer group.
    pub fn new(group: impl Into<String>) -> Self {
        Self { group: group.into().into(), config: None, registry: Registry::default() }
    }

    /// Settings of its own, instead of the pipeline's.
    #[must_use]
    pub fn config(mut self, config: ProcessorConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Adds a handler; its event's topic is read.
    #[must_use]
    pub fn handle<H: Handler<D>>(mut self, handler: H) -> Self {
        self.registry.add(handler);
        self
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    pub(crate) fn report(&self, problems: &mut Problems, defaults: &ProcessorConfig) {
        problems.check(!self.group.is_empty(), || "a processor's group is not set".to_owned());
        problems.check(!self.registry.topics().is_empty(), || {
            format!("processor {:?} has no handler", self.group)
        });
        for twice in self.registry.problems() {
            problems.add(format!("processor {:?}: {twice}", self.group));
        }
        if let Some(config) = &self.config {
            config.report(problems);
        }
        let start = self.config.as_ref().unwrap_or(defaults).start;
        problems.check(D::FENCED || start == StartAt::Earliest, || {
            format!(
                "processor {:?} has no database and start = latest: nothing would tell its first start from a partition \
                 that was added or an offset that has expired, and what came before would be skipped; expected earliest",
                self.group
            )
        });
    }

    pub(crate) fn into_runner(
        mut self,
        log: Arc<dyn Log>,
        database: D,
        defaults: &ProcessorConfig,
        instance: Option<String>,
        health: Health,
    ) -> Runner<D> {
        let config = self.config.unwrap_or_else(|| defaults.clone());
        self.registry.unhandled = config.unhandled;
        let registry = Arc::new(self.registry);
        Runner { log, database, group: self.group, config: Arc::new(config), registry, instance, health }
    }
}

/// A processor that can be run.
pub(crate) struct Runner<D: Database> {
    log: Arc<dyn Log>,
    database: D,
    group: Arc<str>,
    config: Arc<ProcessorConfig>,
    registry: Arc<Registry<D>>,
    instance: Option<String>,
    health: Health,
}

/// What all partitions of one membership share.
pub(crate) struct Shared<D: Database> {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) database: D,
    pub(crate) group: Arc<str>,
    pub(crate) config: Arc<ProcessorConfig>,
    pub(crate) registry: Arc<Registry<D>>,
    pub(crate) health: Health,
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) committer: Committer,
    pub(crate) transactional_id: String,
    same: SameTopic,
    panics: mpsc::UnboundedSender<Error>,
}

impl<D: Database> Shared<D> {
    /// What the database knows of the group's start on the topic.
    pub(crate) async fn first_start(&self, key: &FenceKey) -> Result<FirstStart> {
        let spec = TopicSpec { name: key.topic.to_string(), partitions: None, cleanup: Cleanup::Any };
        let partitions = self.log.topic(&spec).await?;
        self.database.first_start(key, partitions).await
    }
}

struct Running {
    revoked: CancellationToken,
    chunks: mpsc::UnboundedSender<Chunk>,
    valve: Arc<Valve>,
    task: AbortOnDropHandle<()>,
}

impl<D: Database> Runner<D> {
    pub(crate) fn name(&self) -> String {
        format!("processor {}", self.group)
    }

    /// Joins the group and works until `stop`; ends with an error when it cannot go on at all.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<()> {
        let name = self.name();
        self.health.set(&name, State::Starting);
        self.database.check_durable().await?;
        let topics: Vec<String> = self.registry.topics().into_iter().map(str::to_owned).collect();
        for topic in &topics {
            self.log
                .topic(&TopicSpec { name: topic.clone(), partitions: None, cleanup: Cleanup::Any })
                .await?;
        }
        let member = self.instance.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
        let transactional_id = format!("tidelock.{}.processor.{member}", self.group);
        let give_up = CancellationToken::new();
        let (committer, cycle) = Cycle::start(
            self.log.clone(),
            transactional_id.clone(),
            self.group.clone(),
            D::FENCED,
            self.health.clone(),
            give_up.clone(),
        )
        .await?;
        let _seen = seen::watch(self.log.clone(), &topics, &self.health, &name);
        let subscription = Subscription {
            group: self.group.to_string(),
            topics,
            instance: self.instance.clone(),
            assignor: self.config.assignor,
        };
        let (consumer, mut events) = self.log.consumer(&subscription).await?;
        let (panics, mut panicked) = mpsc::unbounded_channel();
        let cycle = watched(&panics, format!("the committer of {name}"), cycle.run(consumer.clone()));
        let shared = Arc::new(Shared {
            log: self.log.clone(),
            database: self.database.clone(),
            group: self.group.clone(),
            config: self.config.clone(),
            registry: self.registry.clone(),
            health: self.health.clone(),
            consumer: consumer.clone(),
            committer,
            transactional_id,
            same: SameTopic::default(),
            panics,
        });
        let cleaner = inbox::spawn_cleaner(shared.clone());
        let mut running: HashMap<Assignment, Running> = HashMap::new();
        let mut held: HashSet<Assignment> = HashSet::new();
        // How often in a row a partition could not be read for want of the right.
        let mut denied: HashMap<(Arc<str>, i32), u32> = HashMap::new();
        let mut closing = false;
        let outcome = loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled(), if !closing => {
                    closing = true;
                    let consumer = consumer.clone();
                    tokio::spawn(async move { consumer.close().await });
                    continue;
                }
                event = events.recv() => event,
                Some(panic) = panicked.recv() => break Err(panic),
            };
            match event {
                Some(ConsumerEvent::Records { assignment, flow, records }) => {
                    if let Some(partition) = running.get(&assignment) {
                        if !denied.is_empty() {
                            denied.remove(&(assignment.topic.clone(), assignment.partition));
                        }
                        partition.valve.arrived(&records);
                        let _ = partition.chunks.send(Chunk::Records(flow, records));
                    }
                }
                Some(ConsumerEvent::Assigned(partitions)) => {
                    for at in partitions {
                        info!(processor = name, partition = %at, "assigned");
                        held.insert(at.clone());
                        running.insert(at.clone(), self.start(&shared, at));
                    }
                    self.health.set(&name, State::Ready);
                }
                Some(ConsumerEvent::Revoked { partitions, lost, handback }) => {
                    info!(processor = name, ?partitions, lost, "revoked");
                    end(partitions.iter().filter_map(|at| running.remove(at)), lost).await;
                    for at in &partitions {
                        held.remove(at);
                        self.health.remove(&format!("{name} {at}"));
                    }
                    drop(handback);
                    if held.is_empty() {
                        self.health.set(&name, without_partitions(lost));
                    }
                }
                Some(ConsumerEvent::Denied(failure)) => {
                    if held.is_empty() {
                        self.health.set(&name, State::Recovering(failure.to_string()));
                    }
                }
                Some(ConsumerEvent::Failed(at, failure)) => {
                    error!(processor = name, partition = %at, error = %failure, "the partition cannot be read");
                    if action(failure.kind()) == Action::Recover {
                        end(running.remove(&at).into_iter(), false).await;
                        self.health.set(&format!("{name} {at}"), State::Recovering(failure.to_string()));
                        // No second worker under this assignment: what the first one submitted may still wait at the
                        // committer. The call makes the member join again, and be assigned anew.
                        let consumer = consumer.clone();
                        let pause = match failure.kind() {
                            Kind::Denied => {
                                let times = denied.entry((at.topic.clone(), at.partition)).or_default();
                                *times += 1;
                                DENIED.wait(*times)
                            }
                            _ => Duration::ZERO,
                        };
                        tokio::spawn(async move {
                            tokio::time::sleep(pause).await;
                            consumer.start(&at, 0).await
                        });
                    } else if let Some(partition) = running.get(&at) {
                        let _ = partition.chunks.send(Chunk::End(failure));
                    }
                }
                Some(ConsumerEvent::Fatal(failure)) => break Err(failure),
                None if closing => break Ok(()),
                None => {
                    break Err(Error::new(Kind::Unavailable, format!("{name} lost its group membership")));
                }
            }
        };
        end(running.into_values(), outcome.is_err()).await;
        for at in held {
            self.health.remove(&format!("{name} {at}"));
        }
        give_up.cancel();
        cleaner.abort();
        // Nobody reads them any more: the close must not wait for a handback that lies there.
        drop(events);
        consumer.close().await;
        drop(shared);
        if tokio::time::timeout(PATIENCE, cycle).await.is_err() {
            error!(
                processor = name,
                "the last transaction was left open, its time-out or the next start ends it"
            );
        }
        self.health.remove(&name);
        outcome
    }

    fn start(&self, shared: &Arc<Shared<D>>, at: Assignment) -> Running {
        let (sender, chunks) = mpsc::unbounded_channel();
        let config = &self.config;
        let valve = Arc::new(Valve::new(
            shared.consumer.clone(),
            at.clone(),
            config.max_buffered,
            config.max_buffered_bytes,
        ));
        let revoked = CancellationToken::new();
        let mut partition = Partition {
            shared: shared.clone(),
            key: FenceKey { group: self.group.clone(), topic: at.topic.clone(), partition: at.partition },
            at,
            chunks,
            valve: valve.clone(),
            waiting: VecDeque::new(),
            flow: 0,
            end: None,
            next: 0,
            claim: 0,
            in_flight: None,
            portion: Portion::ALL,
            failures: (-1, 0),
        };
        let cancelled = revoked.clone();
        let what = partition.name();
        let task = watched(&shared.panics, what, async move {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {}
                () = partition.run() => {}
            }
            partition.finish().await;
        });
        Running { revoked, chunks: sender, valve, task }
    }
}

/// A task that is not left alone: a panic ends the membership, which then starts anew, and it ends with its handle.
fn watched(
    panics: &mpsc::UnboundedSender<Error>,
    what: String,
    work: impl Future<Output = ()> + Send + 'static,
) -> AbortOnDropHandle<()> {
    let panics = panics.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            let _ = panics.send(Error::panicked(Kind::Unavailable, &what, panic.as_ref()));
        }
    }))
}

/// Stops partitions. What was not committed to the database is rolled back; what was is waited for, unless `lost`.
async fn end(running: impl Iterator<Item = Running>, lost: bool) {
    let running: Vec<Running> = running.collect();
    if running.is_empty() {
        return;
    }
    hit(Point::P7);
    running.iter().for_each(|each| each.revoked.cancel());
    let patience = tokio::time::Instant::now() + if lost { Duration::ZERO } else { PATIENCE };
    for each in running {
        end_by(patience, each.task).await;
    }
}
