//! One run: a log and a database of its own, and processes that live and die on them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    database::{Connected, Process},
    emitted::{Emitted, emitted},
    plan::{Fate, Seam},
    script::{AtHandler, Request, Script},
};
use crate::{
    commit::Commit,
    database::{Database, Unit},
    error::{BoxError, Error, Kind, Result},
    health::State,
    log::{
        Cleanup, Log, Record, TopicSpec,
        embedded::{Client, Embedded, EmbeddedConfig},
    },
    pipeline::Pipeline,
    processor::{Processor, StartAt},
};

/// Session and transaction time-outs: short, because somebody waits for them; a busy machine only makes more go wrong.
const TIME_OUT: Duration = Duration::from_millis(900);
/// Longer than both.
const STOP: Duration = Duration::from_millis(1_400);
const TICK: Duration = Duration::from_millis(2);
/// How long a process may take to end in good order.
const END: Duration = Duration::from_secs(5);
/// Failures in a row after which a handler is taken to fail for ever.
const GIVE_UP: u32 = 12;

/// Messages of one topic, sent in one transaction; the next ones follow when these are handled.
pub(super) type Wave = Vec<Record>;

/// What is the same in all runs.
pub(super) struct Setting<'a, D: Database> {
    pub(super) processor: &'a dyn Fn() -> Processor<D>,
    pub(super) waves: &'a [Wave],
    pub(super) batch: usize,
    pub(super) patience: Duration,
}

struct Instance {
    client: Client,
    pipeline: Pipeline,
}

pub(super) struct Stage<'a, D: Database> {
    setting: &'a Setting<'a, D>,
    group: String,
    topics: Vec<&'static str>,
    log: Embedded,
    database: D,
    script: Script,
    fate: Option<Fate>,
    instances: Vec<Instance>,
    born: usize,
}

impl<'a, D: Database> Stage<'a, D> {
    pub(super) fn new(
        setting: &'a Setting<'a, D>,
        database: D,
        script: Script,
        fate: Option<Fate>,
    ) -> Result<Self> {
        let config = EmbeddedConfig {
            topic_partitions: 1,
            session_timeout: TIME_OUT,
            transaction_timeout: TIME_OUT,
            heartbeat_interval: TIME_OUT / 4,
            max_poll_interval: 8 * TIME_OUT,
            query_timeout: TIME_OUT / 2,
            init_timeout: 8 * TIME_OUT,
            ..EmbeddedConfig::default()
        };
        let log = Embedded::in_memory_with(config)?.with_faults(script.clone());
        let processor = (setting.processor)();
        let (group, topics) = (processor.group().to_owned(), processor.topics());
        Ok(Self { setting, group, topics, log, database, script, fate, instances: Vec::new(), born: 0 })
    }

    /// Lives the run through; answers what was emitted.
    pub(super) async fn live(&mut self) -> Result<Vec<Emitted>, BoxError> {
        for topic in &self.topics {
            let spec = TopicSpec { name: (*topic).to_owned(), partitions: None, cleanup: Cleanup::Any };
            self.log.topic(&spec).await?;
        }
        self.start().await?;
        let setting = self.setting;
        for wave in setting.waves {
            self.feed(wave).await?;
            self.settle().await?;
        }
        for instance in std::mem::take(&mut self.instances) {
            // What is dropped at the deadline loses nothing.
            let _ = instance.pipeline.stop(END).await;
        }
        Ok(emitted(self.log.committed_records(), setting.waves, &self.topics))
    }

    /// What the database holds now, in the eyes of `read`.
    pub(super) async fn effect<T>(
        &self,
        read: impl AsyncFnOnce(&mut D::Connection) -> Result<T, BoxError>,
    ) -> Result<T, BoxError> {
        let mut unit = self.database.begin().await?;
        let effect = read(unit.connection()).await;
        unit.rollback().await;
        effect
    }

    pub(super) fn passes(&self) -> BTreeMap<Seam, usize> {
        self.script.passes()
    }

