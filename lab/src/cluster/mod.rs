//! The brokers of a lab as one cluster: who leads what, who is in sync, and how to change that.

mod admin;
mod wire;

use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Lab, Result};
pub use admin::Right;
use wire::{Answer, Body};

const METADATA: (i16, i16, bool) = (3, 1, false);
const POLL: Duration = Duration::from_millis(100);
/// A broker that comes back from a clean stop needs a second; one of a busy machine needs many.
const IN_SYNC_WITHIN: Duration = Duration::from_secs(60);

/// A partition as the cluster's metadata show it. Brokers are counted from 0, as in [`Lab::broker`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The topic's name; those of Kafka itself begin with `__`.
    pub topic: String,
    /// Counted from 0.
    pub index: i32,
    /// None while there is none.
    pub leader: Option<usize>,
    /// All brokers that shall have it, the preferred leader first.
    pub replicas: Vec<usize>,
    /// Those of them that have all of it.
    pub in_sync: Vec<usize>,
}

/// The brokers of a [`Lab`] together. From [`Lab::cluster`]. Every call asks the first broker that runs and answers,
/// past the proxies.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    lab: &'a Lab,
}

impl Lab {
    /// The brokers of this lab together.
    pub fn cluster(&self) -> Cluster<'_> {
        Cluster { lab: self }
    }
}

impl Cluster<'_> {
    /// All partitions of all topics.
    pub fn partitions(&self) -> Result<Vec<Partition>> {
        // Null: all topics.
        let mut answer = self.call("metadata", METADATA, &Body::default().int32(-1))?;
        for _ in 0..answer.count() {
            answer.skip(4);
            answer.text();
            answer.skip(4);
            answer.text();
        }
        answer.skip(4);
        let mut partitions = Vec::new();
        for _ in 0..answer.count() {
            answer.skip(2);
            let topic = answer.text();
            answer.skip(1);
            for _ in 0..answer.count() {
                answer.skip(2);
                let (index, leader) = (answer.int32(), answer.int32());
                let mut brokers = || answer.numbers().into_iter().filter_map(place).collect::<Vec<_>>();
                let (replicas, in_sync) = (brokers(), brokers());
                let leader = place(leader);
                partitions.push(Partition { topic: topic.clone(), index, leader, replicas, in_sync });
            }
        }
        partitions.sort_by(|one, other| (&one.topic, one.index).cmp(&(&other.topic, other.index)));
        Ok(partitions)
    }

    /// The partitions of one topic, in order; empty when there is no such topic.
    pub fn describe(&self, topic: &str) -> Result<Vec<Partition>> {
        let mut partitions = self.partitions()?;
        partitions.retain(|partition| partition.topic == topic);
        Ok(partitions)
    }

    /// The broker that leads a partition, while there is one.
    pub fn leader_of(&self, topic: &str, partition: i32) -> Result<Option<usize>> {
        let found = self.describe(topic)?.into_iter().find(|found| found.index == partition);
        Ok(found.and_then(|found| found.leader))
    }

    /// The broker that coordinates the transactions of a transactional id, while there is one.
    pub fn transaction_coordinator_of(&self, id: &str) -> Result<Option<usize>> {
        self.coordinator("__transaction_state", id)
    }

    /// The broker that coordinates a consumer group, while there is one.
    pub fn group_coordinator_of(&self, group: &str) -> Result<Option<usize>> {
        self.coordinator("__consumer_offsets", group)
    }

    fn coordinator(&self, topic: &str, name: &str) -> Result<Option<usize>> {
        let partitions = self.describe(topic)?;
        let place = coordinated_by(name, partitions.len());
        Ok(place.and_then(|place| partitions.get(place)?.leader))
    }

    /// The partition of `__transaction_state` or `__consumer_offsets` that a transactional id or a group belongs to;
    /// none before the topic exists.
    pub fn coordinator_partition(&self, topic: &str, name: &str) -> Result<Option<i32>> {
        let count = self.describe(topic)?.len();
        Ok(coordinated_by(name, count).and_then(|place| i32::try_from(place).ok()))
    }

    /// Waits until every partition has a leader and all its replicas are in sync.
    pub fn wait_in_sync(&self) -> Result<()> {
        self.wait("in sync", |partitions| {
            let lags = |partition: &&Partition| {
                partition.leader.is_none() || partition.in_sync.len() < partition.replicas.len()
            };
            partitions.iter().find(lags).map(|partition| format!("{partition:?}"))
        })
    }

    /// Stops, starts and awaits every broker in turn, with no partition ever short of more than one replica.
    pub fn restart_one_by_one(&self) -> Result<()> {
        self.wait_in_sync()?;
        self.lab.brokers().iter().try_for_each(|broker| {
            broker.stop()?;
            broker.start()?;
            self.wait_in_sync()
        })
    }

    /// Waits until `lacks` of all partitions finds nothing to complain about.
    fn wait(&self, goal: &'static str, lacks: impl Fn(&[Partition]) -> Option<String>) -> Result<()> {
        let start = Instant::now();
        loop {
            let reason = match self.partitions() {
                Ok(partitions) => lacks(&partitions),
                Err(error) => Some(error.to_string()),
            };
            let Some(reason) = reason else { return Ok(()) };
            if start.elapsed() >= IN_SYNC_WITHIN {
                let (server, seconds) = ("the cluster".into(), IN_SYNC_WITHIN.as_secs());
                return Err(Error::TooSlow { server, goal, seconds, reason });
            }
            thread::sleep(POLL);
        }
    }

    fn call(&self, what: &str, form: (i16, i16, bool), body: &Body) -> Result<Answer> {
        let mut last = Error::NotRunning { server: "every broker".into() };
        for broker in self.lab.brokers().iter().filter(|broker| broker.pid().is_some()) {
            match wire::call(broker.address(), form, body) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Error::io(format!("ask {} for {what}", broker.name()))(error),
            }
        }
        Err(last)
    }
}

/// A broker's place in the lab; its number in the cluster is one more. None for "no broker".
fn place(node: i32) -> Option<usize> {
    usize::try_from(node).ok()?.checked_sub(1)
}

fn node(place: usize) -> i32 {
    i32::try_from(place + 1).unwrap_or(i32::MAX)
}

/// As Kafka does it: the absolute value of Java's hash of the name, modulo.
fn coordinated_by(name: &str, partitions: usize) -> Option<usize> {
    let hash = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(unit.into());
    let hash = name.encode_utf16().fold(0, hash).checked_abs().unwrap_or(0);
    usize::try_from(hash).ok()?.checked_rem(partitions)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_hashed_as_java_does() {
        // "polygenelubricants".hashCode() is i32::MIN.
        assert_eq!(super::coordinated_by("polygenelubricants", 5), Some(0));
        // "relay".hashCode() is 108397201, "é".hashCode() is 233.
        assert_eq!(super::coordinated_by("relay", 100), Some(1));
        assert_eq!(super::coordinated_by("é", 100), Some(33));
        assert_eq!(super::coordinated_by("relay", 0), None);
    }
}
