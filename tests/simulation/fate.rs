//! What goes wrong in one history, and when: all of it from one seed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use tidelock::log::embedded::{Call, Fault, Operation};
use tokio::sync::Notify;

/// A process as the scheduler sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Running,
    Frozen,
    Dead,
}

/// The life of one process. Those who wait for it are told in their order, where a channel of tokio would tell them in
/// any.
pub(crate) struct Life {
    status: Mutex<Status>,
    changed: Notify,
}

impl Life {
    fn new() -> Self {
        Self { status: Mutex::new(Status::Running), changed: Notify::new() }
    }

    /// The dead stay dead.
    fn set(&self, to: Status) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if *status != Status::Dead {
            *status = to;
            self.changed.notify_waiters();
        }
    }

    pub(crate) async fn is(&self, wanted: Status) {
        loop {
            let changed = self.changed.notified();
            if *self.status.lock().unwrap_or_else(PoisonError::into_inner) == wanted {
                return;
            }
            changed.await;
        }
    }
}

struct State {
    random: Rng,
    /// How many faults are still to come; 0 once the world is calm.
    left: u32,
    /// One call in so many goes wrong.
    one_in: u32,
    processes: BTreeMap<String, Arc<Life>>,
    /// What happened, in order: two runs of a seed are alike if their traces are.
    trace: Vec<String>,
    faults: BTreeMap<&'static str, u32>,
}

/// Decides, remembers, and tells the processes.
#[derive(Clone)]
pub(crate) struct Fate(Arc<Mutex<State>>);

impl Fate {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let (left, one_in) = (random.u32(1..=6), random.u32(8..=60));
        Self(Arc::new(Mutex::new(State {
            random,
            left,
            one_in,
            processes: BTreeMap::new(),
            trace: Vec::new(),
            faults: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn random<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.lock().random)
    }

    /// A new incarnation of a process.
    pub(crate) fn born(&self, name: &str) -> Arc<Life> {
        let life = Arc::new(Life::new());
        self.lock().processes.insert(name.to_owned(), Arc::clone(&life));
        life
    }

    pub(crate) fn set(&self, name: &str, status: Status) {
        let mut state = self.lock();
        state.trace.push(format!("{name} {status:?}"));
        if let Some(life) = state.processes.get(name) {
            life.set(status);
        }
    }

    /// No more faults.
    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.left = 0;
        state.trace.push("calm".to_owned());
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.lock().left == 0
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u32> {
        self.lock().faults.clone()
    }

    /// What becomes of a call: of the log's, or of the database's, which has no operation.
    pub(crate) fn of(&self, client: &str, what: &str, operation: Option<Operation>) -> Fault {
        let mut state = self.lock();
        let one_in = state.one_in;
        let fault =
            match state.left > 0 && state.processes.contains_key(client) && state.random.u32(..one_in) == 0 {
                true => draw(&mut state.random, operation),
                false => Fault::None,
            };
        state.trace.push(format!(
            "{client} {what}{}",
            if fault == Fault::None { String::new() } else { format!(" {fault:?}") }
        ));
        if fault == Fault::None {
            return fault;
        }
        state.left -= 1;
        *state.faults.entry(name(fault)).or_default() += 1;
        if matches!(fault, Fault::Kill | Fault::KillAfter)
            && let Some(process) = state.processes.get(client)
        {
            process.set(Status::Dead);
        }
        fault
    }
}

fn draw(random: &mut Rng, operation: Option<Operation>) -> Fault {
    let waits = !matches!(operation, Some(Operation::Pause | Operation::Resume | Operation::Metadata));
    let transactional = operation.is_some_and(Operation::is_transactional);
    match random.u32(..10) {
        0 | 1 => Fault::Kill,
        2 | 3 => Fault::KillAfter,
        4 | 5 => Fault::LoseAnswer,
        6 => Fault::LoseRequest,
        7 if transactional => Fault::Fence,
        8 if transactional => Fault::AbortTransaction,
        _ if waits => Fault::Delay(Duration::from_millis(random.u64(1..6_000))),
        _ => Fault::LoseAnswer,
    }
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::None => "none",
        Fault::Delay(_) => "delay",
        Fault::LoseRequest => "request lost",
        Fault::LoseAnswer => "answer lost",
        Fault::Fence => "fenced",
        Fault::AbortTransaction => "transaction aborted",
        Fault::Kill => "killed before",
        Fault::KillAfter => "killed after",
    }
}

impl tidelock::log::embedded::Faults for Fate {
    fn at(&self, call: &Call<'_>) -> Fault {
        // An instance without a name has a random one, at the end.
        let about = match call.about.rsplit_once('.') {
            Some((about, id)) if uuid::Uuid::try_parse(id).is_ok() => about,
            _ => call.about,
        };
        self.of(call.client, &format!("{:?} {about}", call.operation), Some(call.operation))
    }
}
