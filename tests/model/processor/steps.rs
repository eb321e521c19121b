//! What happens to processes and their requests, and what must be true of the world.

use super::{
    Action, World, abandoned, output,
    state::{Advance, Budget, Committer, Cycle, Instance, Renewal, State, Work, Worker},
};
use crate::model::kafka::{Phase, Transaction};

impl World {
    /// `None` when it is not possible now.
    pub(super) fn act(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Work(index, partition) => return self.work(state, index, partition),
            Action::Cycle(index) => return self.cycle(state, index),
            Action::Marker(by, partition) => return state.mark(by, partition),
            Action::Join(index) => self.join(state, index),
            Action::Launch(index) => {
                let instance = &mut state.instances[index as usize];
                instance.up = true;
                instance.committer.cycle = Cycle::Init(Renewal::Start);
            }
            Action::Crash(index) => {
                spend(state, |budget| &mut budget.crashes);
                self.leave_behind(state, index);
                state.instances[index as usize] = Instance {
                    up: false,
                    generation: 0,
                    failures: 0,
                    workers: [Worker::away(0), Worker::away(0)],
                    committer: Committer::new(Cycle::Idle, 0),
                };
            }
            Action::Move(partition) => {
                let owner = state.group.owners[partition as usize];
                if state.instances[owner as usize].up {
                    spend(state, |budget| &mut budget.moves);
                }
                state.group.give(partition, 1 - owner);
            }
            Action::LoseCommit(index, partition) => {
                let place = partition as usize;
                let worker = &mut state.instances[index as usize].workers[place];
                if worker.next == self.inputs[place] {
                    return None;
                }
                let from = worker.next;
                let to = (from + self.batches[index as usize]).min(self.inputs[place]);
                worker.turn(Work::ReadFence);
                state.commits.push(Advance { partition, from, to, owner: index });
                state.commits.sort_unstable();
                spend(state, |budget| &mut budget.lost_commits);
            }
            Action::LateCommit(place) => {
                let advance = state.commits.remove(place as usize);
                state.database.advance(advance, self.rules.compare);
            }
            Action::Copy(index) => {
                spend(state, |budget| &mut budget.copies);
                self.leave_behind(state, index);
                let committer = &mut state.instances[index as usize].committer;
                committer.rotate |= match committer.cycle {
                    Cycle::AddOffsets | Cycle::SendOffsets => self.rules.rotate_after_slow_offsets,
                    Cycle::Commit => self.rules.rotate_after_slow_commit,
                    _ => false,
                };
            }
            Action::Silence(index) => {
                spend(state, |budget| &mut budget.silences);
                self.leave_behind(state, index);
                self.failed(&mut state.instances[index as usize]);
            }
            Action::Late(place) => {
                let request = state.network.remove(place as usize);
                state.execute(request, self.rules.verification);
            }
            Action::Expire(index) => {
                if state.transactions[index as usize].phase != Phase::Ongoing {
                    return None;
                }
                if !abandoned(state, index) {
                    spend(state, |budget| &mut budget.expiries);
                }
                state.transactions[index as usize].expire();
            }
        }
        Some(())
    }

    /// `Assignments`: what is held on stays, everything else ends or begins under a new number.
    fn join(&self, state: &mut State, index: u8) {
        let instance = &mut state.instances[index as usize];
        for partition in self.partitions() {
            let place = partition as usize;
            let worker = &mut instance.workers[place];
            let held = worker.work != Work::Away && state.group.since[place] <= instance.generation;
            if state.group.owners[place] != index {
                *worker = Worker::away(worker.assignment);
            } else if !held {
                *worker = Worker::away(worker.assignment + 1);
                worker.work = Work::ReadFence;
            }
        }
        instance.generation = state.group.generation;
        instance.failures = 0;
    }

    /// The request of a committer that does not wait for its answer any more.
    fn leave_behind(&self, state: &mut State, index: u8) {
        if let Some(request) = self.request(index, &state.instances[index as usize].committer) {
            state.network.push(request);
            state.network.sort_unstable();
        }
    }

    /// The inputs that emit, with what they emit.
    fn emitting(&self) -> impl Iterator<Item = (usize, u8, u16)> {
        self.partitions().flat_map(|partition| {
            let inputs = (0..self.inputs[partition as usize]).filter(|input| self.emits & (1 << input) != 0);
            inputs.map(move |input| (partition as usize, input, output(partition, input)))
        })
    }

    pub(super) fn outputs_of_all(&self) -> impl Iterator<Item = u16> {
        self.emitting().map(|(_, _, value)| value)
    }

    /// What the committed offset has passed is published, as soon as the markers are written.
    pub(super) fn no_loss(&self, state: &State) -> bool {
        preparing(state)
            || self.emitting().all(|(place, input, value)| {
                input >= state.offsets.committed[place] || state.output.times(value) > 0
            })
    }

    pub(super) fn in_order(&self, state: &State) -> bool {
        self.partitions().all(|partition| {
            let own = state.output.committed().filter(|value| value >> 8 == u16::from(partition));
            own.is_sorted()
        })
    }

    /// What is published has happened in the database.
    pub(super) fn no_phantom(&self, state: &State) -> bool {
        self.emitting().all(|(place, input, value)| {
            state.database.effects[place] & (1 << input) != 0 || state.output.times(value) == 0
        })
    }

    /// The database is at most one batch ahead of the committed offset.
    pub(super) fn fits(&self, state: &State) -> bool {
        let fits = |partition| {
            let (fence, committed) =
                (&state.database.fences[partition as usize], state.offsets.committed[partition as usize]);
            committed == fence.next || committed == fence.from
        };
        preparing(state) || self.partitions().all(fits)
    }

    /// No worker has found what only an operator can settle.
    pub(super) fn goes_on(&self, state: &State) -> bool {
        let mut workers = state.instances.iter().flat_map(|instance| &instance.workers);
        workers.all(|worker| worker.work != Work::Stopped)
    }

    pub(super) fn done(&self, state: &State) -> bool {
        let finished = |partition| {
            let (place, end) = (partition as usize, self.inputs[partition as usize]);
            state.database.effects[place] == (1 << end) - 1
                && state.database.fences[place].next == end
                && state.offsets.committed[place] == end
        };
        self.partitions().all(finished)
            && self.outputs_of_all().all(|value| state.output.times(value) > 0)
            && state.output.settled()
            && state.offsets.settled()
    }
}

fn spend(state: &mut State, kind: impl FnOnce(&mut Budget) -> &mut u8) {
    state.budget.all -= 1;
    *kind(&mut state.budget) -= 1;
}

/// Decided, and not every marker is written.
fn preparing(state: &State) -> bool {
    state.transactions.iter().any(Transaction::preparing)
}
