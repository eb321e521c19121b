//! The committed offsets of groups, as an outsider asks for them: no member, no commit.

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{ASK, Isolation, Kafka};
use crate::Result;

/// A group's client, and what it was told last.
struct Group {
    name: String,
    client: BaseConsumer,
    list: TopicPartitionList,
    last: Vec<Option<i64>>,
}

/// Groups whose committed offsets must not go backwards.
pub(crate) struct Groups {
    groups: Vec<Group>,
}

impl Groups {
    /// Asks which partitions the topics have; a topic must exist.
    pub(crate) fn open(kafka: &Kafka, groups: &[String], topics: &[String]) -> Result<Self> {
        let open = |name: &String| {
            // A read_committed client would wait for open transactions that hold offsets.
            let client = kafka.client(name, Isolation::Uncommitted)?;
            let mut list = TopicPartitionList::new();
            for topic in topics {
                list.add_partition_range(topic, 0, kafka.partitions(&client, topic)? - 1);
            }
            let last = vec![None; list.count()];
            Ok(Group { name: name.clone(), client, list, last })
        };
        Ok(Self { groups: groups.iter().map(open).collect::<Result<_>>()? })
    }

    /// Asks every group, and tells what went backwards. A group whose coordinator is away is asked next time.
    pub(crate) fn turn(&mut self) -> Vec<String> {
        self.groups.iter_mut().flat_map(Group::turn).collect()
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
    fn turn(&mut self) -> Vec<String> {
        let Ok(answer) = self.client.committed_offsets(self.list.clone(), ASK) else { return Vec::new() };
        let mut backwards = Vec::new();
        for (element, last) in self.list.elements().iter().zip(&mut self.last) {
            let (topic, partition) = (element.topic(), element.partition());
            let Some(found) = answer.find_partition(topic, partition).filter(|found| found.error().is_ok())
            else {
                continue;
            };
            let now = if let Offset::Offset(at) = found.offset() { Some(at) } else { None };
            backwards.extend(
                step(last, now).map(|text| format!("group {} {topic}[{partition}] {text}", self.name)),
            );
        }
        backwards
    }
}

/// Notes an offset; tells if it is below the last one, or gone.
fn step(last: &mut Option<i64>, now: Option<i64>) -> Option<String> {
    let text = match (*last, now) {
        (Some(before), Some(now)) if now < before => Some(format!("went from {before} to {now}")),
        (Some(before), None) => Some(format!("went from {before} to none")),
        _ => None,
    };
    *last = now;
    text
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn an_offset_that_goes_backwards_is_told_once() {
        let mut last = None;
        let turns = [None, Some(5), Some(5), Some(9), Some(7), Some(8), None, Some(8)];
        let told: Vec<_> = turns.into_iter().filter_map(|now| step(&mut last, now)).collect();
        assert_eq!(told, ["went from 9 to 7", "went from 8 to none"]);
    }
}
