//! What must be stored, in order.

use std::collections::BTreeSet;

use super::{partition::Entry, state::Place};
use crate::error::{Error, Kind};

/// Why something is not on disk, or cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// `Unavailable`: it will be tried again, or the log is closed. `Storage`: the file must be opened again.
    pub(super) kind: Kind,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        Self { kind: error.kind(), text: error.to_string() }
    }

    pub(super) fn error(&self) -> Error {
        Error::new(self.kind, self.text.clone())
    }
}

/// One thing to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Topic {
        name: String,
        partitions: i32,
        compacted: bool,
    },
    Epoch {
        id: String,
        epoch: u64,
    },
    /// A transaction that is to be completed once it is stored.
    Commit {
        id: String,
        records: Vec<Entry>,
        offsets: Vec<(String, Place, i64)>,
    },
    /// The end of a partition has moved.
    End {
        place: Place,
        end: i64,
    },
    /// Records appended before that time are thrown away.
    Expired {
        place: Place,
        cutoff_ms: i64,
    },
    /// Below that offset only the last record of each key is kept.
    Cleaned {
        place: Place,
        below: i64,
        /// Tombstones appended before that time are thrown away, too.
        cutoff_ms: i64,
    },
}

/// Changes on their way to the file; without a file nothing is kept.
#[derive(Debug)]
pub(super) struct Journal {
    durable: bool,
    changes: Vec<Change>,
    moved: BTreeSet<Place>,
    flush: bool,
}

impl Journal {
    pub(super) fn new(durable: bool) -> Self {
        Self { durable, changes: Vec::new(), moved: BTreeSet::new(), flush: false }
    }

    pub(super) fn durable(&self) -> bool {
        self.durable
    }

    pub(super) fn add(&mut self, change: Change) {
        if self.durable {
            self.changes.push(change);
        }
    }

    /// The end of a partition has moved; it is stored with the next change.
    pub(super) fn moved(&mut self, place: &Place) {
        if self.durable && !self.moved.contains(place) {
            self.moved.insert(place.clone());
        }
    }

    /// Stores the ends of partitions now: somebody relies on them. Where nothing is left to store, what was taken before
    /// may still be on its way to the file: whoever waits for this waits for that, too.
    pub(super) fn flush(&mut self) {
        self.flush = self.durable;
    }

    pub(super) fn has_changes(&self) -> bool {
        self.flush || !self.changes.is_empty()
    }

    /// What is to be stored now; `end` tells the ends of partitions.
    pub(super) fn take(&mut self, end: impl Fn(&Place) -> Option<i64>) -> Vec<Change> {
        self.flush = false;
        let moved = std::mem::take(&mut self.moved);
        let ends = moved.into_iter().filter_map(|place| end(&place).map(|end| Change::End { place, end }));
        let mut changes: Vec<Change> = ends.collect();
        changes.append(&mut self.changes);
        changes
    }
}
