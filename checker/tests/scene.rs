//! A history in memory that can be bent.

use std::collections::BTreeMap;

use tidelock_checker::{
    Bounds, Case, Class, Effect, Evidence, Id, Identity, Progress, Record, Report, Result, Row, Sealed,
    Summary, Trace, View, examine,
};

/// The topics of a scene.
pub(crate) const IN: usize = 0;
pub(crate) const OUT: usize = 1;

/// A record; its offset is its place in the partition, until a test says otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) topic: usize,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) header: Option<String>,
    /// False in a transaction that was aborted or is open.
    pub(crate) visible: bool,
}

impl Told {
    pub(crate) fn record(&self) -> Record<'_> {
        Record {
            topic: self.topic,
            partition: self.partition,
            offset: self.offset,
            key: self.key.as_deref(),
            payload: self.payload.as_deref(),
            header: self.header.as_deref().map(str::as_bytes),
        }
    }

    pub(crate) fn says(&self) -> Identity<'_> {
        Sealed::read(self.header.as_deref().unwrap().as_bytes()).unwrap().identity
    }

    pub(crate) fn id(&self) -> Id {
        let Identity { producer, seq, copy, .. } = self.says();
        Id { producer, seq, copy }
    }

    /// Says something else, with a checksum that fits.
    pub(crate) fn say(&mut self, change: impl FnOnce(&mut Identity<'_>)) {
        let header = self.header.take().unwrap();
        let mut identity = Sealed::read(header.as_bytes()).unwrap().identity;
        change(&mut identity);
        self.header = Some(identity.seal(self.key.as_deref(), self.payload.as_deref()));
    }
}

/// A run as the checker finds it.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) case: Case,
    pub(crate) ledger: Vec<Row>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) records: Vec<Told>,
    /// Messages of transactions that were rolled back.
    pub(crate) rolled_back: Vec<Told>,
    pub(crate) progress: Vec<Progress>,
    /// Partitions in which a transaction is open, and from which offset on.
    pub(crate) open: BTreeMap<(usize, i32), i64>,
}

impl Scene {
    /// The places of the visible records of a topic.
    pub(crate) fn places(&self, topic: usize) -> Vec<usize> {
        self.find(|told| told.topic == topic && told.visible)
    }

    pub(crate) fn find(&self, wanted: impl Fn(&Told) -> bool) -> Vec<usize> {
        (0..self.records.len()).filter(|at| wanted(&self.records[*at])).collect()
    }

    /// The visible input in the middle that fits.
    pub(crate) fn middle(&self, wanted: impl Fn(&Told) -> bool) -> usize {
        let found = self.find(|told| told.topic == IN && told.visible && wanted(told));
        found[found.len() / 2]
    }

    /// The places of the inputs of a transaction with several messages.
    pub(crate) fn transaction(&self) -> Vec<usize> {
        let (producer, txn) = {
            let said = self.records[self.middle(|told| told.says().of >= 3)].says();
            (said.producer, said.txn)
        };
        let of = |told: &Told| (told.says().producer, told.says().txn) == (producer, txn);
        self.find(|told| told.topic == IN && told.visible && of(told))
    }

    /// Counts the offsets anew; every tenth is a control record.
    pub(crate) fn number(&mut self) {
        let mut next: BTreeMap<(usize, i32), i64> = BTreeMap::new();
        for told in &mut self.records {
            let next = next.entry((told.topic, told.partition)).or_default();
            *next += i64::from(*next % 10 == 9);
            told.offset = *next;
            *next += 1;
        }
    }

    /// What a watch would have seen of all that is visible.
    pub(crate) fn watch(&mut self) {
        let mut summary = Summary { run: self.case.run.clone(), ..Summary::default() };
        for bounds in self.bounds() {
            let Bounds { topic, partition, end, .. } = bounds;
            let mut trace = Trace::new(&self.case.topics[topic].name, partition, 0);
            let here = |told: &&Told| told.visible && (told.topic, told.partition) == (topic, partition);
            self.records.iter().filter(here).for_each(|told| {
                trace.step(told.offset, told.record().content()).ok();
            });
            trace.position = end;
            summary.traces.push(trace);
        }
        self.case.watched = Some(summary);
    }

    fn bounds(&self) -> Vec<Bounds> {
        let mut ends: BTreeMap<(usize, i32), i64> = BTreeMap::new();
        for told in &self.records {
            let end = ends.entry((told.topic, told.partition)).or_default();
            *end = (*end).max(told.offset + 1);
        }
        let bounds = ends.into_iter().map(|((topic, partition), end)| {
            let stable = self.open.get(&(topic, partition)).copied().unwrap_or(end);
            Bounds { topic, partition, low: 0, stable, end }
        });
        bounds.collect()
    }

    pub(crate) fn judge(&mut self) -> Report {
        let case = self.case.clone();
        examine(&case, self).unwrap()
    }

    /// Numbers, watches and judges.
    pub(crate) fn judge_afresh(&mut self) -> Report {
        self.number();
        self.watch();
        self.judge()
    }
}

impl Evidence for Scene {
    fn ledger(&mut self, each: &mut dyn FnMut(Row)) -> Result<()> {
        self.ledger.iter().for_each(|row| each(*row));
        Ok(())
    }

    fn effects(&mut self, each: &mut dyn FnMut(Effect)) -> Result<()> {
        self.effects.iter().for_each(|effect| each(*effect));
        Ok(())
    }

    fn records(&mut self, view: View, each: &mut dyn FnMut(&Record<'_>)) -> Result<Vec<Bounds>> {
        let shown = self.records.iter().filter(|told| told.visible || view == View::All);
        shown.for_each(|told| each(&told.record()));
        Ok(self.bounds())
    }

    fn progress(&mut self, each: &mut dyn FnMut(&Progress)) -> Result<()> {
        self.progress.iter().for_each(each);
        Ok(())
    }
}

/// What was found, as classes with the ids that are named.
pub(crate) fn found(report: &Report) -> Vec<(Class, Vec<Id>)> {
    let wrong = report.verdicts.iter().filter(|verdict| verdict.count > 0);
    let ids = wrong.map(|verdict| {
        let ids: Vec<_> = verdict.first.iter().filter_map(|finding| finding.id).collect();
        (verdict.class, ids)
    });
    ids.collect()
}
