//! What every component says of itself: for `ready`, for health end points, for people.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// How a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not yet at work.
    Starting,
    /// At work.
    Ready,
    /// At work, but a message fails again and again and its partition waits; the text says which. Counts as ready: another
    /// instance would fare no better with it.
    Retrying(String),
    /// Trying again after a failure; the text says which.
    Recovering(String),
    /// Given up until an operator acts; the text says why. What stopped for what looks like a wrong setting is tried again: a
    /// component or a shard after 30 s, a partition after three times `retry_most`, unless it was the reading that failed.
    Failed(String),
}

/// A member whose partitions were all taken away: it may hold none for good, which the group tells it.
pub(crate) fn without_partitions(lost: bool) -> State {
    let why = if lost { "its place in the group was lost" } else { "the group shares its partitions anew" };
    State::Recovering(why.to_owned())
}

/// The state of every component, by name.
pub type Report = BTreeMap<String, State>;

/// The shared board. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<Report>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(Report::new()))
    }
}

impl Health {
    pub(crate) fn set(&self, component: &str, state: State) {
        self.0.send_if_modified(|report| match report.get_mut(component) {
            Some(old) if *old == state => false,
            Some(old) => {
                *old = state;
                true
            }
            None => report.insert(component.to_owned(), state).is_none(),
        });
    }

    /// A line of the board that goes with what it is about.
    pub(crate) fn entry(&self, component: impl Into<String>) -> Entry {
        Entry { health: self.clone(), component: component.into() }
    }

    pub(crate) fn remove(&self, component: &str) {
        self.0.send_if_modified(|report| report.remove(component).is_some());
    }

    /// Everything has ended, however.
    pub(crate) fn clear(&self) {
        self.0.send_if_modified(|report| !std::mem::take(report).is_empty());
    }

    /// The state of every component now.
    pub fn report(&self) -> Report {
        self.0.borrow().clone()
    }

    /// Whether every component is at work; `false` where there is none.
    pub fn is_ready(&self) -> bool {
        all_ready(&self.0.borrow())
    }

    /// Waits until every component is at work.
    pub async fn ready(&self) {
        let _ = self.0.subscribe().wait_for(all_ready).await;
    }
}

fn all_ready(report: &Report) -> bool {
    !report.is_empty() && report.values().all(|state| matches!(state, State::Ready | State::Retrying(_)))
}

/// The line of one component, which is removed when this is dropped.
pub(crate) struct Entry {
    health: Health,
    component: String,
}

impl Entry {
    pub(crate) fn set(&self, state: State) {
        self.health.set(&self.component, state);
    }

    pub(crate) fn remove(&self) {
        self.health.remove(&self.component);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.remove();
    }
}
