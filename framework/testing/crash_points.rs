//! The kit: one run without a crash, one for every crash point, and the comparison.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    rc::Rc,
    time::{Duration, UNIX_EPOCH},
};

use futures_util::{StreamExt as _, future::LocalBoxFuture, stream};

use super::{
    emitted::{self, Emitted},
    plan::{CrashPoint, Entry, PLAN, Seam},
    report::{Failure, Report, both_sides},
    script::Script,
    stage::{Setting, Stage, Wave},
};
use crate::{
    database::Database,
    error::{BoxError, Error},
    event::Event,
    log::Record,
    message::{Headers, MessageId, header},
    processor::Processor,
    time::rfc3339,
};

/// 2026-01-01T00:00:00Z, when the first message was sent.
const FIRST_MS: u64 = 1_767_225_600_000;
/// Runs that wait for time-outs, at the same time.
const AT_ONCE: usize = 4;

type Make<D> = Box<dyn Fn() -> LocalBoxFuture<'static, Result<D, BoxError>>>;
type Read<D, T> =
    Box<dyn for<'c> Fn(&'c mut <D as Database>::Connection) -> LocalBoxFuture<'c, Result<T, BoxError>>>;

/// Runs a processor over some messages: once in peace, then once for every crash point, each time on a fresh database
/// and a fresh log in memory. See [the module](super) for an example.
///
/// What must be the same each time: the effect on the database as [`effect`](Self::effect) reads it, and what was
/// emitted: topic, key, payload and headers but for `ce_time`, in order for each key. A handler whose work differs from
/// run to run without any crash (random numbers, clocks, numbers from a PostgreSQL sequence, which leaves gaps where a
/// transaction was rolled back) cannot be compared, and is told apart by a second run in peace.
///
/// Topics have one partition. The clock of tokio must not be paused.
#[must_use]
pub struct CrashPoints<D: Database, T = ()> {
    database: Make<D>,
    processor: Box<dyn Fn() -> Processor<D>>,
    effect: Read<D, T>,
    waves: Vec<Wave>,
    batch: usize,
    hits: usize,
    patience: Duration,
    problem: Option<Error>,
}

impl<D: Database> CrashPoints<D> {
    /// `database` makes a new, empty database with the framework's tables and yours; `processor` makes the processor as
    /// your service does at its start, once for every process. Some runs are under way at the same time.
    pub fn new(
        database: impl AsyncFn() -> Result<D, BoxError> + 'static,
        processor: impl Fn() -> Processor<D> + 'static,
    ) -> Self {
        let database = Rc::new(database);
        Self {
            database: Box::new(move || {
                let database = database.clone();
                Box::pin(async move { database().await })
            }),
            processor: Box::new(processor),
            effect: Box::new(|_| Box::pin(async { Ok(()) })),
            waves: Vec::new(),
            batch: 2,
            hits: 3,
            patience: Duration::from_secs(20),
            problem: None,
        }
    }

    /// Reads back what the handlers have done to the database: whatever can be compared and shown, in a fixed order.
    pub fn effect<T: PartialEq + Debug>(
        self,
        effect: impl AsyncFn(&mut D::Connection) -> Result<T, BoxError> + 'static,
    ) -> CrashPoints<D, T> {
        let effect = Rc::new(effect);
        let Self { database, processor, waves, batch, hits, patience, problem, .. } = self;
        let effect: Read<D, T> = Box::new(move |connection| {
            let effect = effect.clone();
            Box::pin(async move { effect(connection).await })
        });
        CrashPoints { database, processor, effect, waves, batch, hits, patience, problem }
    }
}

/// What a run has left.
struct Left<T> {
    effect: T,
    emitted: Vec<Emitted>,
    passes: BTreeMap<Seam, usize>,
    executions: usize,
    done: bool,
}

impl<D: Database, T: PartialEq + Debug> CrashPoints<D, T> {
    /// Adds a message. Messages of one topic that follow each other are there together; where the topic changes, the next
    /// ones come only when all before them are handled.
    pub fn message<E: Event>(mut self, event: &E) -> Self {
        let number = self.waves.iter().map(Vec::len).sum::<usize>();
        let payload = match event.encode() {
            Ok(payload) => payload,
            Err(error) => {
                self.problem.get_or_insert(error);
                return self;
            }
        };
        let time = FIRST_MS + number as u64;
        let mut headers = Headers::new();
        headers.push(header::SPEC_VERSION, "1.0");
        headers.push(header::ID, MessageId::hashed("testing", &[E::TYPE], &[number as i64]).to_string());
        headers.push(header::SOURCE, "/testing");
        headers.push(header::TYPE, E::TYPE);
        headers.push(header::TIME, rfc3339(UNIX_EPOCH + Duration::from_millis(time)));
        headers.push(header::CONTENT_TYPE, E::CONTENT_TYPE);
        let record = Record {
            topic: E::topic().into(),
            partition: None,
            key: event.key().into(),
            payload: Some(payload),
            headers,
            time_ms: Some(time as i64),
        };
        match self.waves.last_mut() {
            Some(wave) if wave.first().is_some_and(|first| first.topic == record.topic) => wave.push(record),
            _ => self.waves.push(vec![record]),
        }
        self
    }

