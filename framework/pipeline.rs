//! Start, ready, stop: relay and processors together.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::Mutex, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    config::Problems,
    database::{Database, Source},
    error::{Error, Kind, Result},
    health::{Health, Report, State},
    log::Log,
    policy::advice,
    processor::{Processor, ProcessorConfig},
    relay::{Relay, RelayConfig},
};

type Task =
    Box<dyn Fn(CancellationToken) -> futures_util::future::BoxFuture<'static, Result<()>> + Send + Sync>;

/// Whatever waits somewhere ends at once when it is dropped.
const DROPPED_WITHIN: Duration = Duration::from_secs(1);

/// What runs in this process: a relay, processors, or both.
pub struct Pipeline {
    log: Arc<dyn Log>,
    health: Health,
    components: Vec<(String, Arc<Task>)>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Collects the parts of a [`Pipeline`].
pub struct Builder<D: Database> {
    log: Arc<dyn Log>,
    database: D,
    instance: Option<String>,
    defaults: ProcessorConfig,
    processors: Vec<Processor<D>>,
    relay: Option<(RelayConfig, StartRelay<D>)>,
}

type StartRelay<D> = fn(Arc<dyn Log>, D, RelayConfig, Option<String>, Health) -> Result<(String, Task)>;

impl Pipeline {
    /// Begins a pipeline between a log and a database.
    pub fn builder<D: Database>(log: impl Log, database: D) -> Builder<D> {
        Builder {
            log: Arc::new(log),
            database,
            instance: None,
            defaults: ProcessorConfig::default(),
            processors: Vec::new(),
            relay: None,
        }
    }

    /// Checks the brokers, then starts every component. Safe to call twice.
    ///
    /// # Errors
    /// What the check of the brokers found.
    pub async fn start(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Ok(());
        }
        self.log.check().await?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (name, task) in &self.components {
            self.health.set(name, State::Starting);
            tasks.spawn(keep_running(name.clone(), task.clone(), stop.clone(), self.health.clone()));
        }
        *running = Some(Running { stop, tasks });
        Ok(())
    }

    /// Waits until every component is at work: as long as one is [`Failed`](State::Failed), mostly for ever. Which and why,
    /// [`health`](Self::health) says; wait with a time-out, and print it.
    pub async fn ready(&self) {
        self.health.ready().await;
    }

    /// What every component says of itself now.
    pub fn health(&self) -> Report {
        self.health.report()
    }

    /// Whether every component is at work.
    pub fn is_ready(&self) -> bool {
        self.health.is_ready()
    }

    /// Stops: transactions under way are finished, partitions are handed back. Safe to call twice.
    ///
    /// # Errors
    /// Kind `Timeout` when `deadline` passed first; everything was then dropped, which loses nothing.
    pub async fn stop(&self, deadline: Duration) -> Result<()> {
        let Some(mut running) = self.running.lock().await.take() else {
            return Ok(());
        };
        running.stop.cancel();
        let drained = async { while running.tasks.join_next().await.is_some() {} };
        if timeout(deadline, drained).await.is_err() {
            let _ = timeout(DROPPED_WITHIN, running.tasks.shutdown()).await;
            self.health.clear();
            return Err(Error::new(
                Kind::Timeout,
                format!("not stopped within {deadline:?}; dropped what was left"),
            ));
        }
        Ok(())
    }
}

impl<D: Database> Builder<D> {
    /// A stable name of this instance: after a restart it takes its partitions over at once, without waiting for time-outs.
    /// No two running instances may have the same name.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// Settings of processors that have none of their own.
    #[must_use]
    pub fn processor_defaults(mut self, config: ProcessorConfig) -> Self {
        self.defaults = config;
        self
    }

    /// Adds a processor.
    #[must_use]
    pub fn processor(mut self, processor: Processor<D>) -> Self {
        self.processors.push(processor);
        self
    }

