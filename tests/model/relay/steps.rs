//! What a relay and the world around it do, one step at a time.

use super::{
    Action, World, abandoned,
    state::{Budget, Call, POSITION, PROGRESS, Relay, Request, State, Step},
};
use crate::model::kafka::{Answer, Phase};

impl World {
    /// What the relay waits for, if it waits for a broker.
    pub(super) fn request(&self, relay: &Relay) -> Option<Request> {
        let call = match relay.step {
            Step::Init => Call::Init,
            Step::Commit => Call::End { commit: true },
            Step::Abort => Call::End { commit: false },
            Step::Send => {
                let (partition, value) = self.next_record(relay);
                if relay.added & (1 << partition) == 0 {
                    Call::Add { partition }
                } else {
                    Call::Produce { partition, sequence: relay.sequences[partition as usize], value }
                }
            }
            Step::Down | Step::Find | Step::Read | Step::Flush | Step::Stopped => return None,
        };
        Some(Request { epoch: relay.epoch, call })
    }

    /// Between records: nothing else of the transaction is on its way.
    pub(super) fn may_abort(&self, relay: &Relay) -> bool {
        match relay.step {
            Step::Flush => true,
            Step::Send => matches!(self.request(relay), Some(Request { call: Call::Add { .. }, .. })),
            _ => false,
        }
    }

    fn position_is_next(&self, relay: &Relay) -> bool {
        relay.left == POSITION || !self.rules.position_last && relay.left & POSITION != 0
    }

