//! The processor: one or two input partitions, two processes of one group with a transactional id each, a fence row for
//! each partition, one partition of outputs, the group's committed offsets.
//!
//! | action | stands for |
//! |---|---|
//! | `Work` | the next step of `Partition`: `look` (fence, offset, fence again), `decide`, `end_transaction_of`, `claim_outputs`, or a batch: handlers, `Unit::advance` and COMMIT in one step, then `Committer::submit` |
//! | `LoseCommit`, `LateCommit` | crash point P2: COMMIT sent and no answer; it may happen at any time, or never |
//! | `Cycle` | the next step of `Cycle::run`: take what is submitted and held, `renew`, outputs, checked metadata (`Consumer::metadata`) once all are acknowledged, `send_offsets`, commit; a request is taken and answered in one step |
//! | `Crash` | crash points P1, P3 to P5 and P8: the request on its way may still arrive |
//! | `Launch` | a process is back under its name: init, then the group |
//! | `Move` | the group gives a partition to the other process, whose member is gone, or (a fault) alive and unaware |
//! | `Join` | P6, P7: a member learns the generation and what it holds (`rebalance::Context`); batches not committed are dropped |
//! | `Copy` | a silent retry of librdkafka; the first copy may arrive at any time, also before the retry |
//! | `Silence` | a time-out of the client: the request may still arrive; abort or, after a commit, a new producer, then a look |
//! | `Marker`, `Expire` | the coordinators' markers and `transaction.timeout.ms` |
//! | `Late` | a request that nobody waits for arrives |
//!
//! A process that does not know that its generation is over gives up after `retries` failed transactions, or fence rows
//! that moved meanwhile, until it learns of it; it has a transaction of the other process aborted once per look. Without
//! these two bounds a pair of processes could abort each other for ever.
//!
//! Not modelled: the first start and adopted groups (fence row and offset are there), handlers that fail, the inbox,
//! dead letters and parked keys, refused outputs, a graceful revocation that waits for the transaction (here a member
//! just learns), more than two processes, several requests of one producer on their way together, reading of inputs by
//! flow, restored databases, reset offsets.

use stateright::{Model, Property};

mod committer;
mod group;
mod rules;
mod state;
mod steps;
mod worker;

use crate::model::{
    Told,
    kafka::{Log, Phase, Transaction},
};
use group::{Group, Offsets};
use state::{
    Budget, Committer, Cycle, Database, Fence, Instance, OFFSETS, OUTPUT, State, Work, Worker, output,
};

/// The rules of the protocol; what is `false` is left out.
#[derive(Debug, Clone)]
struct Rules {
    /// The fence moves only from where the batch began.
    compare: bool,
    /// A worker whose compare failed takes over again.
    take_over_after_conflict: bool,
    /// The fence is read again after the committed offset.
    fence_twice: bool,
    /// The committed offset is read once no open transaction can change it.
    stable_offsets: bool,
    /// What the database has and the log has not is sent again.
    resend_pending: bool,
    /// Offsets carry the generation.
    generation: bool,
    /// Offsets are sent under the assignment that the batch was read under.
    same_assignment: bool,
    /// A batch is committed to the database once the last one is decided in the log.
    next_commit_waits: bool,
    /// A transaction whose offsets failed is aborted.
    abort_after_failed_offsets: bool,
    /// A new producer after an abort.
    rotate_after_abort: bool,
    /// A new producer after a request for offsets that took long.
    rotate_after_slow_offsets: bool,
    /// A new producer after a commit that took long.
    rotate_after_slow_commit: bool,
    /// After a transaction that was not committed, a new producer and then a look at fence and offset.
    init_before_looking: bool,
    /// The last owner's transactional id is initialised before its pending outputs are sent, and when its open
    /// transaction holds back the offset.
    end_owner: bool,
    /// Whoever sends pending outputs again makes them its own first.
    claim_outputs: bool,
    /// Brokers ask the coordinator before the first write of a transaction.
    verification: bool,
}

/// A group and its partitions.
#[derive(Debug, Clone)]
struct World {
    rules: Rules,
    /// How many inputs each partition has.
    inputs: [u8; 2],
    /// How many of them each process takes in a batch.
    batches: [u8; 2],
    /// A bit for each input that emits an output.
    emits: u8,
    /// How often a process that does not know of the current generation tries again before it learns of it.
    retries: u8,
    /// A process that died is started again.
    restarts: bool,
    /// The coordinator ends transactions that nobody attends to.
    time_outs: bool,
    budget: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Launch(u8),
    Crash(u8),
    /// The group gives the partition to the other process.
    Move(u8),
    /// A process learns the current generation and what it owns in it.
    Join(u8),
    /// A worker's next step.
    Work(u8, u8),
    /// As `Work`, but the COMMIT of the database stays on its way and its answer is lost.
    LoseCommit(u8, u8),
    /// A commit of the database that nobody waits for happens.
    LateCommit(u8),
    /// A committer's next step; a request is taken and answered.
    Cycle(u8),
    /// A copy of the committer's request stays on its way.
    Copy(u8),
    /// The client's time-out; the request stays on its way.
    Silence(u8),
    Marker(u8, u8),
    Expire(u8),
    /// A request that nobody waits for arrives.
    Late(u8),
}

impl World {
    fn partitions(&self) -> impl Iterator<Item = u8> {
        (0..2).filter(|partition| self.inputs[*partition as usize] > 0)
    }

    /// Whether anything can happen without a fault.
    fn can_go_on(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.progress(state, &mut actions);
        actions.into_iter().any(|action| self.act(&mut state.clone(), action).is_some())
    }

