//! What a member of a group believes to have; the group may know better.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, mpsc::UnboundedSender};

use super::{groups::MemberId, state::Place};
use crate::{
    error::{Error, Kind, Result},
    log::{Assignment, ConsumerEvent, Received},
};

/// The bytes that may wait for the reader of the events before the member stops reading on.
const ROOM: usize = 16 << 20;
/// What a record takes besides its bytes.
const OVERHEAD: usize = 128;

/// What the calls of a consumer and its task share.
pub(super) struct Local {
    believed: Mutex<Believed>,
    /// Rung when the task has something to do.
    pub(super) bell: Notify,
    pub(super) ended: Notify,
}

#[derive(Default)]
pub(super) struct Believed {
    held: BTreeMap<Place, Held>,
    /// Member and generation, while it is a member.
    pub(super) membership: Option<(MemberId, i32)>,
    flows: u64,
    sender: Option<UnboundedSender<ConsumerEvent>>,
    load: usize,
    /// A partition that failed is to be started: give everything back and join again.
    pub(super) join_anew: bool,
    pub(super) closing: bool,
    pub(super) dropped: bool,
    pub(super) ended: bool,
}

struct Held {
    epoch: u64,
    flow: Option<Flow>,
    paused: bool,
    failed: bool,
}

/// Where a started partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) number: u64,
    pub(super) next: i64,
}

impl Local {
    pub(super) fn new(sender: UnboundedSender<ConsumerEvent>) -> Self {
        let believed = Believed { sender: Some(sender), ..Believed::default() };
        Self { believed: Mutex::new(believed), bell: Notify::new(), ended: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Believed> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event was taken by its reader.
    pub(super) fn taken(&self, event: &ConsumerEvent) {
        let mut believed = self.lock();
        let before = believed.load;
        believed.load = before.saturating_sub(weight(event));
        if before >= ROOM && believed.load < ROOM {
            drop(believed);
            self.bell.notify_one();
        }
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        let mut believed = self.lock();
        believed.held.clear();
        believed.membership = None;
        believed.ended = true;
        believed.sender = None;
        drop(believed);
        self.ended.notify_waiters();
    }
}

impl Believed {
    pub(super) fn has_room(&self) -> bool {
        self.load < ROOM
    }

    /// An event that nobody will read is dropped, and with it the handback that a rebalance waits for.
    pub(super) fn send(&mut self, event: ConsumerEvent) {
        let weight = weight(&event);
        if let Some(sender) = &self.sender
            && sender.send(event).is_ok()
        {
            self.load += weight;
        }
    }

    pub(super) fn assign(&mut self, place: &Place, epoch: u64) -> Assignment {
        let held = Held { epoch, flow: None, paused: false, failed: false };
        self.held.insert(place.clone(), held);
        Assignment { topic: Arc::clone(&place.0), partition: place.1, epoch }
    }

    pub(super) fn places(&self) -> BTreeSet<Place> {
        self.held.keys().cloned().collect()
    }

    /// All that is held but for `kept`.
    pub(super) fn all_but(&self, kept: &BTreeSet<Place>) -> Vec<Assignment> {
        let others = self.held.iter().filter(|(place, _)| !kept.contains(*place));
        others.map(|(place, held)| assignment(place, held.epoch)).collect()
    }

    pub(super) fn end(&mut self, ended: &[Assignment]) {
        for each in ended {
            if self.holds(each) {
                self.held.remove(&(Arc::clone(&each.topic), each.partition));
            }
        }
    }

    fn get(&mut self, assignment: &Assignment) -> Option<&mut Held> {
        let place = (Arc::clone(&assignment.topic), assignment.partition);
        self.held.get_mut(&place).filter(|held| held.epoch == assignment.epoch)
    }

    pub(super) fn holds(&self, assignment: &Assignment) -> bool {
        let place = (Arc::clone(&assignment.topic), assignment.partition);
        self.held.get(&place).is_some_and(|held| held.epoch == assignment.epoch)
    }

    /// # Errors
    /// Kind `Unassigned`, naming the partition.
    pub(super) fn require(&self, assignment: &Assignment) -> Result<()> {
        match self.holds(assignment) {
            true => Ok(()),
            false => Err(unassigned(assignment)),
        }
    }

    /// Starts a new flow; a partition that failed has to be assigned anew first.
    pub(super) fn start(&mut self, assignment: &Assignment, offset: i64) -> Result<u64> {
        let number = self.flows + 1;
        let failed = {
            let held = self.get(assignment).ok_or_else(|| unassigned(assignment))?;
            if !held.failed {
                held.flow = Some(Flow { number, next: offset });
                held.paused = false;
            }
            held.failed
        };
        if failed {
            self.join_anew = true;
            return Err(unassigned(assignment));
        }
        self.flows = number;
        Ok(number)
    }

    /// Pauses or resumes what was started.
    pub(super) fn set_paused(&mut self, assignment: &Assignment, paused: bool) -> Result<()> {
        self.get(assignment).ok_or_else(|| unassigned(assignment))?.paused = paused;
        Ok(())
    }

    /// What flows now.
    pub(super) fn flowing(&self) -> Vec<(Assignment, Flow)> {
        let flowing = self.held.iter().filter(|(_, held)| !held.paused);
        flowing.filter_map(|(place, held)| Some((assignment(place, held.epoch), held.flow?))).collect()
    }

    /// Passes records of a flow on, if it still goes on from where they were read.
    pub(super) fn pass(&mut self, from: &Assignment, flow: Flow, records: Vec<Received>, next: i64) {
        let Some(held) = self.get(from).filter(|held| held.flow == Some(flow) && !held.paused) else {
            return;
        };
        held.flow = Some(Flow { next, ..flow });
        if !records.is_empty() {
            self.send(ConsumerEvent::Records { assignment: from.clone(), flow: flow.number, records });
        }
    }

    /// A started partition cannot be read on.
    pub(super) fn fail(&mut self, assignment: &Assignment, flow: Flow, error: Error) {
        let Some(held) = self.get(assignment).filter(|held| held.flow == Some(flow)) else { return };
        held.flow = None;
        held.failed = true;
        self.send(ConsumerEvent::Failed(assignment.clone(), error));
    }
}

fn assignment(place: &Place, epoch: u64) -> Assignment {
    Assignment { topic: Arc::clone(&place.0), partition: place.1, epoch }
}

pub(super) fn unassigned(assignment: &Assignment) -> Error {
    Error::new(
        Kind::Unassigned,
        format!("{assignment} is no longer held under assignment {}", assignment.epoch),
    )
}

fn weight(event: &ConsumerEvent) -> usize {
    match event {
        ConsumerEvent::Records { records, .. } => records.iter().map(|each| each.size() + OVERHEAD).sum(),
        _ => 0,
    }
}
