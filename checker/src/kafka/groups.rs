//! The committed offsets of groups, as the brokers' own topic has them: every step, in order.
//!
//! Asked once in a while, a coordinator tells too little (a step back that is made good at once) or too much: one that has
//! just begun answers from what its log's high watermark has reached, which for a moment may be older than what its
//! predecessor said, unless the question waits for open transactions (Kafka 4, `GroupCoordinatorService.fetchOffsets`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{ASK, Isolation, Kafka};
use crate::{Error, Result};

/// Where groups keep their offsets.
const OFFSETS: &str = "__consumer_offsets";

/// Group, topic, partition.
type Place = (String, String, i32);

/// Groups whose committed offsets must not go backwards.
pub(crate) struct Groups<'a> {
    kafka: &'a Kafka,
    client: BaseConsumer,
    groups: &'a [String],
    topics: &'a [String],
    partitions: Vec<i32>,
    last: BTreeMap<Place, Option<i64>>,
    heard: u64,
}

impl<'a> Groups<'a> {
    /// Begins with what is committed now; `None` as long as no group of this cluster has ever had an offset.
    pub(crate) fn open(kafka: &'a Kafka, groups: &'a [String], topics: &'a [String]) -> Result<Option<Self>> {
        let client = kafka.client("checker", Isolation::Committed)?;
        let what = || format!("the partitions of {OFFSETS}");
        // Asked for by name, it would be created.
        let metadata = kafka.insist(what, || client.fetch_metadata(None, ASK))?;
        let count = metadata.topics().iter().find(|topic| topic.name() == OFFSETS);
        let count = count.map_or(0, |topic| topic.partitions().len());
        let partitions: BTreeSet<i32> = groups.iter().filter_map(|group| partition(group, count)).collect();
        if partitions.is_empty() {
            return Ok(None);
        }
        let partitions = partitions.into_iter().collect();
        let mut opened = Self { kafka, client, groups, topics, partitions, last: BTreeMap::new(), heard: 0 };
        // First what is committed, then where to read on: the other way round a later offset would pass for an earlier one.
        opened.begin()?;
        let mut list = TopicPartitionList::new();
        for partition in &opened.partitions {
            let (_, end) = kafka.bounds(&opened.client, OFFSETS, *partition)?;
            list.add_partition_offset(OFFSETS, *partition, Offset::Offset(end))
                .map_err(Error::kafka(format!("{OFFSETS}[{partition}]")))?;
        }
        opened.client.assign(&list).map_err(Error::kafka(format!("to be assigned {OFFSETS}")))?;
        Ok(Some(opened))
    }

    fn begin(&mut self) -> Result<()> {
        for group in self.groups {
            // A read_committed client would wait for open transactions that hold offsets.
            let client = self.kafka.client(group, Isolation::Uncommitted)?;
            let mut list = TopicPartitionList::new();
            for topic in self.topics {
                list.add_partition_range(topic, 0, self.kafka.partitions(&client, topic)? - 1);
            }
            let what = || format!("the offsets of group {group}");
            let answer = self.kafka.insist(what, || client.committed_offsets(list.clone(), ASK))?;
            for element in answer.elements() {
                if let Offset::Offset(at) = element.offset() {
                    let place = (group.clone(), element.topic().to_owned(), element.partition());
                    self.last.insert(place, Some(at));
                }
            }
        }
        Ok(())
    }

    /// How many offsets were heard since.
    pub(crate) fn heard(&self) -> u64 {
        self.heard
    }

    /// Hears what comes for so long, and tells what went backwards.
    pub(crate) fn turn(&mut self, lasts: Duration) -> Vec<String> {
        let until = Instant::now() + lasts;
        let mut backwards = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(Ok(message)) = self.client.poll(left) {
                let step = message.key().and_then(|key| Commit::read(key, message.payload()));
                backwards
                    .extend(step.and_then(|commit| note(&mut self.last, commit, self.groups, self.topics)));
                self.heard += 1;
            }
            if left.is_zero() {
                return backwards;
            }
        }
    }

    /// Reads on to the end, and tells what went backwards until then.
    pub(crate) fn rest(&mut self) -> Result<Vec<String>> {
        let ends: Vec<i64> = self
            .partitions
            .iter()
            .map(|partition| Ok(self.kafka.bounds(&self.client, OFFSETS, *partition)?.1))
            .collect::<Result<_>>()?;
        let deadline = Instant::now() + self.kafka.patience;
        let mut backwards = Vec::new();
        loop {
            backwards.extend(self.turn(Duration::from_millis(100)));
            let positions =
                self.client.position().map_err(Error::kafka(format!("the position in {OFFSETS}")))?;
            let is_there = |(partition, end): (&i32, &i64)| {
                let position = positions.find_partition(OFFSETS, *partition);
                // Nothing was read: it began at its end.
                position.is_none_or(|position| match position.offset() {
                    Offset::Offset(at) => at >= *end,
                    _ => true,
                })
            };
            if self.partitions.iter().zip(&ends).all(is_there) || Instant::now() >= deadline {
                return Ok(backwards);
            }
        }
    }

    /// The offsets that were heard last, as texts.
    pub(crate) fn last(&self) -> Vec<String> {
        let known = self.last.iter().filter_map(|((group, topic, partition), last)| {
            Some(format!("{group} {topic}[{partition}] {}", (*last)?))
        });
        known.collect()
    }
}

