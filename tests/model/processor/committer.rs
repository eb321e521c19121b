//! `framework/processor/committer.rs`: one transaction for every partition whose database commit is done.

use super::{
    World,
    state::{Call, Committer, Cycle, Instance, NONE, OFFSETS, OUTPUT, Renewal, Request, State, Work, output},
};
use crate::model::kafka::Answer;

impl World {
    /// What the committer waits for, if it waits for a broker.
    pub(super) fn request(&self, instance: u8, committer: &Committer) -> Option<Request> {
        let call = match committer.cycle {
            Cycle::Idle => return None,
            Cycle::Init(_) => Call::Init,
            Cycle::Send if !committer.added => Call::Add { partition: OUTPUT },
            Cycle::Send => {
                let value = self.outputs(committer).nth(committer.sent as usize)?;
                Call::Produce { sequence: committer.sequence, value }
            }
            Cycle::AddOffsets => Call::Add { partition: OFFSETS },
            Cycle::SendOffsets => {
                let mut offsets = [NONE; 2];
                for each in &committer.batch {
                    offsets[each.partition as usize] = each.to;
                }
                Call::Offsets { generation: committer.generation, offsets }
            }
            Cycle::Commit => Call::End { commit: true },
            Cycle::Abort => Call::End { commit: false },
        };
        Some(Request { by: instance, epoch: committer.epoch, call })
    }

    /// The outputs of the batch, in order.
    fn outputs(&self, committer: &Committer) -> impl Iterator<Item = u16> {
        committer.batch.iter().flat_map(|each| {
            let inputs = (each.from..each.to).filter(|input| self.emits & (1 << input) != 0);
            inputs.map(|input| output(each.partition, input))
        })
    }

    /// One step of `Cycle::run`; `None` when it has to wait.
    pub(super) fn cycle(&self, state: &mut State, index: u8) -> Option<()> {
        let mut instance = state.instances[index as usize].clone();
        match instance.committer.cycle {
            Cycle::Idle => self.take(&mut instance)?,
            Cycle::Init(Renewal::Before | Renewal::After) if !holds_any(&instance) => {
                instance.committer.batch.clear();
                instance.committer.rotate = true;
                self.rest(&mut instance);
            }
            _ => {
                let request = self.request(index, &instance.committer)?;
                let before = state.transactions[index as usize].clone();
                match state.execute(request, self.rules.verification) {
                    // Asked for the first time, initialisation aborts what is ongoing.
                    Answer::Again => return (state.transactions[index as usize] != before).then_some(()),
                    Answer::Fenced => self.look_again(&mut instance, true),
                    answer => {
                        let epoch = state.transactions[index as usize].epoch;
                        self.answered(&mut instance, answer, request.call, epoch);
                    }
                }
            }
        }
        let over = instance.generation != state.group.generation;
        if over && instance.committer.rotate && !state.instances[index as usize].committer.rotate {
            instance.failures += 1;
        }
        state.instances[index as usize] = instance;
        Some(())
    }

    /// `Cycle::cycle`: everything that was submitted and is still held.
    fn take(&self, instance: &mut Instance) -> Option<()> {
        let queue = std::mem::take(&mut instance.committer.queue);
        if queue.is_empty() {
            return None;
        }
        let batch = queue.into_iter().filter(|each| instance.holds(each)).collect();
        instance.committer.batch = batch;
        if instance.committer.batch.is_empty() {
            return Some(());
        }
        if instance.committer.rotate {
            instance.committer.cycle = Cycle::Init(Renewal::Before);
        } else {
            self.begin(instance);
        }
        Some(())
    }

    fn begin(&self, instance: &mut Instance) {
        instance.committer.cycle = Cycle::Send;
        self.sent(instance);
    }

