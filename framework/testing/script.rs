//! What goes wrong in one run, and what the run has seen so far.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::plan::{Deed, Seam};
use crate::{
    error::{Error, Result},
    handler::Outcome,
    log::embedded::{Call, Client, Fault, Faults, Operation},
    processor::Witness,
};

/// How long a call of a process that is to leave takes: long enough to be asked meanwhile.
const HELD: Duration = Duration::from_millis(150);

/// What the run has to do for a process that has come to its point.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// Let another instance take over, and the process go on after that.
    Thaw(Client),
    /// Let another instance join, and stop the process.
    Leave,
}

#[derive(Default)]
struct State {
    steps: VecDeque<(Seam, Deed)>,
    hit: usize,
    passes: BTreeMap<Seam, usize>,
    /// The processes by name; they lead to the log and the log leads here, so they are forgotten in the end.
    clients: BTreeMap<String, Client>,
    doomed: Option<Client>,
    request: Option<Request>,
    executions: usize,
    failures: u32,
    last_failure: Option<String>,
}

/// Shared by the seams of all processes of a run.
#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<State>>);

impl Script {
    /// Nothing goes wrong when `steps` is empty.
    pub(super) fn new(steps: &[(Seam, Deed)], hit: usize) -> Self {
        let steps = steps.iter().copied().collect();
        Self(Arc::new(Mutex::new(State { steps, hit, ..State::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn born(&self, client: &Client) {
        self.lock().clients.insert(client.name().to_owned(), client.clone());
    }

    pub(super) fn forget(&self) {
        let mut state = self.lock();
        state.clients.clear();
        state.doomed = None;
        state.request = None;
    }

    /// Whether everything has happened that was to go wrong.
    pub(super) fn is_done(&self) -> bool {
        self.lock().steps.is_empty()
    }

    pub(super) fn passes(&self) -> BTreeMap<Seam, usize> {
        self.lock().passes.clone()
    }

    pub(super) fn executions(&self) -> usize {
        self.lock().executions
    }

    pub(super) fn take_request(&self) -> Option<Request> {
        self.lock().request.take()
    }

    /// The process that was to be killed with its next call, if it has made none.
    pub(super) fn take_doomed(&self) -> Option<Client> {
        self.lock().doomed.take()
    }

    /// How often in a row a batch could not be handled, and why the last time.
    pub(super) fn failures(&self) -> (u32, Option<String>) {
        let state = self.lock();
        (state.failures, state.last_failure.clone())
    }

    pub(super) fn failed(&self, error: &Error) {
        let mut state = self.lock();
        state.failures += 1;
        state.last_failure = Some(error.to_string());
    }

    pub(super) fn succeeded(&self) {
        self.lock().failures = 0;
    }

    /// Whether the process dies with this call, whatever it is.
    pub(super) fn is_doomed(&self, name: &str) -> bool {
        let mut state = self.lock();
        let doomed = state.doomed.as_ref().is_some_and(|client| client.name() == name);
        if doomed {
            state.doomed = None;
        }
        doomed
    }

    /// A process has come to a seam.
    pub(super) fn at(&self, name: &str, seam: Seam) -> Option<Deed> {
        let mut state = self.lock();
        let passes = state.passes.entry(seam).or_default();
        *passes += 1;
        let passes = *passes;
        let deed = match state.steps.front() {
            Some((at, deed)) if *at == seam && passes == state.hit => *deed,
            _ => return None,
        };
        state.steps.pop_front();
        state.passes.clear();
        state.hit = 1;
        let client = state.clients.get(name).cloned();
        match (deed, client) {
            (Deed::KillNext, client) => state.doomed = client,
            (Deed::Stop, Some(client)) => {
                client.freeze();
                state.request = Some(Request::Thaw(client));
            }
            (Deed::Leave, _) => state.request = Some(Request::Leave),
            _ => {}
        }
        Some(deed)
    }
}

impl Faults for Script {
    fn at(&self, call: &Call<'_>) -> Fault {
        if !self.lock().clients.contains_key(call.client) {
            return Fault::None;
        }
        if self.is_doomed(call.client) {
            return Fault::Kill;
        }
        let seam = match call.operation {
            Operation::Begin => Seam::Begin,
            Operation::Send => Seam::Send,
            Operation::SendOffsets => Seam::SendOffsets,
            Operation::Commit => Seam::LogCommit,
            _ => return Fault::None,
        };
        match Self::at(self, call.client, seam) {
            None | Some(Deed::KillNext | Deed::Stop) => Fault::None,
            Some(Deed::Kill) => Fault::Kill,
            Some(Deed::KillAfter) => Fault::KillAfter,
            Some(Deed::LoseAnswer) => Fault::LoseAnswer,
            Some(Deed::LoseRequest) => Fault::LoseRequest,
            Some(Deed::Leave) => Fault::Delay(HELD),
        }
    }
}

/// The seam behind a process's handlers.
pub(super) struct AtHandler {
    pub(super) script: Script,
    pub(super) client: Client,
}

#[async_trait]
impl Witness for AtHandler {
    async fn handled(&self, outcome: &Result<Outcome>) {
        self.client.running().await;
        if let Err(error) = outcome {
            return self.script.failed(error);
        }
        self.script.lock().executions += 1;
        match self.script.at(self.client.name(), Seam::Handled) {
            Some(Deed::Kill) => self.client.kill(),
            Some(Deed::Leave) => pending().await,
            _ => {}
        }
        self.client.running().await;
    }
}
