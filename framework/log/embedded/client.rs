//! One client of the log: a simulated process with its producers and consumers.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{
    consumer::EmbeddedConsumer,
    faults::Operation,
    process::{Process, Status},
    producer::EmbeddedProducer,
    shell::Shell,
};
use crate::{
    error::{Error, Kind, Result},
    log::{Bounds, Consumer, ConsumerEvents, Log, Producer, Received, Subscription, TopicSpec},
};

/// The connection of one process to an [`Embedded`](super::Embedded) log. Its clones are the same process.
///
/// What was handed to the process before it was stopped, records that wait in its
/// [`ConsumerEvents`](crate::log::ConsumerEvents) above all, can still be taken.
#[derive(Clone)]
pub struct Client {
    pub(super) shell: Arc<Shell>,
    pub(super) process: Arc<Process>,
}

impl Client {
    pub(super) fn new(shell: Arc<Shell>, name: &str) -> Self {
        Self { shell, process: Process::new(name) }
    }

    /// The name that [`Faults`](super::Faults) see.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Stops the process as `SIGSTOP` does: every call of its producers and consumers hangs and its heartbeats stop,
    /// so that its session and its transactions time out.
    pub fn freeze(&self) {
        self.process.set(Status::Frozen);
    }

    /// Lets a stopped process go on.
    pub fn thaw(&self) {
        self.process.set(Status::Running);
    }

    /// Ends the process as `SIGKILL` does: no call is ever answered, nothing is aborted and no group is left.
    pub fn kill(&self) {
        self.process.set(Status::Dead);
    }

    /// Whether the process was killed.
    pub fn is_killed(&self) -> bool {
        self.process.is_dead()
    }

    /// A call of one step, with its fault.
    pub(super) async fn call<T>(
        &self,
        operation: Operation,
        about: &str,
        work: impl FnOnce(&mut super::state::State, super::state::Now) -> Result<T> + Send,
    ) -> Result<T> {
        let answer = self.process.enter(&self.shell, operation, about).await?;
        let (result, saved) = self.shell.apply_as(&self.process, work).await;
        let result = saved.wait().await.and(result);
        self.process.answer(answer, operation, about, result).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = *self.process.status();
        out.debug_struct("Client")
            .field("name", &self.name())
            .field("status", &status)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Log for Client {
    async fn check(&self) -> Result<()> {
        self.call(Operation::Check, "", |state, _| state.usable()).await
    }

    async fn topic(&self, spec: &TopicSpec) -> Result<i32> {
        self.call(Operation::Topic, &spec.name, |state, now| {
            state.usable()?;
            state.topic(spec, now)
        })
        .await
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        let operation = Operation::Init;
        let answer = self.process.enter(&self.shell, operation, transactional_id).await?;
        let within = self.shell.config.init_timeout;
        let ask = |state: &mut super::state::State, _| match state.usable() {
            Ok(()) => state.init(transactional_id).map(Ok),
            Err(error) => Some(Err(error)),
        };
        let result = match self.shell.wait(&self.process, within, ask).await {
            Some((epoch, saved)) => saved.wait().await.and(epoch),
            None => Err(Error::new(
                Kind::Timeout,
                format!("producer {transactional_id:?} is not initialised after {within:?}"),
            )),
        };
        let epoch = self.process.answer(answer, operation, transactional_id, result).await?;
        Ok(Box::new(EmbeddedProducer::new(self.clone(), transactional_id, epoch)))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        let (operation, group) = (Operation::Join, &subscription.group);
        let answer = self.process.enter(&self.shell, operation, group).await?;
        let usable = self.shell.apply_as(&self.process, |state, _| state.usable()).await.0;
        self.process.answer(answer, operation, group, usable).await?;
        let (consumer, events) = EmbeddedConsumer::start(self.clone(), subscription);
        Ok((consumer, events))
    }

    async fn last_record(&self, topic: &str, partition: i32) -> Result<Option<Received>> {
        let operation = Operation::LastRecord;
        let answer = self.process.enter(&self.shell, operation, topic).await?;
        let within = self.shell.config.query_timeout.max(self.shell.config.transaction_timeout);
        let mut end = None;
        let ask = |state: &mut super::state::State, _| {
            let found = match state.usable().and_then(|()| state.partition(topic, partition)) {
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            };
            let end = *end.get_or_insert(found.end);
            (found.stable() >= end).then(|| Ok(found.last().cloned()))
        };
        let result = match self.shell.wait(&self.process, within, ask).await {
            Some((found, _)) => found,
            None => Err(Error::new(
                Kind::Timeout,
                format!("last record of {topic}[{partition}]: a transaction is open below its end"),
            )),
        };
        self.process.answer(answer, operation, topic, result).await
    }

    async fn topic_id(&self, _: &str) -> Result<Option<String>> {
        // There is no way to delete one.
        Ok(None)
    }

    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        self.call(Operation::Bounds, topic, |state, _| {
            state.usable()?;
            let bounds = state.bounds(topic, partition)?;
            state.journal.flush();
            Ok(bounds)
        })
        .await
    }
}
