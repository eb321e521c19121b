//! One partition: committed records by offset, what open transactions hold back, and what is thrown away.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::log::Received;

/// From how many new records on a compacted partition is worth cleaning.
const DIRTY: usize = 1_000;

/// A record and when it was appended; ages are counted from then, not from its time stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) record: Received,
    pub(super) appended_ms: i64,
}

/// What is at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Committed records, and the next offset to read from.
    Records(Vec<Received>, i64),
    /// Records below `until` are only in the file.
    Stored {
        /// The first offset that is in memory, or may not be read yet.
        until: i64,
    },
    /// There is no such offset.
    OutOfRange,
}

/// One partition of a topic.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) start: i64,
    pub(super) end: i64,
    /// Records below are not in memory.
    window: i64,
    committed: BTreeMap<i64, Entry>,
    bytes: usize,
    /// The first offset of each open transaction, by transactional id.
    open: BTreeMap<String, i64>,
    dirty: usize,
    /// When the oldest record was appended, also if it is only in the file.
    oldest_ms: Option<i64>,
}

impl Partition {
    /// A partition as found in the file; `recent` are its latest records.
    pub(super) fn restored(start: i64, end: i64, oldest_ms: Option<i64>, recent: Vec<Entry>) -> Self {
        let window = recent.first().map_or(start, |entry| entry.record.offset);
        let mut partition = Self { start, end, window, oldest_ms, ..Self::default() };
        for entry in recent {
            partition.insert(entry);
        }
        partition
    }

    /// The next offset for a record of that transaction.
    pub(super) fn append(&mut self, transaction: &str) -> i64 {
        let offset = self.end;
        self.end += 1;
        if !self.open.contains_key(transaction) {
            self.open.insert(transaction.to_owned(), offset);
        }
        offset
    }

    /// The marker of a commit or an abort takes an offset.
    pub(super) fn mark(&mut self) {
        self.end += 1;
    }

    /// A transaction is decided; what it committed becomes readable.
    pub(super) fn close(&mut self, transaction: &str, committed: Vec<Entry>) {
        self.open.remove(transaction);
        self.dirty += committed.len();
        for entry in committed {
            self.insert(entry);
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.bytes += weight(&entry);
        self.oldest_ms.get_or_insert(entry.appended_ms);
        self.committed.insert(entry.record.offset, entry);
    }

    /// The last stable offset: nothing from there on may be read.
    pub(super) fn stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    /// The last committed record below the last stable offset.
    pub(super) fn last(&self) -> Option<&Received> {
        self.committed.range(..self.stable()).next_back().map(|(_, entry)| &entry.record)
    }

    /// At most so many records and, but for the first, bytes.
    pub(super) fn read(&self, from: i64, most: usize, most_bytes: usize) -> Read {
        if from < self.start || from > self.end {
            return Read::OutOfRange;
        }
        let stable = self.stable();
        if from < self.window.min(stable) {
            return Read::Stored { until: self.window.min(stable) };
        }
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, from);
        for (offset, entry) in self.committed.range(from..stable.max(from)) {
            if records.len() >= most || (bytes > 0 && bytes + weight(entry) > most_bytes) {
                return Read::Records(records, next);
            }
            bytes += weight(entry);
            next = offset + 1;
            records.push(entry.record.clone());
        }
        Read::Records(records, next)
    }

    /// Whether enough is new since the last cleaning.
    pub(super) fn wants_cleaning(&self) -> bool {
        self.dirty >= DIRTY.max(self.committed.len() / 2)
    }

    /// Keeps the last record of each key, below the last stable offset, which it answers. Tombstones older than
    /// `cutoff_ms` go, too; the last record of the partition never does.
    pub(super) fn clean(&mut self, cutoff_ms: i64) -> i64 {
        self.dirty = 0;
        let stable = self.stable();
        let Some(last) = self.last().map(|record| record.offset) else { return stable };
        let mut seen: BTreeSet<Bytes> = BTreeSet::new();
        let mut gone = Vec::new();
        for (offset, entry) in self.committed.range(..stable).rev() {
            let Some(key) = &entry.record.key else { continue };
            let later = !seen.insert(key.clone());
            let buried = entry.record.payload.is_none() && entry.appended_ms < cutoff_ms;
            if *offset != last && (later || buried) {
                gone.push(*offset);
            }
        }
        for offset in gone {
            self.remove(offset);
        }
        stable
    }

    fn remove(&mut self, offset: i64) {
        if let Some(entry) = self.committed.remove(&offset) {
            self.bytes -= weight(&entry);
        }
    }

    /// Drops records appended before `cutoff_ms`; true when there were any. What is only in the file is dropped there,
    /// and [`restart`](Self::restart) tells what is left.
    pub(super) fn expire(&mut self, cutoff_ms: i64) -> bool {
        if self.oldest_ms.is_none_or(|oldest_ms| oldest_ms >= cutoff_ms) {
            return false;
        }
        let stable = self.stable();
        while let Some((offset, entry)) = self.committed.first_key_value()
            && entry.appended_ms < cutoff_ms
            && *offset < stable
        {
            let offset = *offset;
            self.remove(offset);
            self.start = offset + 1;
        }
        self.window = self.window.max(self.start);
        if self.start >= self.window {
            self.oldest_ms = self.committed.values().next().map(|entry| entry.appended_ms);
        }
        true
    }

    /// The first offset that is still in the file.
    pub(super) fn restart(&mut self, start: i64, oldest_ms: Option<i64>) {
        self.start = self.start.max(start);
        self.window = self.window.max(self.start);
        self.oldest_ms = oldest_ms.or_else(|| self.committed.values().next().map(|entry| entry.appended_ms));
    }

    /// Keeps the latest records in memory, as many as fit into `most_bytes`, and always the last.
    pub(super) fn shrink(&mut self, most_bytes: usize) {
        while self.bytes > most_bytes && self.committed.len() > 1 {
            let Some((offset, _)) = self.committed.first_key_value() else { return };
            if *offset >= self.stable() {
                return;
            }
            let offset = *offset;
            self.remove(offset);
            self.window = offset + 1;
        }
    }
}

/// What an entry takes in memory.
pub(super) fn weight(entry: &Entry) -> usize {
    entry.record.size() + 128
}
