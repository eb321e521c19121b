//! Transactional ids: epochs, open transactions, and how they end.

use std::{collections::BTreeMap, time::Duration};

use super::{
    groups::Proof,
    journal::Change,
    partition::Entry,
    state::{Now, Place, State},
};
use crate::{
    error::{Error, Kind, Result},
    log::{PartitionOffset, Record},
};

/// A transactional id.
#[derive(Debug, Default)]
pub(super) struct Transactional {
    pub(super) epoch: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    deadline: Duration,
    /// It is being stored: nothing can stop it any more.
    prepared: bool,
    records: BTreeMap<Place, Vec<Entry>>,
    offsets: BTreeMap<String, BTreeMap<Place, i64>>,
}

impl Transactional {
    pub(super) fn restored(epoch: u64) -> Self {
        Self { epoch, open: None }
    }

    /// When its open transaction is aborted.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.open.as_ref().filter(|open| !open.prepared).map(|open| open.deadline)
    }

    fn prepared(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.prepared)
    }
}

impl State {
    /// The epoch of a new producer; `None` while a commit of its predecessor is being stored.
    pub(super) fn init(&mut self, id: &str) -> Option<u64> {
        if self.producers.get(id).is_some_and(Transactional::prepared) {
            return None;
        }
        self.roll_back(id);
        let producer = self.producers.entry(id.to_owned()).or_default();
        producer.epoch += 1;
        let epoch = producer.epoch;
        self.journal.add(Change::Epoch { id: id.to_owned(), epoch });
        Some(epoch)
    }

    /// The transaction of that id, opened now if there is none.
    fn open(&mut self, id: &str, epoch: u64, now: Now) -> Result<&mut Open> {
        let deadline = now.at + self.config.transaction_timeout;
        match self.producers.get_mut(id) {
            Some(producer) if producer.epoch == epoch && !producer.prepared() => {
                Ok(producer.open.get_or_insert_with(|| Open {
                    deadline,
                    prepared: false,
                    records: BTreeMap::new(),
                    offsets: BTreeMap::new(),
                }))
            }
            _ => Err(fenced(id)),
        }
    }

    /// Appends records in this order; answers which are refused for good, by their place among `records`.
    pub(super) fn append(
        &mut self,
        id: &str,
        epoch: u64,
        records: Vec<Record>,
        now: Now,
    ) -> Result<Vec<(usize, String)>> {
        self.open(id, epoch, now)?;
        let mut refused = Vec::new();
        for (index, record) in records.into_iter().enumerate() {
            match self.place(id, record, now) {
                Ok((place, entry)) => {
                    self.open(id, epoch, now)?.records.entry(place).or_default().push(entry);
                }
                Err(reason) => refused.push((index, reason)),
            }
        }
        Ok(refused)
    }

    /// # Errors
    /// Kind `Fenced` when the producer or the member is no longer the current one.
    pub(super) fn add_offsets(
        &mut self,
        id: &str,
        epoch: u64,
        offsets: &[PartitionOffset],
        proof: &Proof,
        now: Now,
    ) -> Result<()> {
        self.open(id, epoch, now)?;
        self.groups.verify(proof)?;
        let pending = self.open(id, epoch, now)?.offsets.entry(proof.group.clone()).or_default();
        for each in offsets {
            pending.insert((each.topic.clone(), each.partition), each.offset);
        }
        Ok(())
    }

    /// Commits what is open; with a file, [`complete`](Self::complete) follows once it is stored.
    pub(super) fn commit(&mut self, id: &str, epoch: u64, now: Now) -> Result<()> {
        let durable = self.journal.durable();
        let producer = self.producers.get_mut(id);
        let producer = producer.filter(|producer| producer.epoch == epoch && !producer.prepared());
        let Some(open) = producer.and_then(|producer| producer.open.as_mut()) else {
            return Err(fenced(id));
        };
        open.prepared = true;
        for place in open.records.keys() {
            if let Some(topic) = self.topics.get_mut(&*place.0) {
                topic.partitions[place.1 as usize].mark();
            }
            self.journal.moved(place);
        }
        if !durable {
            self.complete(id, now);
            return Ok(());
        }
        let records = open.records.values().flatten().cloned().collect();
        let offsets = open.offsets.iter();
        let offsets = offsets
            .flat_map(|(group, each)| each.iter().map(|(at, next)| (group.clone(), at.clone(), *next)))
            .collect();
        self.journal.add(Change::Commit { id: id.to_owned(), records, offsets });
        Ok(())
    }