    /// Rows in order of `seq`, then the position.
    fn next_record(&self, relay: &Relay) -> (u8, u16) {
        match relay.left.trailing_zeros() {
            _ if self.position_is_next(relay) => (PROGRESS, relay.until.encode()),
            row => (self.keys[row as usize], row as u16),
        }
    }
    /// `None` when it is not possible now.
    pub(super) fn act(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Insert(row) => state.outbox.insert(row),
            Action::Commit(row) => state.outbox.commit(row, true),
            Action::CommitUnflushed(row) => state.outbox.commit(row, false),
            Action::RollBack(row) => state.outbox.roll_back(row),
            Action::Go(index) => return self.go(state, index as usize),
            Action::Marker(partition) => return state.mark(partition),
            Action::Late(place) => {
                let request = state.network.remove(place as usize);
                state.execute(request, self.rules.verification);
            }
            Action::DatabaseCrash => {
                spend(state, |budget| &mut budget.databases);
                state.outbox.crash();
            }
            Action::Launch(index) => {
                if state.relays[1 - index as usize].runs() {
                    spend(state, |budget| &mut budget.take_overs);
                }
                self.begin_session(&mut state.relays[index as usize]);
            }
            Action::Crash(index) => {
                spend(state, |budget| &mut budget.crashes);
                self.leave_behind(state, index);
                state.relays[index as usize] = Relay::down();
            }
            Action::Copy(index) => {
                spend(state, |budget| &mut budget.copies);
                self.leave_behind(state, index);
                let relay = &mut state.relays[index as usize];
                relay.slow |= relay.step == Step::Commit;
            }
            Action::Silence(index) => {
                spend(state, |budget| &mut budget.silences);
                self.leave_behind(state, index);
                let relay = &mut state.relays[index as usize];
                match relay.step {
                    Step::Commit => self.recover(relay, self.rules.rotate_after_unknown_commit),
                    Step::Abort => self.recover(relay, self.rules.rotate_after_abort),
                    _ => relay.step = Step::Abort,
                }
            }
            Action::Abort(index) => {
                spend(state, |budget| &mut budget.aborts);
                state.relays[index as usize].step = Step::Abort;
            }
            Action::Expire => {
                if state.transaction.phase != Phase::Ongoing {
                    return None;
                }
                if !abandoned(state) {
                    spend(state, |budget| &mut budget.expiries);
                }
                state.transaction.expire();
            }
        }
        Some(())
    }

    /// One step of a relay; `None` when it has to wait.
    fn go(&self, state: &mut State, index: usize) -> Option<()> {
        let mut relay = state.relays[index].clone();
        match relay.step {
            Step::Down | Step::Stopped => return None,
            Step::Find => {
                if !state.logs[PROGRESS as usize].settled() {
                    return None;
                }
                relay.position = state.position();
                relay.life = state.outbox.life;
                relay.step = if relay.epoch == 0 { Step::Init } else { Step::Read };
            }
            Step::Read => self.read(state, &mut relay)?,
            Step::Flush if relay.life != state.outbox.life => relay.step = Step::Abort,
            Step::Flush => {
                state.outbox.flush(relay.wal);
                relay.step = Step::Commit;
            }
            Step::Init | Step::Send | Step::Commit | Step::Abort => {
                let request = self.request(&relay)?;
                let before = state.transaction.clone();
                match state.execute(request, self.rules.verification) {
                    // Asked for the first time, initialisation aborts what is ongoing.
                    Answer::Again => return (state.transaction != before).then_some(()),
                    // Whoever holds the shard starts again.
                    Answer::Fenced => relay = Relay::down(),
                    answer => self.answered(state, &mut relay, answer, request.call),
                }
            }
        }
        state.relays[index] = relay;
        Some(())
    }

    /// `PostgresReader::difference`.
    fn read(&self, state: &State, relay: &mut Relay) -> Option<()> {
        if relay.life != state.outbox.life {
            self.begin_session(relay);
            return Some(());
        }
        let now = state.outbox.snapshot();
        if now == relay.position {
            return None;
        }
        if now.xmax < relay.position.xmax {
            relay.step = Step::Stopped;
            return Some(());
        }
        let rows = state.outbox.difference(relay.position, now);
        if rows == 0 {
            if self.rules.flush && state.outbox.flushed < state.outbox.wal_end() {
                return None;
            }
            relay.position = now;
            return Some(());
        }
        relay.until = now;
        relay.wal = state.outbox.wal_end();
        relay.left = rows | POSITION;
        relay.added = 0;
        relay.slow = false;
        relay.apart = false;
        relay.step = Step::Send;
        Some(())
    }

    fn answered(&self, state: &State, relay: &mut Relay, answer: Answer, call: Call) {
        match call {
            Call::Init => {
                relay.epoch = state.transaction.epoch;
                relay.sequences = [0; 3];
                relay.step = if self.rules.init_before_reading { Step::Find } else { Step::Read };
            }
            Call::Add { partition } => relay.added |= 1 << partition,
            Call::Produce { .. } if answer == Answer::Refused => relay.step = Step::Abort,
            Call::Produce { partition, .. } => {
                relay.sequences[partition as usize] += 1;
                relay.left &= if partition == PROGRESS { !POSITION } else { relay.left - 1 };
                self.sent(relay);
            }
            Call::End { commit: true } if answer == Answer::Refused => {
                self.recover(relay, self.rules.rotate_after_unknown_commit);
            }
            Call::End { commit: true } => self.committed(relay),
            Call::End { commit: false } => self.recover(relay, self.rules.rotate_after_abort),
        }
    }

    /// `publish::inside`: the position is last, then the flush.
    fn sent(&self, relay: &mut Relay) {
        let commit_apart = !self.rules.position_in_transaction && relay.left == POSITION;
        if relay.left == 0 || commit_apart {
            relay.step = if self.rules.flush && !relay.apart { Step::Flush } else { Step::Commit };
        }
    }

    fn committed(&self, relay: &mut Relay) {
        if relay.left == POSITION {
            relay.apart = true;
            relay.added = 0;
            relay.step = Step::Send;
            return;
        }
        relay.position = relay.until;
        if relay.slow && self.rules.rotate_after_slow_commit {
            self.begin_session(relay);
            return;
        }
        // What is not needed any more must not tell states apart.
        *relay = Relay {
            step: Step::Read,
            epoch: relay.epoch,
            sequences: relay.sequences,
            position: relay.position,
            life: relay.life,
            ..Relay::down()
        };
    }

    /// The first step of `ShardRelay::session`.
    fn begin_session(&self, relay: &mut Relay) {
        let step = if self.rules.init_before_reading { Step::Init } else { Step::Find };
        *relay = Relay { step, ..Relay::down() };
    }

    /// After an abort, or a commit whose outcome is not known.
    fn recover(&self, relay: &mut Relay, rotate: bool) {
        let (epoch, sequences) = (relay.epoch, relay.sequences);
        self.begin_session(relay);
        if !rotate {
            *relay = Relay { step: Step::Find, epoch, sequences, ..Relay::down() };
        }
    }

    /// The request of a relay that does not wait for its answer any more.
    fn leave_behind(&self, state: &mut State, index: u8) {
        if let Some(request) = self.request(&state.relays[index as usize]) {
            state.delay(request);
        }
    }
}

fn spend(state: &mut State, kind: impl FnOnce(&mut Budget) -> &mut u8) {
    state.budget.all -= 1;
    *kind(&mut state.budget) -= 1;
}
