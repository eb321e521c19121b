//! The order per key: of every key the last number, and where it was.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hasher as _},
};

/// Gaps that are remembered; beyond this they are only counted.
const GAPS: usize = 10_000;

#[derive(Debug)]
struct Last {
    key_seq: u64,
    copy: u32,
    partition: i32,
}

/// Where a message stands among those of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// After all before it.
    Right,
    /// After this one, which is later.
    Behind { key_seq: u64, copy: u32 },
    /// In another partition than this, where its key was seen first.
    Elsewhere { partition: i32 },
}

/// All keys of all topics.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    last: HashMap<u64, Last>,
    /// Numbers of a key that were passed over and have not come since, and the offset before which they are missing.
    gaps: BTreeMap<(u64, u64), (usize, i32, i64)>,
    pub(crate) more_gaps: u64,
}

/// Where a message of a key was read, and its numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) topic: usize,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key_seq: u64,
    pub(crate) copy: u32,
}

impl Keys {
    /// The next message of a key; with `gaps`, numbers that are passed over are noted.
    pub(crate) fn follow(&mut self, key: Option<&[u8]>, step: Step, gaps: bool) -> Order {
        let name = name(step.topic, key);
        let Step { partition, key_seq, copy, .. } = step;
        let last = match self.last.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(Last { key_seq, copy, partition });
                if gaps {
                    self.pass_over(name, 0, step);
                }
                return Order::Right;
            }
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if last.partition != partition {
            return Order::Elsewhere { partition: last.partition };
        }
        if (key_seq, copy) < (last.key_seq, last.copy) {
            let behind = Order::Behind { key_seq: last.key_seq, copy: last.copy };
            self.gaps.remove(&(name, key_seq));
            return behind;
        }
        let before = last.key_seq;
        (last.key_seq, last.copy) = (key_seq, copy);
        if gaps {
            self.pass_over(name, before, step);
        }
        Order::Right
    }

    fn pass_over(&mut self, name: u64, before: u64, step: Step) {
        for missing in before + 1..step.key_seq {
            if self.gaps.len() < GAPS {
                self.gaps.insert((name, missing), (step.topic, step.partition, step.offset));
            } else {
                self.more_gaps += step.key_seq - missing;
                break;
            }
        }
    }

    /// The numbers that are missing, each with topic, partition and the offset before which it should be.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (u64, usize, i32, i64)> {
        self.gaps
            .iter()
            .map(|((_, key_seq), (topic, partition, offset))| (*key_seq, *topic, *partition, *offset))
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.last.capacity() * (size_of::<(u64, Last)>() + 1) + self.gaps.len() * 48
    }
}

/// 64 bits for a key of a topic: of a million keys, two share them with a chance of 1 in 37 million.
fn name(topic: usize, key: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(topic);
    hasher.write_u8(u8::from(key.is_some()));
    hasher.write(key.unwrap_or_default());
    hasher.finish()
}