    /// # Errors
    /// Kind `Config`, naming every problem of every part.
    pub fn build(self) -> Result<Pipeline> {
        let mut problems = Problems::default();
        self.defaults.report(&mut problems);
        for (number, processor) in self.processors.iter().enumerate() {
            processor.report(&mut problems, &self.defaults);
            let group = processor.group();
            problems.check(self.processors[..number].iter().all(|other| other.group() != group), || {
                format!(
                    "two processors of group {group:?}: give one of them all handlers, or a group of its own"
                )
            });
        }
        if let Some((config, _)) = &self.relay {
            config.report_for_use(&mut problems);
        }
        if self.processors.is_empty() && self.relay.is_none() {
            problems.add("the pipeline has neither relay nor processor");
        }
        problems.check(self.instance.as_deref() != Some(""), || "the instance name is empty".to_owned());
        problems.into_result()?;
        let health = Health::default();
        let mut components = Vec::new();
        if let Some((config, start)) = self.relay {
            let (name, task) = start(
                self.log.clone(),
                self.database.clone(),
                config,
                self.instance.clone(),
                health.clone(),
            )?;
            components.push((name, Arc::new(task)));
        }
        for processor in self.processors {
            let runner = Arc::new(processor.into_runner(
                self.log.clone(),
                self.database.clone(),
                &self.defaults,
                self.instance.clone(),
                health.clone(),
            ));
            let name = runner.name();
            let task: Task = Box::new(move |stop| {
                let runner = runner.clone();
                Box::pin(async move { runner.run(stop).await })
            });
            components.push((name, Arc::new(task)));
        }
        Ok(Pipeline { log: self.log, health, components, running: Mutex::new(None) })
    }
}

impl<D: Database + Source> Builder<D> {
    /// Adds the relay of the database's outbox.
    #[must_use]
    pub fn relay(mut self, config: RelayConfig) -> Self {
        self.relay = Some((config, |log, database, config, instance, health| {
            let name = format!("relay {}", config.name);
            let relay = Arc::new(Relay::new(log, database, config, instance, health)?);
            let task: Task = Box::new(move |stop| {
                let relay = relay.clone();
                Box::pin(async move { relay.run(stop).await })
            });
            Ok((name, task))
        }));
        self
    }
}

/// Starts a component again after it lost its membership, or now and then if a setting seems wrong; any other failure that an
/// operator must mend leaves it down.
async fn keep_running(name: String, task: Arc<Task>, stop: CancellationToken, health: Health) {
    use crate::{
        policy::{Action, action, recovering, stay_stopped},
        retry::Backoff,
    };
    let backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) };
    let mut failures = 0;
    while !stop.is_cancelled() {
        let failure = match AssertUnwindSafe(task(stop.clone())).catch_unwind().await {
            Ok(Ok(())) => break,
            Ok(Err(failure)) => failure,
            Err(panic) => Error::panicked(Kind::Unavailable, &name, panic.as_ref()),
        };
        failures += 1;
        match action(failure.kind()) {
            Action::Recover => {
                recovering(&name, &failure, failures);
                health.set(&name, State::Recovering(failure.to_string()));
                stop.run_until_cancelled(tokio::time::sleep(backoff.wait(failures))).await;
            }
            Action::Stop | Action::End => {
                error!(component = name, error = %failure, advice = advice(failure.kind()), "stopped");
                health.set(&name, State::Failed(failure.to_string()));
                stay_stopped(failure.kind(), &stop).await;
            }
        }
    }
    health.remove(&name);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Brokers that have just started know no topic.
    #[tokio::test(start_paused = true)]
    async fn a_component_that_a_setting_has_stopped_looks_again() {
        let times = Arc::new(AtomicU32::new(0));
        let counted = times.clone();
        let task: Task = Box::new(move |stop| {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            Box::pin(async move {
                if first {
                    return Err(Error::new(Kind::Config, "no such topic"));
                }
                stop.cancelled().await;
                Ok(())
            })
        });
        let (stop, health) = (CancellationToken::new(), Health::default());
        let running =
            tokio::spawn(keep_running("one".to_owned(), Arc::new(task), stop.clone(), health.clone()));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(health.report().remove("one"), Some(State::Failed("no such topic".to_owned())));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(times.load(Ordering::SeqCst), 2);
        stop.cancel();
        running.await.unwrap();
        assert!(health.report().is_empty(), "{:?}", health.report());
    }
}