    /// Adds messages of one type.
    pub fn messages<'e, E: Event>(self, events: impl IntoIterator<Item = &'e E>) -> Self {
        events.into_iter().fold(self, |kit, event| kit.message(event))
    }

    /// The most messages in one database transaction. Defaults to 2, so that there are several batches, and batches of
    /// several.
    pub fn batch(mut self, messages: usize) -> Self {
        self.batch = messages.max(1);
        self
    }

    /// At how many batches, from the first one on, each crash point is tried; what waits for time-outs is tried at the first
    /// one only. Defaults to 3.
    pub fn hits(mut self, hits: usize) -> Self {
        self.hits = hits.max(1);
        self
    }

    /// How long the messages of one topic may take in one run. Defaults to 20 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs everything; the first difference ends it.
    ///
    /// # Errors
    /// What differs, at which crash point, and both sides; or what kept a run from its end.
    pub async fn run(self) -> Result<Report, Failure> {
        let first = self.in_peace().await?;
        let again = self.in_peace().await?;
        if let Some(difference) = difference(&first, &again) {
            let what = "two runs differ, so that nothing can be compared: random numbers, a clock, an order that is not \
                        fixed, or something kept outside of the database?";
            return Err(Failure::new(None, format!("{what} Here {difference}")));
        }
        let mut executions = first.executions + again.executions;
        let (passes, most) = (&first.passes, self.hits);
        let points = |slow: bool| {
            PLAN.iter().filter(move |entry| entry.fate.is_slow() == slow).flat_map(move |entry| {
                let passes = passes.get(&entry.steps[0].0).copied().unwrap_or(0);
                let hits = if slow { 1 } else { most };
                (1..=passes.min(hits)).map(move |hit| (entry, hit))
            })
        };
        let quick =
            stream::iter(points(false)).map(|(entry, hit)| self.crash(entry, hit, &first)).buffered(1);
        let slow =
            stream::iter(points(true)).map(|(entry, hit)| self.crash(entry, hit, &first)).buffered(AT_ONCE);
        let mut runs = std::pin::pin!(quick.chain(slow));
        let mut hit = Vec::new();
        while let Some(run) = runs.next().await {
            let (point, left) = run?;
            executions += left.executions;
            match left.done {
                true => hit.push(point),
                // Batches may be cut differently where topics are read at the same time: fewer, not none.
                false if point.hit > 1 => {}
                false => return Err(Failure::new(Some(point), "not reached, though it is without a crash")),
            }
        }
        if hit.is_empty() {
            return Err(Failure::new(None, "no crash point was hit"));
        }
        Ok(Report { hit, executions, emitted: first.emitted.len() })
    }

    async fn in_peace(&self) -> Result<Left<T>, Failure> {
        let fail = |what: String| Failure::new(None, what);
        if let Some(problem) = &self.problem {
            return Err(fail(problem.to_string()));
        }
        let topics = (self.processor)().topics();
        let unread = self.waves.iter().flatten().find(|record| !topics.contains(&&*record.topic));
        if let Some(record) = unread {
            return Err(fail(format!("a message goes to topic {:?}, which no handler reads", record.topic)));
        }
        if self.waves.is_empty() {
            return Err(fail("there is no message".to_owned()));
        }
        self.live(Script::default(), None).await.map_err(|error| fail(error.to_string()))
    }

    async fn crash(
        &self,
        entry: &Entry,
        hit: usize,
        first: &Left<T>,
    ) -> Result<(CrashPoint, Left<T>), Failure> {
        let point = CrashPoint { point: entry.point, fate: entry.fate, hit };
        let left = self.live(Script::new(entry.steps, hit), Some(entry)).await;
        let left = left.map_err(|error| Failure::new(Some(point), error.to_string()))?;
        match difference(first, &left) {
            Some(difference) => Err(Failure::new(Some(point), difference)),
            None => Ok((point, left)),
        }
    }

    async fn live(&self, script: Script, entry: Option<&Entry>) -> Result<Left<T>, BoxError> {
        let Self { processor, waves, batch, patience, .. } = self;
        let setting = Setting { processor: &**processor, waves, batch: *batch, patience: *patience };
        let database =
            (self.database)().await.map_err(|error| format!("the database cannot be made: {error}"))?;
        let mut stage = Stage::new(&setting, database, script.clone(), entry.map(|entry| entry.fate))?;
        let emitted = stage.live().await?;
        let effect = stage.effect(async |connection| (self.effect)(connection).await).await;
        Ok(Left {
            effect: effect.map_err(|error| format!("the effect cannot be read: {error}"))?,
            emitted,
            passes: stage.passes(),
            executions: script.executions(),
            done: script.is_done(),
        })
    }
}

fn difference<T: PartialEq + Debug>(expected: &Left<T>, found: &Left<T>) -> Option<String> {
    if expected.effect != found.effect {
        let sides = both_sides(&expected.effect, &found.effect);
        return Some(format!("the effect on the database differs{sides}"));
    }
    emitted::difference(&expected.emitted, &found.emitted)
}
