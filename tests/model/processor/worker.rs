//! `framework/processor/partition.rs` and `assignment.rs`: take over, then batch after batch.

use super::{
    World, abandoned,
    state::{Advance, Call, NONE, Request, State, Submission, Work, Worker},
};
use crate::model::kafka::{Answer, Phase};

impl World {
    /// One step of `Partition::run`; `None` when it has to wait.
    pub(super) fn work(&self, state: &mut State, index: u8, partition: u8) -> Option<()> {
        let place = partition as usize;
        let mut worker = state.instances[index as usize].workers[place].clone();
        let mut submission = None;
        match worker.work {
            Work::Away | Work::Wait | Work::Stopped => return None,
            Work::ReadFence if state.instances[index as usize].failures > self.retries => return None,
            Work::ReadFence => {
                worker.fence = state.database.fences[place];
                worker.work = Work::ReadOffset;
            }
            Work::ReadOffset if self.rules.stable_offsets && !state.offsets.stable(partition) => {
                let owner = self.other_owner(index, &worker)?;
                // The question times out once, and again only if nobody else ends what it waits for.
                if state.transactions[owner as usize].phase != Phase::Ongoing
                    || worker.ended != 0 && !abandoned(state, owner)
                {
                    return None;
                }
                self.end_transaction_of(state, owner)?;
                worker.ended = state.transactions[owner as usize].epoch;
            }
            Work::ReadOffset => {
                worker.ended = 0;
                worker.committed = state.offsets.committed[place];
                worker.work = Work::Decide;
            }
            Work::Decide if self.rules.fence_twice && !worker.sees(state.database.fences[place]) => {
                state.beaten(index);
                worker.turn(Work::ReadFence);
            }
            Work::Decide => self.decide(index, &mut worker, &mut submission, partition),
            Work::EndOwner => {
                let owner = self.other_owner(index, &worker)?;
                let epoch = state.transactions[owner as usize].epoch;
                // Whoever initialised since has waited for the same transaction.
                let renewed = worker.ended != 0 && epoch != worker.ended;
                if renewed || self.end_transaction_of(state, owner)? == Answer::Done {
                    submission = self.resend(&mut worker, partition);
                } else {
                    worker.ended = state.transactions[owner as usize].epoch;
                }
            }
            Work::Claim => {
                if worker.sees(state.database.fences[place]) {
                    state.database.fences[place].owner = index;
                    state.instances[1 - index as usize].workers[place].outdate();
                    submission = Some(self.send_again(&mut worker, partition));
                } else {
                    state.beaten(index);
                    worker.turn(Work::ReadFence);
                }
            }
            Work::Handle => {
                let end = self.inputs[place];
                if worker.next == end {
                    return None;
                }
                let (from, to) = (worker.next, (worker.next + self.batches[index as usize]).min(end));
                let advance = Advance { partition, from, to, owner: index };
                if state.database.advance(advance, self.rules.compare) {
                    submission = Some(Submission { partition, assignment: worker.assignment, from, to });
                    if self.rules.next_commit_waits {
                        worker.turn(Work::Wait);
                    } else {
                        worker.next = to;
                    }
                } else if self.rules.take_over_after_conflict {
                    worker.turn(Work::ReadFence);
                } else {
                    worker.next = state.database.fences[place].next;
                }
            }
        }
        let instance = &mut state.instances[index as usize];
        instance.workers[place] = worker;
        instance.committer.queue.extend(submission);
        Some(())
    }

    /// `assignment::decide`.
    fn decide(&self, index: u8, worker: &mut Worker, submission: &mut Option<Submission>, partition: u8) {
        let fence = worker.fence;
        if worker.committed == fence.next {
            worker.next = fence.next;
            worker.turn(Work::Handle);
        } else if worker.committed == fence.from && fence.next > fence.from {
            if self.other_owner(index, worker).is_some() {
                worker.work = Work::EndOwner;
            } else {
                *submission = self.resend(worker, partition);
            }
        } else {
            worker.turn(Work::Stopped);
        }
    }

    fn resend(&self, worker: &mut Worker, partition: u8) -> Option<Submission> {
        if self.rules.claim_outputs {
            worker.work = Work::Claim;
            return None;
        }
        Some(self.send_again(worker, partition))
    }

    fn send_again(&self, worker: &mut Worker, partition: u8) -> Submission {
        let (from, to) = (worker.fence.from, worker.fence.next);
        let from = if self.rules.resend_pending { from } else { to };
        worker.turn(Work::Wait);
        Submission { partition, assignment: worker.assignment, from, to }
    }

    /// The owner in the fence row, if it is somebody else and the rule is on.
    fn other_owner(&self, index: u8, worker: &Worker) -> Option<u8> {
        let owner = worker.fence.owner;
        (self.rules.end_owner && owner != NONE && owner != index).then_some(owner)
    }

    /// `None` when there is nothing to do but wait.
    fn end_transaction_of(&self, state: &mut State, owner: u8) -> Option<Answer> {
        let before = state.transactions[owner as usize].clone();
        let request = Request { by: owner, epoch: 0, call: Call::Init };
        let answer = state.execute(request, self.rules.verification);
        (answer == Answer::Done || state.transactions[owner as usize] != before).then_some(answer)
    }
}