    /// Makes a prepared transaction readable.
    pub(super) fn complete(&mut self, id: &str, now: Now) {
        let producer = self.producers.get_mut(id).filter(|producer| producer.prepared());
        let Some(open) = producer.and_then(|producer| producer.open.take()) else { return };
        for (place, records) in open.records {
            if let Some(topic) = self.topics.get_mut(&*place.0) {
                topic.partitions[place.1 as usize].close(id, records);
            }
            self.tidy(&place, now);
        }
        for (group, offsets) in open.offsets {
            for (place, offset) in offsets {
                self.groups.set_offset(&group, place, offset);
            }
        }
        self.changed = true;
    }

    /// Aborts what is open, if anything is.
    pub(super) fn abort(&mut self, id: &str, epoch: u64) -> Result<()> {
        match self.producers.get(id) {
            Some(producer) if producer.epoch == epoch && !producer.prepared() => {
                self.roll_back(id);
                Ok(())
            }
            _ => Err(fenced(id)),
        }
    }

    /// The transaction took too long: it is aborted, and its producer fenced.
    pub(super) fn time_out(&mut self, id: &str) {
        let Some(producer) = self.producers.get_mut(id).filter(|producer| producer.deadline().is_some())
        else {
            return;
        };
        producer.epoch += 1;
        let epoch = producer.epoch;
        self.journal.add(Change::Epoch { id: id.to_owned(), epoch });
        self.roll_back(id);
    }

    pub(super) fn expire_transactions(&mut self, now: Now) {
        let due = |(id, producer): (&String, &Transactional)| {
            producer.deadline().filter(|deadline| *deadline <= now.at).map(|deadline| (deadline, id.clone()))
        };
        let mut late: Vec<_> = self.producers.iter().filter_map(due).collect();
        late.sort();
        for (_, id) in late {
            self.time_out(&id);
        }
    }

    fn roll_back(&mut self, id: &str) {
        let Some(open) = self.producers.get_mut(id).and_then(|producer| producer.open.take()) else { return };
        for place in open.records.keys() {
            if let Some(topic) = self.topics.get_mut(&*place.0) {
                let partition = &mut topic.partitions[place.1 as usize];
                partition.mark();
                partition.close(id, Vec::new());
            }
            self.journal.moved(place);
        }
        self.changed = true;
    }

    /// The committed offset of a group; `Err` while a transaction may still change it.
    pub(super) fn committed(&self, group: &str, place: &Place) -> Result<Option<i64>> {
        let pending = |producer: &Transactional| {
            let offsets = producer.open.as_ref().and_then(|open| open.offsets.get(group));
            offsets.is_some_and(|offsets| offsets.contains_key(place))
        };
        match self.producers.iter().find(|(_, producer)| pending(producer)) {
            None => Ok(self.groups.offset(group, place)),
            Some((id, _)) => Err(Error::new(
                Kind::Timeout,
                format!("the offset of {}[{}] is in an open transaction of {id:?}", place.0, place.1),
            )),
        }
    }

    /// The committed offset as it stands, whatever open transactions may do.
    pub(super) fn unstable_offset(&self, group: &str, place: &Place) -> Option<i64> {
        self.groups.offset(group, place)
    }
}

fn fenced(id: &str) -> Error {
    Error::new(
        Kind::Fenced,
        format!("producer {id:?} is fenced: a newer one has taken over, or its transaction took too long"),
    )
}
