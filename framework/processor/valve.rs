//! Back-pressure: a partition is paused while too much of it waits in memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::log::{Assignment, Consumer, Received};

/// Counts what waits between the consumer and the handlers of one partition.
pub(crate) struct Valve {
    consumer: Arc<dyn Consumer>,
    at: Assignment,
    max_records: usize,
    max_bytes: usize,
    level: Mutex<Level>,
}

#[derive(Default)]
struct Level {
    records: usize,
    bytes: usize,
    paused: bool,
}

impl Valve {
    pub(crate) fn new(
        consumer: Arc<dyn Consumer>,
        at: Assignment,
        max_records: usize,
        max_bytes: usize,
    ) -> Self {
        Self {
            consumer,
            at,
            max_records,
            max_bytes,
            level: Mutex::default(),
        }
    }

    /// Records arrived: pauses above the limits.
    pub(crate) fn arrived(&self, records: &[Received]) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.records += records.len();
        level.bytes += records.iter().map(Received::size).sum::<usize>();
        if !level.paused && (level.records > self.max_records || level.bytes > self.max_bytes) {
            level.paused = self.consumer.pause(&self.at).is_ok();
        }
    }

    /// Records were handled or dropped: resumes below half of the limits.
    pub(crate) fn taken<'a>(&self, records: impl IntoIterator<Item = &'a Received>) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            level.records -= 1;
            level.bytes -= record.size();
        }
        if level.paused && level.records <= self.max_records / 2 && level.bytes <= self.max_bytes / 2 {
            level.paused = self.consumer.resume(&self.at).is_err();
        }
    }

    /// A new flow began; it is not paused.
    pub(crate) fn opened(&self) {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).paused = false;
    }
}