    /// `fill`: once every output is acknowledged, the checked metadata.
    fn sent(&self, instance: &mut Instance) {
        if self.outputs(&instance.committer).count() > instance.committer.sent as usize {
            return;
        }
        let held = instance.committer.batch.iter().all(|each| instance.holds(each));
        if held || !self.rules.same_assignment {
            let generation = if self.rules.generation { instance.generation } else { 0 };
            instance.committer.generation = generation;
            instance.committer.cycle = Cycle::AddOffsets;
        } else if instance.committer.added {
            instance.committer.cycle = Cycle::Abort;
        } else {
            self.look_again(instance, self.rules.rotate_after_abort);
        }
    }

    fn answered(&self, instance: &mut Instance, answer: Answer, call: Call, epoch: u8) {
        let refused = answer == Answer::Refused;
        let committer = &mut instance.committer;
        match call {
            Call::Init => {
                committer.epoch = epoch;
                committer.sequence = 0;
                committer.rotate = false;
                match committer.cycle {
                    Cycle::Init(Renewal::Before) => self.begin(instance),
                    Cycle::Init(Renewal::After) => self.verdict(instance, false),
                    _ => committer.cycle = Cycle::Idle,
                }
            }
            Call::Add { partition: OUTPUT } => committer.added = true,
            Call::Add { .. } => committer.cycle = Cycle::SendOffsets,
            Call::Produce { .. } if refused => committer.cycle = Cycle::Abort,
            Call::Produce { .. } => {
                committer.sent += 1;
                committer.sequence += 1;
                self.sent(instance);
            }
            Call::Offsets { .. } if refused => self.failed(instance),
            Call::Offsets { .. } => committer.cycle = Cycle::Commit,
            Call::End { commit: true } if refused => self.look_again(instance, true),
            Call::End { commit: true } => self.verdict(instance, true),
            Call::End { commit: false } => self.look_again(instance, self.rules.rotate_after_abort),
        }
    }

    /// A request that did not succeed: abort, or after a commit just look.
    pub(super) fn failed(&self, instance: &mut Instance) {
        let offsets = matches!(instance.committer.cycle, Cycle::AddOffsets | Cycle::SendOffsets);
        match instance.committer.cycle {
            Cycle::Idle | Cycle::Init(_) => {}
            Cycle::Commit => self.look_again(instance, true),
            Cycle::Abort => self.look_again(instance, self.rules.rotate_after_abort),
            _ if offsets && !self.rules.abort_after_failed_offsets => {
                instance.committer.cycle = Cycle::Commit
            }
            _ => instance.committer.cycle = Cycle::Abort,
        }
    }

    /// The transaction was not committed, as far as this producer knows.
    fn look_again(&self, instance: &mut Instance, rotate: bool) {
        instance.committer.rotate |= rotate;
        if rotate && self.rules.init_before_looking {
            instance.committer.cycle = Cycle::Init(match instance.committer.cycle {
                Cycle::Init(renewal) => renewal,
                _ => Renewal::After,
            });
        } else {
            self.verdict(instance, false);
        }
    }

    /// Workers that still wait hear `Verdict::Committed` or `Verdict::Look`.
    fn verdict(&self, instance: &mut Instance, committed: bool) {
        for each in std::mem::take(&mut instance.committer.batch) {
            if !instance.holds(&each) {
                continue;
            }
            let worker = &mut instance.workers[each.partition as usize];
            match (committed, worker.work) {
                (true, Work::Wait) => {
                    worker.next = each.to;
                    worker.turn(Work::Handle);
                }
                (false, Work::Wait | Work::Handle) => worker.turn(Work::ReadFence),
                _ => {}
            }
        }
        self.rest(instance);
    }

    fn rest(&self, instance: &mut Instance) {
        let committer = &mut instance.committer;
        *committer = Committer {
            sequence: committer.sequence,
            rotate: committer.rotate,
            queue: std::mem::take(&mut committer.queue),
            ..Committer::new(Cycle::Idle, committer.epoch)
        };
    }
}

fn holds_any(instance: &Instance) -> bool {
    instance.committer.batch.iter().any(|each| instance.holds(each))
}
