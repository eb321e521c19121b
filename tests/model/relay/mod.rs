//! The relay: an outbox in PostgreSQL, two relays with one transactional id, its coordinator, two data partitions and
//! the shard's progress partition.
//!
//! | action | stands for |
//! |---|---|
//! | `Insert`, `Commit`, `CommitUnflushed`, `RollBack` | writers: `outbox::enqueue` in a transaction of their own, `synchronous_commit` on or off |
//! | `DatabaseCrash` | crash point R0 and every other time: what was not flushed is gone, ids are given out again |
//! | `Launch` | `ShardRelay::run`; with the other relay running, a take-over or two that do not know of each other |
//! | `Go` | the next step of `ShardRelay::session` (init, `durable_position`), `PostgresReader::read`, `publish` (records and position, `durable`, commit, abort); a request is taken and answered in one step |
//! | `Crash` | crash points R1 to R6: the request on its way may still arrive |
//! | `Copy` | a silent retry of librdkafka; the first copy may arrive at any time, also before the retry |
//! | `Silence` | a time-out of the client: the request may still arrive; the relay aborts, or after a commit starts over |
//! | `Abort` | a refused record: `publish` aborts |
//! | `Marker`, `Expire` | the coordinator's markers and `transaction.timeout.ms` |
//! | `Late` | a request that nobody waits for arrives |
//!
//! Of the database: transaction ids, snapshots, visibility, the log and its flush, a crash. Of Kafka: what [`kafka`]
//! says. A relay that is fenced starts again at once where no other runs, else as a take-over.
//!
//! Not modelled: several requests of one relay on their way together, reading ahead, batches cut by size, the first
//! position, deletion of published rows, quarantine and release, the group that hands out shards (a second relay
//! starts whenever it likes), fail-over and restore, other databases than PostgreSQL, brokers that lose what they took.
//!
//! [`kafka`]: super::kafka

use stateright::{Model, Property};

mod outbox;
mod rules;
mod state;
mod steps;

use crate::model::{
    Told,
    kafka::{Log, Phase, Transaction},
};
use outbox::{Outbox, Status};
use state::{Budget, PROGRESS, Relay, State, Step};

/// The rules of the protocol; what is `false` is left out.
#[derive(Debug, Clone)]
struct Rules {
    /// `init_transactions`, then the position is read.
    init_before_reading: bool,
    /// Rows, then the position.
    position_last: bool,
    /// Rows and position are one transaction.
    position_in_transaction: bool,
    /// A new producer after an abort.
    rotate_after_abort: bool,
    /// A new producer after a commit that took long.
    rotate_after_slow_commit: bool,
    /// A new producer after a commit with an unknown outcome.
    rotate_after_unknown_commit: bool,
    /// The database has flushed what the batch saw before the transaction is committed.
    flush: bool,
    /// Brokers ask the coordinator before the first write of a transaction.
    verification: bool,
}

/// A relay's shard.
#[derive(Debug, Clone)]
struct World {
    rules: Rules,
    /// The data partition of each row; rows of one partition have one key.
    keys: &'static [u8],
    /// Writers may roll back.
    roll_backs: bool,
    /// Writers may commit with `synchronous_commit = off`.
    asynchronous: bool,
    budget: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Insert(u8),
    Commit(u8),
    CommitUnflushed(u8),
    RollBack(u8),
    /// The database server dies and is back.
    DatabaseCrash,
    Launch(u8),
    Crash(u8),
    /// What the relay does next; a request is taken and answered.
    Go(u8),
    /// As `Go`, but a copy of the request stays on its way.
    Copy(u8),
    /// The client's time-out; the request stays on its way.
    Silence(u8),
    Abort(u8),
    Marker(u8),
    Expire,
    /// A request that nobody waits for arrives.
    Late(u8),
}