    /// What goes wrong, or need not happen.
    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..state.network.len() as u8).map(Action::Late));
        actions.extend((0..state.commits.len() as u8).map(Action::LateCommit));
        let budget = &state.budget;
        if budget.all == 0 {
            return;
        }
        for (place, index) in (0..2).enumerate() {
            let instance = &state.instances[place];
            if !instance.up {
                continue;
            }
            if budget.crashes > 0 {
                actions.push(Action::Crash(index));
            }
            let cycle = instance.committer.cycle;
            if budget.copies > 0 && cycle != Cycle::Idle {
                actions.push(Action::Copy(index));
            }
            if budget.silences > 0 && !matches!(cycle, Cycle::Idle | Cycle::Init(_)) {
                actions.push(Action::Silence(index));
            }
            for partition in self.partitions() {
                if budget.moves > 0
                    && state.group.owners[partition as usize] == index
                    && state.instances[1 - place].up
                {
                    actions.push(Action::Move(partition));
                }
                if budget.lost_commits > 0 && instance.workers[partition as usize].work == Work::Handle {
                    actions.push(Action::LoseCommit(index, partition));
                }
            }
            if budget.expiries > 0
                && state.transactions[place].phase == Phase::Ongoing
                && !abandoned(state, index)
            {
                actions.push(Action::Expire(index));
            }
        }
    }
}

/// Nobody but the coordinator's time-out, or another process, will end the transaction.
fn abandoned(state: &State, index: u8) -> bool {
    let instance = &state.instances[index as usize];
    !instance.up
        || match instance.committer.cycle {
            Cycle::Idle => true,
            Cycle::Init(_) => false,
            _ => instance.committer.epoch != state.transactions[index as usize].epoch,
        }
}

impl Told for World {
    fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        for (place, index) in (0..2).enumerate() {
            let instance = &state.instances[place];
            let transaction = &state.transactions[place];
            if instance.up {
                actions.push(Action::Cycle(index));
                actions.extend(self.partitions().map(|partition| Action::Work(index, partition)));
                let started = instance.committer.cycle != Cycle::Init(state::Renewal::Start);
                if started && instance.generation != state.group.generation {
                    actions.push(Action::Join(index));
                }
            } else {
                if self.restarts {
                    actions.push(Action::Launch(index));
                }
                if state.instances[1 - place].up {
                    let owned = |partition: &u8| state.group.owners[*partition as usize] == index;
                    actions.extend(self.partitions().filter(owned).map(Action::Move));
                }
            }
            if transaction.preparing() {
                let pending = |partition: &u8| transaction.partitions & (1 << partition) != 0;
                let pending = [OUTPUT, OFFSETS].into_iter().filter(pending);
                actions.extend(pending.map(|partition| Action::Marker(index, partition)));
            }
            if self.time_outs && transaction.phase == Phase::Ongoing && abandoned(state, index) {
                actions.push(Action::Expire(index));
            }
        }
    }

    fn tell(&self, state: &State, action: &Action) -> String {
        let cycle = |index: &u8| {
            let committer = &state.instances[*index as usize].committer;
            match self.request(*index, committer) {
                Some(request) => format!("{index}:{:?}/{}", request.call, request.epoch),
                None => format!("{index}:take"),
            }
        };
        match action {
            Action::Work(index, partition) => {
                let worker = &state.instances[*index as usize].workers[*partition as usize];
                format!("{index}.{partition}:{:?}", worker.work)
            }
            Action::Cycle(index) => cycle(index),
            Action::Crash(index) | Action::Copy(index) | Action::Silence(index) => {
                format!("{action:?} at {}", cycle(index))
            }
            Action::Late(place) => format!("Late {:?}", state.network[*place as usize]),
            _ => format!("{action:?}"),
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let instance = |index: u8| Instance {
            up: true,
            generation: 1,
            failures: 0,
            workers: [0, 1].map(|partition: usize| {
                let mut worker = Worker::away(1);
                if index == 0 && self.inputs[partition] > 0 {
                    worker.turn(Work::ReadFence);
                }
                worker
            }),
            committer: Committer::new(Cycle::Idle, 1),
        };
        let transaction = || Transaction { epoch: 1, ..Transaction::new() };
        vec![State {
            database: Database { fences: [Fence::new(); 2], effects: [0; 2], twice: false },
            transactions: [transaction(), transaction()],
            output: Log::new(),
            offsets: Offsets::new(),
            group: Group::new(),
            instances: [instance(0), instance(1)],
            network: Vec::new(),
            commits: Vec::new(),
            budget: self.budget.clone(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        self.faults(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.act(&mut state, action)?;
        state.tidy(self.rules.verification);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("effect once", |_, state: &State| !state.database.twice),
            Property::always("no loss", |world: &Self, state: &State| world.no_loss(state)),
            Property::always("no duplicate", |world: &Self, state: &State| {
                world.outputs_of_all().all(|value| state.output.times(value) <= 1)
            }),
            Property::always("no disorder", |world: &Self, state: &State| world.in_order(state)),
            Property::always("no phantom", |world: &Self, state: &State| world.no_phantom(state)),
            Property::always("offset fits", |world: &Self, state: &State| world.fits(state)),
            Property::always("never gives up", |world: &Self, state: &State| world.goes_on(state)),
            Property::always("no owner waits", |world: &Self, state: &State| {
                let waits = |place: usize, partition: u8| {
                    let instance = &state.instances[place];
                    let work = instance.workers[partition as usize].work;
                    instance.up
                        && state.group.owners[partition as usize] as usize == place
                        && matches!(work, Work::ReadOffset | Work::EndOwner)
                };
                !(0..2).any(|place| world.partitions().any(|partition| waits(place, partition)))
                    || world.can_go_on(state)
            }),
            Property::always("never stuck", |world: &Self, state: &State| {
                world.done(state) || world.can_go_on(state)
            }),
        ]
    }
}
