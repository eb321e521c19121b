//! The reader during the run.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Error, Result, Summary,
    identity::Sealed,
    judge::evidence::Record,
    kafka::{Groups, Isolation, Kafka, Reader, Turn},
    progress::{Diary, STEP},
    trace::Trace,
};

/// How long offsets are heard until it is looked whether to stop.
const TURN: Duration = Duration::from_millis(100);

/// What is watched.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// Where the topics are.
    pub kafka: Kafka,
    /// The run; messages of others are counted but not noted as progress.
    pub run: String,
    /// The topics; they must exist, or come to exist within the patience.
    pub topics: Vec<String>,
    /// Groups whose committed offsets in these topics must not go backwards.
    pub groups: Vec<String>,
    /// Where the progress is written, line by line; none for nowhere.
    pub progress: Option<PathBuf>,
}

/// A watch that runs, on threads of its own.
#[derive(Debug)]
pub struct Watch {
    signals: Arc<Signals>,
    reader: JoinHandle<Result<Summary>>,
    groups: Option<JoinHandle<Result<Heard>>>,
}

/// What was heard of the groups.
#[derive(Debug, Default)]
struct Heard {
    backwards: Vec<String>,
    last: Vec<String>,
}

/// What the watch's threads and its owner tell each other.
#[derive(Debug, Default)]
struct Signals {
    stop: AtomicBool,
    heard: AtomicU64,
    offsets: AtomicU64,
}

impl Signals {
    fn is_told_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// Starts to read all topics from their beginning.
    ///
    /// # Errors
    ///
    /// When the progress file cannot be written. That a broker cannot be reached shows at the end.
    pub fn start(options: WatchOptions) -> Result<Self> {
        let diary = options.progress.as_deref().map(Diary::create).transpose()?;
        let signals = Arc::new(Signals::default());
        let groups = (!options.groups.is_empty()).then(|| {
            let (options, signals) = (options.clone(), Arc::clone(&signals));
            thread::spawn(move || watch_groups(&options, &signals))
        });
        let shared = Arc::clone(&signals);
        let reader = thread::spawn(move || read(&options, diary, &shared));
        Ok(Self { signals, reader, groups })
    }

    /// How many records were seen so far.
    pub fn heard(&self) -> u64 {
        self.signals.heard.load(Ordering::Relaxed)
    }

    /// How many offsets of the groups were seen so far, one more than there were since the watch began to hear them.
    pub fn offsets(&self) -> u64 {
        self.signals.offsets.load(Ordering::Relaxed)
    }

    /// Whether it has ended by itself, with an error that [`finish`](Self::finish) tells.
    pub fn has_failed(&self) -> bool {
        self.reader.is_finished()
    }

    /// Reads on to the end, and says what was seen. Blocks.
    ///
    /// # Errors
    ///
    /// When a topic could not be read, or the progress not be written.
    pub fn finish(self) -> Result<Summary> {
        self.signals.stop.store(true, Ordering::Relaxed);
        let died = |_| Error::Settings("a thread of the watch panicked".into());
        let mut summary = self.reader.join().map_err(died)??;
        if let Some(groups) = self.groups {
            let Heard { backwards, last } = groups.join().map_err(died)??;
            summary.backwards.extend(backwards);
            summary.groups = last;
        }
        Ok(summary)
    }
}

fn watch_groups(options: &WatchOptions, signals: &Signals) -> Result<Heard> {
    let mut groups = loop {
        match Groups::open(&options.kafka, &options.groups, &options.topics)? {
            Some(groups) => break groups,
            None if signals.is_told_to_stop() => return Ok(Heard::default()),
            None => thread::sleep(TURN),
        }
    };
    let mut backwards = Vec::new();
    let mut note = |found: Vec<String>| {
        let now = now();
        backwards.extend(found.into_iter().map(|text| format!("{text} (at {now})")));
    };
    while !signals.is_told_to_stop() {
        signals.offsets.store(groups.heard() + 1, Ordering::Relaxed);
        note(groups.turn(TURN));
    }
    note(groups.rest()?);
    Ok(Heard { backwards, last: groups.last() })
}

fn read(options: &WatchOptions, diary: Option<Diary>, signals: &Signals) -> Result<Summary> {
    let mut reader = Reader::open(&options.kafka, &options.topics, Isolation::Committed)?;
    let mut notebook = Notebook::new(options, &reader, diary);
    let mut turned = 0;
    while !signals.is_told_to_stop() {
        let turn = reader.turn(Duration::from_millis(20), &mut |record| notebook.note(record));
        match turn {
            Turn::Heard => _ = signals.heard.fetch_add(1, Ordering::Relaxed),
            Turn::Idle if reader.is_lost() => notebook.summary.backwards.extend(reader.put_right()?),
            Turn::Idle => {}
        }
        let now = now();
        if now >= turned + STEP {
            turned = now;
            notebook.turn(now);
        }
        if let Some(error) = notebook.failed.take() {
            return Err(error);
        }
    }
    reader.find_ends()?;
    reader.drain(&mut |record| notebook.note(record))?;
    let positions = reader.positions()?;
    notebook.turn(u64::MAX - STEP);
    notebook.failed.take().map_or(Ok(()), Err)?;
    let mut summary = notebook.summary;
    for ((trace, position), bound) in summary.traces.iter_mut().zip(positions).zip(&reader.bounds) {
        // What is hidden at the end was passed over, not left unread.
        trace.position = trace.position.max(position);
        if bound.stable < bound.end {
            let Trace { topic, partition, .. } = trace;
            let note =
                format!("{topic}[{partition}] was read to {}, a transaction is open there", bound.stable);
            summary.notes.push(note);
        }
    }
    summary.ended = now();
    Ok(summary)
}

/// What the watch has noted so far.
struct Notebook<'a> {
    options: &'a WatchOptions,
    summary: Summary,
    diary: Option<Diary>,
    failed: Option<Error>,
}

impl<'a> Notebook<'a> {
    fn new(options: &'a WatchOptions, reader: &Reader<'_>, diary: Option<Diary>) -> Self {
        let traces = reader.bounds.iter();
        let traces = traces.map(|bound| Trace::new(&options.topics[bound.topic], bound.partition, bound.low));
        let summary = Summary {
            run: options.run.clone(),
            began: now(),
            traces: traces.collect(),
            ..Summary::default()
        };
        Self { options, summary, diary, failed: None }
    }

    fn note(&mut self, record: &Record<'_>) {
        let Record { topic, partition, offset, .. } = *record;
        let name = &self.options.topics[topic];
        let traces = &mut self.summary.traces;
        let known = traces.iter_mut().find(|trace| trace.partition == partition && trace.topic == *name);
        let Some(trace) = known else { return };
        if let Err(expected) = trace.step(offset, record.content()) {
            let text = format!("{name}[{partition}] offset {offset} after {expected} was to come");
            self.summary.backwards.push(text);
        }
        let Some(Ok(sealed)) = record.header.map(Sealed::read) else { return };
        if sealed.identity.run != self.options.run {
            return;
        }
        if let Some(diary) = &mut self.diary {
            let noted = diary.note((topic, name), partition, offset, sealed.identity.at, now());
            self.failed = noted.err().or(self.failed.take());
        }
    }

    fn turn(&mut self, now: u64) {
        if let Some(diary) = &mut self.diary {
            self.failed = diary.turn(now).err().or(self.failed.take());
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