    fn instance(&self) -> Option<String> {
        match self.fate {
            Some(Fate::Revoked) => None,
            Some(Fate::Replaced | Fate::Stopped) => Some(format!("instance-{}", self.born)),
            _ => Some("instance".to_owned()),
        }
    }

    async fn start(&mut self) -> Result<()> {
        self.born += 1;
        let client = self.log.client(&format!("process {}", self.born));
        self.script.born(&client);
        let process = Process { client: client.clone(), script: self.script.clone() };
        let witness = Arc::new(AtHandler { script: self.script.clone(), client: client.clone() });
        let processor = (self.setting.processor)().through(witness, |config| {
            config.max_batch = self.setting.batch.min(config.max_buffered);
            config.start = StartAt::Earliest;
            config.retry_first = Duration::from_millis(5);
            config.retry_most = Duration::from_millis(50);
        });
        let database = Connected { inner: self.database.clone(), process };
        let mut builder = Pipeline::builder(client.clone(), database).processor(processor);
        if let Some(name) = self.instance() {
            builder = builder.instance(name);
        }
        let pipeline = builder.build()?;
        pipeline.start().await?;
        self.instances.push(Instance { client, pipeline });
        Ok(())
    }

    async fn feed(&self, wave: &[Record]) -> Result<()> {
        let mut producer = self.log.producer("tidelock.testing").await?;
        producer.begin().await?;
        producer.send(wave.to_vec()).await?;
        if let Some(refusal) = producer.acknowledged().await?.first() {
            return Err(Error::new(Kind::Refused, format!("a message was refused: {}", refusal.reason)));
        }
        match producer.commit().await {
            Commit::Committed => Ok(()),
            Commit::Aborted(error) | Commit::Unknown(error) => Err(error),
        }
    }

    /// Until everything is handled and everybody is at work again.
    async fn settle(&mut self) -> Result<(), BoxError> {
        let until = Instant::now() + self.setting.patience;
        loop {
            self.obey().await?;
            while let Some(dead) = self.instances.iter().position(|each| each.client.is_killed()) {
                drop(self.instances.remove(dead));
                self.start().await?;
            }
            if self.is_settled() {
                match self.script.take_doomed() {
                    Some(client) => client.kill(),
                    None => return Ok(()),
                }
            }
            let (failures, last) = self.script.failures();
            let last = last.unwrap_or_else(|| "none".to_owned());
            if failures >= GIVE_UP {
                return Err(format!("failed {failures} times in a row, the last time: {last}").into());
            }
            let states = self.instances.iter().flat_map(|each| each.pipeline.health());
            let states: Vec<(String, State)> =
                states.filter(|(_, state)| !matches!(state, State::Ready)).collect();
            if let Some((name, State::Failed(why))) =
                states.iter().find(|(_, state)| matches!(state, State::Failed(_)))
            {
                return Err(format!("{name} stopped: {why}").into());
            }
            if Instant::now() >= until {
                let text = format!(
                    "not at its end after {:?}; the last failure: {last}; not at work: {states:?}",
                    self.setting.patience
                );
                return Err(text.into());
            }
            sleep(TICK).await;
        }
    }

    fn is_settled(&self) -> bool {
        let at_work = |each: &Instance| !each.client.is_killed() && each.pipeline.is_ready();
        self.log.is_consumed(&self.group, &self.topics) && self.instances.iter().all(at_work)
    }

    async fn obey(&mut self) -> Result<()> {
        match self.script.take_request() {
            None => {}
            Some(Request::Thaw(client)) => {
                self.start().await?;
                sleep(STOP).await;
                client.thaw();
            }
            Some(Request::Leave) => {
                let leaving = self.instances.remove(0);
                self.start().await?;
                let _ = leaving.pipeline.stop(END).await;
            }
        }
        Ok(())
    }
}

impl<D: Database> Drop for Stage<'_, D> {
    fn drop(&mut self) {
        self.script.forget();
    }
}
