//! Outbox to log: which shards this instance relays, and how.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, info};

mod cleaner;
mod config;
mod envelope;
mod position;
mod publish;
mod read_ahead;
mod shard;
mod sorting;
#[cfg(test)]
mod tests;

pub use config::RelayConfig;
use shard::ShardRelay;

use crate::{
    config::Problems,
    database::{Shard, Source},
    error::{Error, Kind, Result},
    health::{Health, State, without_partitions},
    log::{
        Assignment, Cleanup, Consumer, ConsumerEvent, ConsumerEvents, KnownTopics, Log, Subscription,
        TopicSpec,
    },
    retry::Portion,
    seen,
    time::end_by,
};

/// How long shards may take to finish their transactions before they are dropped; the next holder's
/// `init_transactions` decides what became of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes an outbox. Several instances share the shards through Kafka's own group protocol; the transactional
/// id of a shard fences whoever held it before.
pub struct Relay<S: Source> {
    log: Arc<dyn Log>,
    source: S,
    config: Arc<RelayConfig>,
    instance: Option<String>,
    health: Health,
}

struct Running {
    name: String,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl<S: Source> Relay<S> {
    /// # Errors
    /// Kind `Config` with every problem of the settings.
    pub fn new(
        log: Arc<dyn Log>,
        source: S,
        config: RelayConfig,
        instance: Option<String>,
        health: Health,
    ) -> Result<Self> {
        let mut problems = Problems::default();
        config.report_for_use(&mut problems);
        problems.into_result()?;
        Ok(Self { log, source, config: Arc::new(config), instance, health })
    }

    fn name(&self) -> String {
        format!("relay {}", self.config.name)
    }

    /// Checks database and topic, joins the group. Nothing is published before this.
    async fn join(&self) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        let limit = self.config.database_timeout;
        within(limit, self.source.check()).await?;
        within(limit, self.source.fix_shards(self.config.shards)).await?;
        let topic = self.config.progress_topic();
        let partitions = Some(self.config.shards as i32);
        self.log.topic(&TopicSpec { name: topic.clone(), partitions, cleanup: Cleanup::Compact }).await?;
        let subscription = Subscription {
            group: self.config.group(),
            topics: vec![topic],
            instance: self.instance.clone(),
            assignor: self.config.assignor,
        };
        self.log.consumer(&subscription).await
    }

    /// Joins, then relays the shards it is given until `stop`; ends with an error when it cannot go on at all.
    ///
    /// # Errors
    /// What the checks at start found, or the end of the group membership.
    pub async fn run(&self, stop: CancellationToken) -> Result<()> {
        let name = self.name();
        self.health.set(&name, State::Starting);
        let (consumer, mut events) = self.join().await?;
        let _seen = seen::watch(self.log.clone(), &[self.config.progress_topic()], &self.health, &name);
        let mut running: HashMap<Assignment, Running> = HashMap::new();
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
            };
            match event {
                Some(ConsumerEvent::Assigned(partitions)) => {
                    for partition in partitions {
                        info!(relay = name, shard = partition.partition, "assigned");
                        running.insert(partition.clone(), self.start(partition.partition));
                    }
                    self.health.set(&name, State::Ready);
                }
                Some(ConsumerEvent::Revoked { partitions, lost, handback }) => {
                    info!(relay = name, ?partitions, lost, "revoked");
                    self.end(partitions.iter().filter_map(|partition| running.remove(partition))).await;
                    drop(handback);
                    if running.is_empty() {
                        self.health.set(&name, without_partitions(lost));
                    }
                }
                Some(ConsumerEvent::Denied(failure)) => {
                    if running.is_empty() {
                        self.health.set(&name, State::Recovering(failure.to_string()));
                    }
                }
                Some(ConsumerEvent::Failed(partition, error)) => debug!(%partition, %error, "progress topic"),
                Some(ConsumerEvent::Records { .. }) => {}
                Some(ConsumerEvent::Fatal(error)) => break Err(error),
                None if closing => break Ok(()),
                None => {
                    break Err(Error::new(Kind::Unavailable, format!("{name} lost its group membership")));
                }
            }
        };
        self.end(running.into_values()).await;
        consumer.close().await;
        self.health.remove(&name);
        outcome
    }

    fn start(&self, index: i32) -> Running {
        let stop = CancellationToken::new();
        let shard = ShardRelay {
            log: self.log.clone(),
            source: self.source.clone(),
            config: self.config.clone(),
            shard: Shard { index: index as u32, count: self.config.shards },
            health: self.health.clone(),
            stop: stop.clone(),
            known: None,
            topics: KnownTopics::new(self.log.clone()),
            release_due: Some(Instant::now()),
            release_failed: false,
            unavailable: HashMap::new(),
            portion: Portion::ALL,
            released: Portion::ALL,
            refused: HashMap::new(),
        };
        let name = shard.name();
        self.health.set(&name, State::Starting);
        Running { name, task: AbortOnDropHandle::new(tokio::spawn(shard.run())), stop }
    }

    /// Stops shards, and takes them off the board, however they ended.
    async fn end(&self, running: impl Iterator<Item = Running>) {
        let running: Vec<Running> = running.collect();
        running.iter().for_each(|each| each.stop.cancel());
        let patience = Instant::now() + PATIENCE;
        for each in running {
            end_by(patience, each.task).await;
            self.health.remove(&each.name);
        }
    }
}

/// A step of the database.
async fn within<T>(limit: Duration, step: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, step).await.unwrap_or_else(|_| {
        Err(Error::new(
            Kind::Unavailable,
            format!("the database did not answer within relay database_timeout = {limit:?}"),
        ))
    })
}
