//! The committed offsets of groups, as an outsider asks for them: no member, no commit.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{ASK, Isolation, Kafka, PAUSE};
use crate::Result;

/// Where groups keep their offsets. Its leaders are the groups' coordinators.
const OFFSETS: &str = "__consumer_offsets";
/// How long the news of a new leader may take.
const NEWS: Duration = Duration::from_secs(2);

/// A group's clients, and what it was told last.
struct Group {
    name: String,
    client: BaseConsumer,
    /// Waits for open transactions that hold offsets, and for a new coordinator to know where it stands.
    stable: BaseConsumer,
    list: TopicPartitionList,
    last: Vec<Option<i64>>,
    coordinators: Option<Vec<i32>>,
}

/// Groups whose committed offsets must not go backwards.
///
/// They are asked without waiting for open transactions, which would seldom be answered under load. A coordinator that has
/// just begun answers such a question from what its log's high watermark has reached, which for a moment may be older than
/// what its predecessor said (Kafka 4, `GroupCoordinatorService.fetchOffsets`). So where the coordinator changed, what a
/// consumer would be told decides: the answer that waits.
pub(crate) struct Groups {
    groups: Vec<Group>,
    patience: Duration,
}

impl Groups {
    /// Asks which partitions the topics have; a topic must exist.
    pub(crate) fn open(kafka: &Kafka, groups: &[String], topics: &[String]) -> Result<Self> {
        let open = |name: &String| {
            let client = kafka.client(name, Isolation::Uncommitted)?;
            let stable = kafka.client(name, Isolation::Committed)?;
            let mut list = TopicPartitionList::new();
            for topic in topics {
                list.add_partition_range(topic, 0, kafka.partitions(&client, topic)? - 1);
            }
            let last = vec![None; list.count()];
            Ok(Group { name: name.clone(), client, stable, list, last, coordinators: None })
        };
        let groups = groups.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { groups, patience: kafka.patience })
    }

    /// Asks every group, and tells what went backwards. A group whose coordinator is away is asked next time.
    pub(crate) fn turn(&mut self) -> Vec<String> {
        self.groups.iter_mut().flat_map(|group| group.turn(self.patience)).collect()
    }

    /// The offsets that were heard last, as texts.
    pub(crate) fn last(&self) -> Vec<String> {
        let of = |group: &Group| -> Vec<String> {
            let elements = group.list.elements();
            let known = elements.iter().zip(&group.last).filter_map(|(element, last)| {
                Some(format!("{} {}[{}] {}", group.name, element.topic(), element.partition(), (*last)?))
            });
            known.collect()
        };
        self.groups.iter().flat_map(of).collect()
    }
}

impl Group {
    fn turn(&mut self, patience: Duration) -> Vec<String> {
        let answer = self.client.committed_offsets(self.list.clone(), ASK);
        let before = self.coordinators.take();
        let Ok(answer) = answer else { return Vec::new() };
        let mut steps = Vec::new();
        for (element, last) in self.list.elements().iter().zip(&mut self.last) {
            let (topic, partition) = (element.topic().to_owned(), element.partition());
            let Some(found) = answer.find_partition(&topic, partition).filter(|found| found.error().is_ok())
            else {
                continue;
            };
            steps.extend(step(last, at(found.offset())).map(|step| (topic, partition, step)));
        }
        if !steps.is_empty() {
            thread::sleep(NEWS);
        }
        self.coordinators = self.leaders();
        let changed = before.is_none() || self.coordinators != before;
        steps.retain(|(topic, partition, step)| !changed || self.is_below(topic, *partition, step, patience));
        steps
            .into_iter()
            .map(|(topic, partition, step)| format!("group {} {topic}[{partition}] {step}", self.name))
            .collect()
    }

    /// The leaders of the partitions that keep offsets; none when that cannot be told.
    fn leaders(&self) -> Option<Vec<i32>> {
        let metadata = self.client.fetch_metadata(Some(OFFSETS), ASK).ok()?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == OFFSETS)?;
        Some(topic.partitions().iter().map(|partition| partition.leader()).collect())
    }

    /// Whether the answer that waits is below the step, too. Without one it counts as such.
    fn is_below(&self, topic: &str, partition: i32, step: &Step, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        loop {
            let answer = self.stable.committed_offsets(list.clone(), ASK);
            let found = answer.ok().and_then(|answer| {
                answer.elements().first().filter(|found| found.error().is_ok()).map(|found| found.offset())
            });
            match found {
                Some(offset) => return at(offset) < Some(step.before),
                None if Instant::now() >= deadline => return true,
                None => thread::sleep(PAUSE),
            }
        }
    }
}

fn at(offset: Offset) -> Option<i64> {
    if let Offset::Offset(at) = offset { Some(at) } else { None }
}

/// An offset that is below the one before, or gone.
struct Step {
    before: i64,
    now: Option<i64>,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, now } = self;
        match now {
            Some(now) => write!(out, "went from {before} to {now}"),
            None => write!(out, "went from {before} to none"),
        }
    }
}

/// Notes an offset; tells if it is below the last one, or gone.
fn step(last: &mut Option<i64>, now: Option<i64>) -> Option<Step> {
    let before = std::mem::replace(last, now)?;
    now.is_none_or(|now| now < before).then_some(Step { before, now })
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn an_offset_that_goes_backwards_is_told_once() {
        let mut last = None;
        let turns = [None, Some(5), Some(5), Some(9), Some(7), Some(8), None, Some(8)];
        let told: Vec<_> =
            turns.into_iter().filter_map(|now| Some(step(&mut last, now)?.to_string())).collect();
        assert_eq!(told, ["went from 9 to 7", "went from 8 to none"]);
    }
}
