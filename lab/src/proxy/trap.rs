//! One-shot rules about the client's requests.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) type Matcher = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What happens to the request that springs a trap.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// It arrives; the answer does not, and the connection ends so long after the answer came.
    LoseAnswer(Duration),
    /// It does not arrive, and the connection ends.
    LoseRequest,
    /// It waits until released.
    Hold,
    /// It arrives with other bytes in place of these.
    Replace(Vec<u8>, Vec<u8>),
}

/// A rule of a [`Proxy`](super::Proxy) that waits for one request, acts on it and is done.
#[derive(Debug)]
#[must_use = "wait() tells whether the request came"]
pub struct Trap(pub(crate) Arc<Armed>);

impl Trap {
    /// Waits until the request has come; false when it has not within `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let state = self.0.state();
        let waited = self.0.changed.wait_timeout_while(state, limit, |state| !state.sprung);
        waited.unwrap_or_else(PoisonError::into_inner).0.sprung
    }

    /// Whether the request has come.
    pub fn sprung(&self) -> bool {
        self.0.state().sprung
    }

    /// Lets a held request go on, and all later ones. Dropping the trap does the same.
    pub fn release(&self) {
        self.0.state().released = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.release();
    }
}

pub(crate) struct Armed {
    matches: Matcher,
    action: Action,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sprung: bool,
    released: bool,
}

impl Armed {
    pub(crate) fn new(matches: Matcher, action: Action) -> Arc<Self> {
        Arc::new(Self { matches, action, state: Mutex::default(), changed: Condvar::new() })
    }

    /// The action if this request is the first to match.
    pub(crate) fn spring(&self, request: &[u8]) -> Option<Action> {
        if self.state().sprung || !(self.matches)(request) {
            return None;
        }
        let mut state = self.state();
        if state.sprung || (matches!(self.action, Action::Hold) && state.released) {
            return None;
        }
        state.sprung = true;
        self.changed.notify_all();
        Some(self.action.clone())
    }

    /// Returns when the trap is released.
    pub(crate) fn hold(&self) {
        drop(self.changed.wait_while(self.state(), |state| !state.released));
    }

    pub(crate) fn spent(&self) -> bool {
        self.state().sprung
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Armed")
            .field("action", &self.action)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
