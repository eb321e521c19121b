//! Rules about the client's requests: those that spring once, and those that last.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Action;
use super::request::Request;

pub(crate) type Matcher = Box<dyn Fn(&Request<'_>) -> bool + Send + Sync>;

/// A rule of a [`Proxy`](super::Proxy) that waits for one request, acts on it and is done.
#[derive(Debug)]
#[must_use = "wait() tells whether the request came"]
pub struct Trap(pub(crate) Arc<Armed>);

impl Trap {
    /// Waits until the request has come; false when it has not within `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        self.0.wait(limit, |state| state.acted > 0)
    }

    /// Whether the request has come.
    pub fn sprung(&self) -> bool {
        self.0.state().acted > 0
    }

    /// Lets a held request go on, and all later ones; delivers a withheld one. Dropping the trap does the same.
    pub fn release(&self) {
        self.0.release();
    }

    /// What the server answered to the proxy's own copy ([`Action::Duplicate`], [`Action::Late`]), from its length
    /// on; none when it has not within `limit`.
    pub fn answer(&self, limit: Duration) -> Option<Vec<u8>> {
        self.0.wait(limit, |state| state.answer.is_some());
        self.0.state().answer.clone()
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.release();
    }
}

/// A rule of a [`Proxy`](super::Proxy) that lasts until it is dropped, which also lets go what it holds.
#[derive(Debug)]
#[must_use = "dropping it ends the rule"]
pub struct Rule(pub(crate) Arc<Armed>);

impl Rule {
    /// How many requests have matched.
    pub fn matched(&self) -> u64 {
        self.0.state().matched
    }

    /// On how many of them the rule has acted.
    pub fn acted(&self) -> u64 {
        self.0.state().acted
    }

    /// How many of the proxy's own copies ([`Action::Duplicate`], [`Action::Late`]) the server has answered.
    pub fn answered(&self) -> u64 {
        self.0.state().answered
    }

    /// Waits until the rule has acted so often; false when it has not within `limit`.
    pub fn wait(&self, times: u64, limit: Duration) -> bool {
        self.0.wait(limit, |state| state.acted >= times)
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.release();
    }
}

pub(crate) struct Armed {
    matches: Matcher,
    action: Action,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// None: the first match is the last. Otherwise the dice and the probability to act.
    dice: Option<(fastrand::Rng, f64)>,
    matched: u64,
    acted: u64,
    answered: u64,
    answer: Option<Vec<u8>>,
    released: bool,
    ended: bool,
}

impl Armed {
    pub(crate) fn new(matches: Matcher, action: Action, dice: Option<(fastrand::Rng, f64)>) -> Arc<Self> {
        let state =
            State { dice, matched: 0, acted: 0, answered: 0, answer: None, released: false, ended: false };
        Arc::new(Self { matches, action, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// The action if this request is the first to match, or the dice say so.
    pub(crate) fn spring(&self, request: &Request<'_>) -> Option<Action> {
        if self.spent() || !(self.matches)(request) {
            return None;
        }
        let mut state = self.state();
        if state.spent() || (matches!(self.action, Action::Hold) && state.released) {
            return None;
        }
        state.matched += 1;
        if let Some((dice, probability)) = &mut state.dice
            && dice.f64() >= *probability
        {
            return None;
        }
        state.acted += 1;
        self.changed.notify_all();
        Some(self.action.clone())
    }

    /// Returns when the trap is released.
    pub(crate) fn hold(&self) {
        drop(self.changed.wait_while(self.state(), |state| !state.released));
    }

    pub(crate) fn answered(&self, answer: Vec<u8>) {
        let mut state = self.state();
        state.answered += 1;
        state.answer = Some(answer);
        self.changed.notify_all();
    }

    pub(crate) fn spent(&self) -> bool {
        self.state().spent()
    }

    fn release(&self) {
        self.state().released = true;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration, done: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), limit, |state| !done(state));
        done(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn spent(&self) -> bool {
        self.ended || (self.dice.is_none() && self.acted > 0)
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