impl World {
    /// What goes wrong, or need not happen.
    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let budget = &state.budget;
        for (index, row) in state.outbox.rows.iter().enumerate() {
            if row.status == Status::Open {
                if self.roll_backs {
                    actions.push(Action::RollBack(index as u8));
                }
                if self.asynchronous {
                    actions.push(Action::CommitUnflushed(index as u8));
                }
            }
        }
        actions.extend((0..state.network.len() as u8).map(Action::Late));
        if budget.all == 0 {
            return;
        }
        if budget.databases > 0 {
            actions.push(Action::DatabaseCrash);
        }
        if budget.expiries > 0 && state.transaction.phase == Phase::Ongoing && !abandoned(state) {
            actions.push(Action::Expire);
        }
        for (index, relay) in state.relays.iter().enumerate() {
            let index = index as u8;
            if relay.step == Step::Down {
                if budget.take_overs > 0 && state.relays[1 - index as usize].runs() {
                    actions.push(Action::Launch(index));
                }
                continue;
            }
            if budget.crashes > 0 {
                actions.push(Action::Crash(index));
            }
            if self.request(relay).is_some() {
                if budget.copies > 0 {
                    actions.push(Action::Copy(index));
                }
                if budget.silences > 0 && relay.step != Step::Init {
                    actions.push(Action::Silence(index));
                }
            }
            if budget.aborts > 0 && self.may_abort(relay) {
                actions.push(Action::Abort(index));
            }
        }
    }

    /// A writer takes the entity's lock first.
    fn may_insert(&self, state: &State, row: usize) -> bool {
        let ended = |status| matches!(status, Status::Committed | Status::Gone);
        (0..row)
            .all(|earlier| self.keys[earlier] != self.keys[row] || ended(state.outbox.rows[earlier].status))
    }
}

/// No relay runs, and of two that could start one is enough.
fn free_to_launch(state: &State, index: usize) -> bool {
    !state.relays[1 - index].runs() && (index == 0 || state.relays[0].step != Step::Down)
}

/// Nobody but the coordinator's time-out will end the transaction.
fn abandoned(state: &State) -> bool {
    !state.relays.iter().any(|relay| relay.attends(state.transaction.epoch))
}

impl Told for World {
    fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, row) in state.outbox.rows.iter().enumerate() {
            let row_index = index as u8;
            match row.status {
                Status::New if self.may_insert(state, index) => actions.push(Action::Insert(row_index)),
                Status::Open => actions.push(Action::Commit(row_index)),
                Status::New | Status::Committed | Status::Gone => {}
            }
        }
        for (index, relay) in state.relays.iter().enumerate() {
            match relay.step {
                Step::Down if free_to_launch(state, index) => actions.push(Action::Launch(index as u8)),
                Step::Down | Step::Stopped => {}
                _ => actions.push(Action::Go(index as u8)),
            }
        }
        if state.transaction.preparing() {
            let pending = |partition: &u8| state.transaction.partitions & (1 << partition) != 0;
            actions.extend((0..=PROGRESS).filter(pending).map(Action::Marker));
        }
        if state.transaction.phase == Phase::Ongoing && abandoned(state) {
            actions.push(Action::Expire);
        }
    }

    fn tell(&self, state: &State, action: &Action) -> String {
        let step = |index: &u8| {
            let relay = &state.relays[*index as usize];
            match self.request(relay) {
                Some(request) => format!("{index}:{:?}/{}", request.call, request.epoch),
                None => format!("{index}:{:?}", relay.step),
            }
        };
        match action {
            Action::Go(index) => step(index),
            Action::Crash(index) | Action::Copy(index) | Action::Silence(index) | Action::Abort(index) => {
                format!("{action:?} at {}", step(index))
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
        vec![State {
            outbox: Outbox::new(self.keys.len()),
            transaction: Transaction::new(),
            logs: [const { Log::new() }; 3],
            relays: [Relay::down(), Relay::down()],
            network: Vec::new(),
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
            Property::always("no loss", |world: &Self, state: &State| state.no_loss(world.keys)),
            Property::always("no duplicate", |world: &Self, state: &State| state.no_duplicate(world.keys)),
            Property::always("no disorder", |_, state: &State| state.in_order()),
            Property::always("no phantom", |_, state: &State| state.no_phantom()),
            Property::always("never stuck", |world: &Self, state: &State| {
                let mut actions = Vec::new();
                world.progress(state, &mut actions);
                state.done(world.keys)
                    || actions.into_iter().any(|action| world.act(&mut state.clone(), action).is_some())
            }),
        ]
    }
}
