//! What one reader saw of one partition, short enough to be compared with what another one saw.

use serde::{Deserialize, Serialize};

use crate::judge::blend;

/// How many offsets a stretch covers.
const STRETCH: i64 = 4096;

/// 4096 offsets of a partition: how many records, and a digest of their offsets and contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The first offset it covers, divided by 4096.
    pub number: i64,
    /// How many records were seen in it.
    pub count: u64,
    /// Sum over them of a blend of offset and checksum.
    pub digest: u64,
}

/// One partition as one reader saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset there was.
    pub low: i64,
    /// The offset after the last that was read.
    pub position: i64,
    /// How many records were seen.
    pub count: u64,
    /// The records, 4096 offsets each.
    pub stretches: Vec<Stretch>,
}

impl Trace {
    /// Nothing seen yet.
    pub fn new(topic: &str, partition: i32, low: i64) -> Self {
        Self { topic: topic.into(), partition, low, position: low, count: 0, stretches: Vec::new() }
    }

    /// Notes a record; `Err` with the offset that was expected at least, if it went backwards.
    ///
    /// # Errors
    ///
    /// The offset is below the one after the last.
    pub fn step(&mut self, offset: i64, content: u32) -> Result<(), i64> {
        let expected = self.position;
        self.count += 1;
        self.add(offset, content);
        if offset < expected {
            return Err(expected);
        }
        self.position = offset + 1;
        Ok(())
    }

    fn add(&mut self, offset: i64, content: u32) {
        let number = offset.div_euclid(STRETCH);
        let found = match self.stretches.last() {
            Some(last) if last.number == number => Ok(self.stretches.len() - 1),
            _ => self.stretches.binary_search_by_key(&number, |stretch| stretch.number),
        };
        let index = found.unwrap_or_else(|index| {
            self.stretches.insert(index, Stretch { number, count: 0, digest: 0 });
            index
        });
        let stretch = &mut self.stretches[index];
        stretch.count += 1;
        stretch.digest = stretch.digest.wrapping_add(blend(&[offset as u64, u64::from(content)]));
    }

    /// Where another reader saw something else, as texts that say who saw how much.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = String> + 'a {
        let numbers = self.stretches.iter().chain(&other.stretches).map(|stretch| stretch.number);
        let mut numbers: Vec<_> = numbers.collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(move |number| {
            let of = |trace: &Self| {
                let at = trace.stretches.binary_search_by_key(&number, |stretch| stretch.number);
                at.map_or((0, 0), |at| (trace.stretches[at].count, trace.stretches[at].digest))
            };
            let (mine, others) = (of(self), of(other));
            let (topic, partition) = (&self.topic, self.partition);
            let (from, to) = (number * STRETCH, (number + 1) * STRETCH - 1);
            let said = match (mine.0 == others.0, mine == others) {
                (_, true) => return None,
                (true, _) => format!("both saw {} records, but not the same", mine.0),
                _ => format!("during the run {} records, afterwards {}", mine.0, others.0),
            };
            Some(format!("{topic}[{partition}] offsets {from} to {to}: {said}"))
        })
    }
}
