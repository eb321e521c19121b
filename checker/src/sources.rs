//! A case from the topics, tables and files of a real run.

use std::path::PathBuf;

use crate::{
    History, Report, Result, Summary,
    judge::{
        evidence::{Bounds, Case, Effect, Evidence, Record, Role, Row, Topic, View},
        examine,
    },
    kafka::{Isolation, Kafka, Reader},
    progress::{self, Progress},
    tables::Tables,
};

/// What is judged, and where it is.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the topics are.
    pub kafka: Kafka,
    /// The RUN of the identities.
    pub run: String,
    /// The topics that carry the messages of the ledger.
    pub inputs: Vec<String>,
    /// The topics that carry what handlers emitted.
    pub outputs: Vec<String>,
    /// The tables; none if there are none, and then nothing tells phantoms.
    pub tables: Option<Tables>,
    /// The summary file of the watch.
    pub watch: Option<PathBuf>,
    /// The progress file of the watch.
    pub progress: Option<PathBuf>,
    /// The history file of the faults.
    pub history: Option<PathBuf>,
    /// Whether messages without an identity of this run are right.
    pub foreign_allowed: bool,
}

/// Reads topics and tables again, and judges. Blocks, and must not be called from an async task: use `spawn_blocking`.
///
/// # Errors
///
/// When something could not be read. What is wrong with the run is in the report.
pub fn judge(options: &Options) -> Result<Report> {
    let topic = |role| move |name: &String| Topic { name: name.clone(), role };
    let inputs = options.inputs.iter().map(topic(Role::In));
    let topics: Vec<_> = inputs.chain(options.outputs.iter().map(topic(Role::Out))).collect();
    let case = Case {
        run: options.run.clone(),
        ledger: options.tables.is_some(),
        effects: options.tables.as_ref().is_some_and(|tables| tables.effects.is_some()),
        foreign_allowed: options.foreign_allowed,
        watched: options.watch.as_deref().map(Summary::read).transpose()?,
        history: options.history.as_deref().map(History::read).transpose()?,
        topics,
    };
    let names = case.topics.iter().map(|topic| topic.name.clone()).collect();
    examine(&case, &mut Sources { options, names, ends: None })
}

struct Sources<'a> {
    options: &'a Options,
    names: Vec<String>,
    /// The ends of the first reading, which hold for every later one.
    ends: Option<Vec<Bounds>>,
}

impl Evidence for Sources<'_> {
    fn ledger(&mut self, each: &mut dyn FnMut(Row)) -> Result<()> {
        let patience = self.options.kafka.patience;
        self.options.tables.as_ref().map_or(Ok(()), |tables| tables.ledger(patience, each))
    }

    fn effects(&mut self, each: &mut dyn FnMut(Effect)) -> Result<()> {
        let patience = self.options.kafka.patience;
        self.options.tables.as_ref().map_or(Ok(()), |tables| tables.effects(patience, each))
    }

    fn records(&mut self, view: View, each: &mut dyn FnMut(&Record<'_>)) -> Result<Vec<Bounds>> {
        let isolation = if view == View::Committed { Isolation::Committed } else { Isolation::Uncommitted };
        let mut reader = Reader::open(&self.options.kafka, &self.names, isolation)?;
        if let Some(ends) = &self.ends {
            reader.stop_at(ends, view == View::Committed);
        }
        let ends = reader.bounds.clone();
        let mut next: Vec<_> = ends.iter().map(|bound| ((bound.topic, bound.partition), bound.end)).collect();
        next.sort_unstable();
        reader.drain(&mut |record| {
            let at =
                next.binary_search_by_key(&(record.topic, record.partition), |(partition, _)| *partition);
            if at.is_ok_and(|at| record.offset < next[at].1) {
                each(record);
            }
        })?;
        if self.ends.is_none() {
            self.ends = Some(reader.bounds.clone());
        }
        Ok(reader.bounds)
    }

    fn progress(&mut self, each: &mut dyn FnMut(&Progress)) -> Result<()> {
        self.options.progress.as_deref().map_or(Ok(()), |path| progress::read(path, each))
    }
}
