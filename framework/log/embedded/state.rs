//! The log itself: pure, told the time, and deterministic: the same calls give the same answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    config::EmbeddedConfig,
    groups::Groups,
    journal::{Change, Failure, Journal},
    murmur,
    partition::{Entry, Partition, Read},
    store::Stored,
    transactions::Transactional,
};
use crate::{
    error::{Error, Kind, Result},
    log::{Bounds, Cleanup, Received, Record, TopicSpec},
};

/// How often old records are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// The longest name of a topic, as Kafka has it.
const LONGEST_NAME: usize = 249;

/// The time: since the log was made, and of the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) at: Duration,
    pub(super) ms: i64,
}

/// A topic and a partition.
pub(super) type Place = (Arc<str>, i32);

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) compacted: bool,
    pub(super) partitions: Vec<Partition>,
    /// Where the next record without a key goes.
    turn: usize,
}

impl Topic {
    pub(super) fn new(name: &str, compacted: bool, partitions: Vec<Partition>) -> Self {
        Self { name: name.into(), compacted, partitions, turn: 0 }
    }
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) config: EmbeddedConfig,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) producers: BTreeMap<String, Transactional>,
    pub(super) groups: Groups,
    pub(super) journal: Journal,
    /// Something that others wait for has happened.
    pub(super) changed: bool,
    /// Why nothing can be written any more.
    pub(super) broken: Option<Failure>,
    /// Why nothing can be written now; it is tried again.
    pub(super) stalled: Option<Failure>,
    swept: Option<Duration>,
    epoch: u64,
}

impl State {
    /// `durable`: changes are written to the journal, and commits wait until they are stored.
    pub(super) fn new(config: EmbeddedConfig, durable: bool) -> Self {
        Self {
            groups: Groups::new(&config),
            config,
            topics: BTreeMap::new(),
            producers: BTreeMap::new(),
            journal: Journal::new(durable),
            changed: false,
            broken: None,
            stalled: None,
            swept: None,
            epoch: 0,
        }
    }

    /// A log as found in its file.
    pub(super) fn restored(config: EmbeddedConfig, stored: Stored) -> Self {
        let mut state = Self::new(config, true);
        for topic in stored.topics {
            state.topics.insert(topic.name.to_string(), topic);
        }
        for (id, epoch) in stored.epochs {
            state.producers.insert(id, Transactional::restored(epoch));
        }
        for (group, place, offset) in stored.offsets {
            state.groups.set_offset(&group, place, offset);
        }
        state
    }

    /// The file has thrown old records away.
    pub(super) fn restart(&mut self, place: &Place, start: i64, oldest_ms: Option<i64>) {
        if let Some(topic) = self.topics.get_mut(&*place.0) {
            topic.partitions[place.1 as usize].restart(start, oldest_ms);
        }
    }

    /// Does what was due at that time.
    pub(super) fn tick(&mut self, now: Now) {
        self.expire_transactions(now);
        if self.groups.expire(&self.topics, now) {
            self.changed = true;
        }
        if self.swept.is_none_or(|swept| now.at.saturating_sub(swept) >= SWEEP) {
            self.swept = Some(now.at);
            self.sweep(now);
        }
    }

    /// When something is due next that others may wait for.
    pub(super) fn due(&self) -> Option<Duration> {
        let transactions = self.producers.values().filter_map(Transactional::deadline).min();
        [transactions, self.groups.due()].into_iter().flatten().min()
    }