/// Notes an offset; tells if it is below the last one, or gone.
fn note(
    last: &mut BTreeMap<Place, Option<i64>>,
    commit: Commit,
    groups: &[String],
    topics: &[String],
) -> Option<String> {
    let Commit { place, offset } = commit;
    if !groups.contains(&place.0) || !topics.contains(&place.1) {
        return None;
    }
    let (group, topic, partition) = &place;
    let at = format!("group {group} {topic}[{partition}]");
    match (last.insert(place.clone(), offset)?, offset) {
        (Some(before), Some(now)) if now < before => Some(format!("{at} went from {before} to {now}")),
        (Some(before), None) => Some(format!("{at} went from {before} to none")),
        _ => None,
    }
}

/// A record of the topic: an offset of a group, or its end. Kafka's `OffsetCommitKey` and `OffsetCommitValue`.
#[derive(Debug, PartialEq, Eq)]
struct Commit {
    place: Place,
    offset: Option<i64>,
}

impl Commit {
    /// None for what is not about offsets.
    fn read(key: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let (version, rest) = key.split_first_chunk::<2>()?;
        if i16::from_be_bytes(*version) > 1 {
            return None;
        }
        let (group, rest) = text(rest)?;
        let (topic, rest) = text(rest)?;
        let (partition, _) = rest.split_first_chunk::<4>()?;
        let offset = match value {
            None => None,
            // Every version begins with its number and the offset.
            Some(value) => Some(i64::from_be_bytes(value.get(2..10)?.try_into().ok()?)),
        };
        Some(Self { place: (group, topic, i32::from_be_bytes(*partition)), offset })
    }
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

/// Which partition keeps a group's offsets: Java's hash of its name, without the sign, modulo.
fn partition(group: &str, count: usize) -> Option<i32> {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    let hash = hash.checked_abs().unwrap_or(0);
    hash.checked_rem(i32::try_from(count).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(group: &str, offset: Option<i64>) -> Commit {
        Commit { place: (group.into(), "in".into(), 3), offset }
    }

    #[test]
    fn an_offset_that_goes_backwards_is_told_once() {
        let (mut last, groups, topics) = (BTreeMap::new(), ["g".to_owned()], ["in".to_owned()]);
        let turns = [None, Some(5), Some(5), Some(9), Some(7), Some(8), None, Some(8)];
        let mut told = Vec::new();
        for offset in turns {
            told.extend(note(&mut last, commit("g", offset), &groups, &topics));
            told.extend(note(&mut last, commit("another", offset), &groups, &topics));
        }
        assert_eq!(told, ["group g in[3] went from 9 to 7", "group g in[3] went from 8 to none"]);
    }

    #[test]
    fn records_are_read_as_kafka_writes_them() {
        let key = [&[0, 1, 0, 1][..], b"g", &[0, 2], b"in", &[0, 0, 0, 3]].concat();
        let value = [&[0, 3][..], &258_i64.to_be_bytes(), &[0; 20]].concat();
        assert_eq!(Commit::read(&key, Some(&value)), Some(commit("g", Some(258))));
        assert_eq!(Commit::read(&key, None), Some(commit("g", None)));
        assert_eq!(
            Commit::read(&[&[0, 2][..], &key[2..]].concat(), Some(&value)),
            None,
            "a group's metadata"
        );
        assert_eq!(Commit::read(&key[..5], Some(&value)), None);
    }

    #[test]
    fn groups_are_spread_as_kafka_does() {
        // "polygenelubricants".hashCode() is i32::MIN, "relay".hashCode() is 108397201.
        assert_eq!(partition("polygenelubricants", 50), Some(0));
        assert_eq!(partition("relay", 50), Some(1));
        assert_eq!(partition("relay", 0), None);
    }
}
