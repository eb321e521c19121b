//! Which partitions a consumer holds, under which epoch.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    error::{Error, Kind, Result},
    log::Assignment,
};

/// Epochs rise over all consumers of the process: one of another consumer never looks current.
static EPOCH: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
pub(super) struct Assignments(Mutex<Held>);

/// What is held, while nobody can change it.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<(Arc<str>, i32), Partition>);

#[derive(Debug)]
struct Partition {
    epoch: u64,
    started: bool,
}

impl Assignments {
    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(super) fn assign(&mut self, topic: &str, partition: i32) -> Assignment {
        let topic: Arc<str> = topic.into();
        let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
        let held = Partition { epoch, started: false };
        self.0.insert((Arc::clone(&topic), partition), held);
        Assignment { topic, partition, epoch }
    }

    /// Those of `partitions` that are held, as they are held.
    pub(super) fn among<'a>(&self, partitions: impl Iterator<Item = (&'a str, i32)>) -> Vec<Assignment> {
        partitions
            .filter_map(|(topic, partition)| {
                let ((topic, _), held) = self.0.get_key_value(&(Arc::from(topic), partition))?;
                Some(Assignment { topic: Arc::clone(topic), partition, epoch: held.epoch })
            })
            .collect()
    }

    pub(super) fn end(&mut self, ended: &[Assignment]) {
        for each in ended {
            if self.holds(each) {
                self.0.remove(&(Arc::clone(&each.topic), each.partition));
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Assignment> {
        let held = self.0.iter();
        held.map(|((topic, partition), held)| Assignment {
            topic: Arc::clone(topic),
            partition: *partition,
            epoch: held.epoch,
        })
        .collect()
    }

    pub(super) fn end_all(&mut self) {
        self.0.clear();
    }

    fn get(&self, assignment: &Assignment) -> Option<&Partition> {
        self.0
            .get(&(Arc::clone(&assignment.topic), assignment.partition))
            .filter(|held| held.epoch == assignment.epoch)
    }

    pub(super) fn holds(&self, assignment: &Assignment) -> bool {
        self.get(assignment).is_some()
    }

    pub(super) fn started(&self, assignment: &Assignment) -> bool {
        self.get(assignment).is_some_and(|held| held.started)
    }

    pub(super) fn set_started(&mut self, assignment: &Assignment, started: bool) {
        let key = (Arc::clone(&assignment.topic), assignment.partition);
        if let Some(held) = self.0.get_mut(&key).filter(|held| held.epoch == assignment.epoch) {
            held.started = started;
        }
    }

    /// # Errors
    /// Kind `Unassigned`, naming the partition.
    pub(super) fn require(&self, assignment: &Assignment) -> Result<()> {
        match self.holds(assignment) {
            true => Ok(()),
            false => Err(unassigned(assignment)),
        }
    }
}

pub(super) fn unassigned(assignment: &Assignment) -> Error {
    Error::new(
        Kind::Unassigned,
        format!("{assignment} is no longer held under assignment {}", assignment.epoch),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_ends_once_and_an_old_one_never_ends_a_new_one() {
        let mut held = Held::default();
        let old = held.assign("orders", 0);
        held.end(std::slice::from_ref(&old));
        let new = held.assign("orders", 0);
        assert!(new.epoch > old.epoch);
        held.end(std::slice::from_ref(&old));
        assert!(held.holds(&new) && !held.holds(&old));
        held.set_started(&old, true);
        assert!(!held.started(&new));
        let found = held.among([("orders", 0), ("orders", 1)].into_iter());
        assert_eq!(found, [new]);
    }
}