    /// What is to be stored now.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let topics = &self.topics;
        self.journal.take(|(topic, partition)| {
            Some(topics.get(&**topic)?.partitions.get(usize::try_from(*partition).ok()?)?.end)
        })
    }

    fn cutoff(&self, now: Now) -> i64 {
        let retention = i64::try_from(self.config.retention.as_millis()).unwrap_or(i64::MAX);
        now.ms.saturating_sub(retention)
    }

    fn sweep(&mut self, now: Now) {
        let cutoff_ms = self.cutoff(now);
        for topic in self.topics.values_mut().filter(|topic| !topic.compacted) {
            for (number, partition) in topic.partitions.iter_mut().enumerate() {
                if partition.expire(cutoff_ms) {
                    let place = (Arc::clone(&topic.name), number as i32);
                    self.journal.add(Change::Expired { place, cutoff_ms });
                }
            }
        }
    }

    /// Cleans a compacted partition once that is worthwhile, and lets go of what is only needed in the file.
    pub(super) fn tidy(&mut self, place: &Place, now: Now) {
        let cutoff_ms = self.cutoff(now);
        let (durable, window) = (self.journal.durable(), self.config.window_bytes);
        let Some(topic) = self.topics.get_mut(&*place.0) else { return };
        let compacted = topic.compacted;
        let Some(partition) = topic.partitions.get_mut(place.1 as usize) else { return };
        if compacted && partition.wants_cleaning() {
            let below = partition.clean(cutoff_ms);
            self.journal.add(Change::Cleaned { place: place.clone(), below, cutoff_ms });
        }
        if durable {
            partition.shrink(window);
        }
    }

    /// A number that no assignment has had.
    pub(super) fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// # Errors
    /// Kind `Unavailable` once the log is closed, or while its file cannot be written; `Storage` when the file must be
    /// opened again.
    pub(super) fn usable(&self) -> Result<()> {
        match self.broken.as_ref().or(self.stalled.as_ref()) {
            None => Ok(()),
            Some(why) => Err(why.error()),
        }
    }

    pub(super) fn topic(&mut self, spec: &TopicSpec, now: Now) -> Result<i32> {
        let what = format!("topic {:?}", spec.name);
        if let Some(topic) = self.topics.get(&spec.name) {
            let count = topic.partitions.len() as i32;
            if let Some(expected) = spec.partitions.filter(|expected| *expected != count) {
                let text = format!("{what} has {count} partitions, config expects {expected}");
                return Err(Error::new(Kind::Config, text));
            }
            if spec.cleanup == Cleanup::Compact && !topic.compacted {
                let text = format!("{what} has cleanup.policy=delete, expected compact alone");
                return Err(Error::new(Kind::Config, text));
            }
            return Ok(count);
        }
        if !self.config.create_topics {
            return Err(Error::new(Kind::Config, format!("{what} does not exist")));
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let reserved = matches!(&*spec.name, "" | "." | "..");
        if reserved || spec.name.len() > LONGEST_NAME || !spec.name.chars().all(legal) {
            return Err(Error::new(Kind::Config, format!("{what} cannot be created: no legal name")));
        }
        let count = spec.partitions.unwrap_or(self.config.topic_partitions);
        if count < 1 {
            let text = format!("{what} cannot be created with {count} partitions");
            return Err(Error::new(Kind::Config, text));
        }
        let compacted = spec.cleanup == Cleanup::Compact;
        let partitions = (0..count).map(|_| Partition::default()).collect();
        self.topics.insert(spec.name.clone(), Topic::new(&spec.name, compacted, partitions));
        self.journal.add(Change::Topic { name: spec.name.clone(), partitions: count, compacted });
        self.groups.topic_created(&self.topics, &spec.name, now);
        self.changed = true;
        Ok(count)
    }

    pub(super) fn partition(&self, topic: &str, partition: i32) -> Result<&Partition> {
        self.topics
            .get(topic)
            .and_then(|topic| topic.partitions.get(usize::try_from(partition).ok()?))
            .ok_or_else(|| Error::new(Kind::Unavailable, format!("{topic}[{partition}] does not exist")))
    }

    pub(super) fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        let found = self.partition(topic, partition)?;
        Ok(Bounds { start: found.start, end: found.end })
    }

    pub(super) fn read(&self, place: &Place, from: i64, most: usize, bytes: usize) -> Read {
        match self.partition(&place.0, place.1) {
            Ok(partition) => partition.read(from, most, bytes),
            Err(_) => Read::OutOfRange,
        }
    }

    /// Where a record goes, or why it is refused for good.
    fn route(&mut self, record: &Record) -> Result<Place, String> {
        let (size, most) = (record.size(), self.config.max_message_bytes);
        if size > most {
            return Err(format!("message size too large: {size} bytes, at most {most}"));
        }
        if record.headers.iter().any(|(name, _)| name.contains('\0')) {
            return Err("invalid record: the name of a header holds a NUL".to_owned());
        }
        let Some(topic) = self.topics.get_mut(&*record.topic) else {
            return Err(format!("unknown topic {:?}", record.topic));
        };
        if topic.compacted && record.key.is_none() {
            return Err(format!("invalid record: topic {:?} is compacted, it needs a key", record.topic));
        }
        let count = topic.partitions.len();
        let partition = match (record.partition, record.key.as_deref()) {
            (Some(partition), _) if usize::try_from(partition).is_ok_and(|number| number < count) => {
                partition
            }
            (Some(partition), _) => {
                return Err(format!("unknown partition {partition} of topic {:?}", record.topic));
            }
            (None, Some(key)) => murmur::partition(key, count) as i32,
            (None, None) => {
                topic.turn += 1;
                (topic.turn % count) as i32
            }
        };
        Ok((Arc::clone(&topic.name), partition))
    }

    /// Gives a record its offset within a transaction.
    pub(super) fn place(&mut self, id: &str, record: Record, now: Now) -> Result<(Place, Entry), String> {
        let place = self.route(&record)?;
        let Some(partition) =
            self.topics.get_mut(&*place.0).and_then(|topic| topic.partitions.get_mut(place.1 as usize))
        else {
            return Err(format!("unknown partition {} of topic {:?}", place.1, place.0));
        };
        let received = Received {
            topic: Arc::clone(&place.0),
            partition: place.1,
            offset: partition.append(id),
            key: record.key,
            payload: record.payload,
            headers: record.headers,
            time_ms: record.time_ms.filter(|ms| *ms != 0).unwrap_or(now.ms).max(0),
        };
        self.journal.moved(&place);
        Ok((place, Entry { record: received, appended_ms: now.ms }))
    }
}
