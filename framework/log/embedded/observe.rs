//! What is in the log, asked from outside of every process: for a judge.

use super::{Client, Embedded, partition::Read};
use crate::log::Received;

impl Embedded {
    /// Every committed record that may be read, in order partition by partition.
    pub(crate) fn committed_records(&self) -> Vec<Received> {
        let read = |state: &mut super::State| {
            let mut found = Vec::new();
            for partition in state.topics.values().flat_map(|topic| &topic.partitions) {
                if let Read::Records(records, _) = partition.read(partition.start, usize::MAX, usize::MAX) {
                    found.extend(records);
                }
            }
            found
        };
        self.main.shell.apply(|state, _| read(state)).0
    }

    /// Whether the group has committed offsets behind every record of the topics, and nothing is undecided.
    pub(crate) fn is_consumed(&self, group: &str, topics: &[&str]) -> bool {
        let consumed = |state: &mut super::State| {
            topics.iter().filter_map(|topic| state.topics.get(*topic)).all(|topic| {
                topic.partitions.iter().enumerate().all(|(number, partition)| {
                    let Ok(offset) = state.committed(group, &(topic.name.clone(), number as i32)) else {
                        return false;
                    };
                    let from = offset.unwrap_or(partition.start);
                    partition.stable() == partition.end
                        && matches!(partition.read(from, 1, 1), Read::Records(records, _) if records.is_empty())
                })
            })
        };
        self.main.shell.apply(|state, _| consumed(state)).0
    }
}

impl Client {
    /// Waits while the process is stopped; for ever once it is dead.
    pub(crate) async fn running(&self) {
        self.process.running().await;
    }
}
