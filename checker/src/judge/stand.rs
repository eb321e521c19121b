//! What is kept of one partition.

use super::evidence::Case;
use crate::trace::Trace;

/// One partition, as the reader after the run sees it.
#[derive(Debug)]
pub(crate) struct Stand {
    /// The records that the watch may have seen too.
    pub(crate) trace: Trace,
    /// Where the watch had come to.
    until: i64,
    next: i64,
    /// Records beyond that.
    pub(crate) beyond: u64,
}

impl Stand {
    pub(crate) fn new(case: &Case, topic: usize, partition: i32) -> Self {
        let name = &case.topics[topic].name;
        let watched = case.watched.as_ref().and_then(|watched| watched.trace(name, partition));
        let until = watched.map_or(i64::MAX, |trace| trace.position);
        Self { trace: Trace::new(name, partition, 0), until, next: 0, beyond: 0 }
    }

    /// The next record; `Err` with the offset that was to come at least.
    pub(crate) fn step(&mut self, offset: i64, content: u32) -> Result<(), i64> {
        if offset < self.until {
            self.trace.step(offset, content).ok();
        } else {
            self.beyond += 1;
        }
        if offset < self.next {
            return Err(self.next);
        }
        self.next = offset + 1;
        Ok(())
    }

    pub(crate) fn count(&self) -> u64 {
        self.trace.count + self.beyond
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.trace.stretches.capacity() * 24
    }
}
