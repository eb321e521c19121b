//! The group coordinator: who owns which partition, and the committed offsets with those of open transactions.

use super::state::NONE;
use crate::model::kafka::Answer;

/// The consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) generation: u8,
    /// The instance that owns each partition, and since which generation.
    pub(super) owners: [u8; 2],
    pub(super) since: [u8; 2],
}

impl Group {
    pub(super) const fn new() -> Self {
        Self { generation: 1, owners: [0; 2], since: [1; 2] }
    }

    pub(super) fn give(&mut self, partition: u8, to: u8) {
        self.generation += 1;
        self.owners[partition as usize] = to;
        self.since[partition as usize] = self.generation;
    }
}

/// An offset of a transaction that is not decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pending {
    by: u8,
    partition: u8,
    offset: u8,
    /// One that was written later is committed already.
    stale: bool,
}

/// The group's committed offsets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Offsets {
    pub(super) committed: [u8; 2],
    /// In the order in which they were written.
    pending: Vec<Pending>,
    epochs: [u8; 2],
}

impl Offsets {
    pub(super) const fn new() -> Self {
        Self { committed: [0; 2], pending: Vec::new(), epochs: [0; 2] }
    }

    pub(super) fn write(&mut self, by: u8, epoch: u8, offsets: [u8; 2], verified: bool) -> Answer {
        if !self.takes(by, epoch) {
            return Answer::Fenced;
        }
        if !verified && !self.open(by) {
            return Answer::Refused;
        }
        self.epochs[by as usize] = epoch;
        for (partition, offset) in (0..).zip(offsets).filter(|(_, offset)| *offset != NONE) {
            self.pending.retain(|each| (each.by, each.partition) != (by, partition));
            self.pending.push(Pending { by, partition, offset, stale: false });
        }
        Answer::Done
    }

    pub(super) fn mark(&mut self, by: u8, epoch: u8, commit: bool) {
        if !self.takes(by, epoch) {
            return;
        }
        self.epochs[by as usize] = epoch;
        for index in 0..self.pending.len() {
            let Pending { partition, offset, stale, .. } = self.pending[index];
            if commit && self.pending[index].by == by && !stale {
                self.committed[partition as usize] = offset;
                self.pending[..index]
                    .iter_mut()
                    .filter(|each| each.partition == partition)
                    .for_each(|each| each.stale = true);
            }
        }
        self.pending.retain(|each| each.by != by);
    }

    pub(super) const fn takes(&self, by: u8, epoch: u8) -> bool {
        epoch >= self.epochs[by as usize]
    }

    /// Whether a transaction of that producer is open here.
    pub(super) fn open(&self, by: u8) -> bool {
        self.pending.iter().any(|each| each.by == by)
    }

    /// No open transaction can change the offset any more.
    pub(super) fn stable(&self, partition: u8) -> bool {
        !self.pending.iter().any(|each| each.partition == partition)
    }

    /// Nothing is undecided.
    pub(super) fn settled(&self) -> bool {
        self.pending.is_empty()
    }
}
