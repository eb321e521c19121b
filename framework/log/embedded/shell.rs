//! What is around the state: the lock, the clock, who waits, and the processes that make calls.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use super::{
    config::EmbeddedConfig,
    faults::Installed,
    journal::Failure,
    process::{Process, Status},
    state::{Now, State},
    writer::{Saved, Writer},
};
use crate::error::{Error, Kind};

/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

/// One log, shared by all of its clients.
pub(super) struct Shell {
    pub(super) config: EmbeddedConfig,
    state: Mutex<State>,
    pub(super) changed: Notify,
    start: OnceLock<Instant>,
    start_ms: i64,
    pub(super) faults: OnceLock<Installed>,
    pub(super) writer: Option<Writer>,
}

impl Shell {
    pub(super) fn new(state: State, start_ms: Option<i64>, writer: Option<Writer>) -> Self {
        Self {
            config: state.config.clone(),
            state: Mutex::new(state),
            changed: Notify::new(),
            start: OnceLock::new(),
            start_ms: start_ms.unwrap_or(START_MS),
            faults: OnceLock::new(),
            writer,
        }
    }

    pub(super) fn now(&self) -> Now {
        let at = Instant::now().saturating_duration_since(*self.start.get_or_init(Instant::now));
        Now { at, ms: self.start_ms.saturating_add(i64::try_from(at.as_millis()).unwrap_or(i64::MAX)) }
    }

    /// When that time of the state comes.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        *self.start.get_or_init(Instant::now) + at
    }

    /// When something is due that others may wait for.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.lock().due();
        due.map(|due| self.instant(due))
    }

    /// Why the log must be opened again.
    pub(super) fn failure(&self) -> Option<Error> {
        let state = self.lock();
        state.broken.as_ref().filter(|why| why.kind == Kind::Storage).map(Failure::error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state; what is to be stored goes to the writer before anybody else can change more.
    pub(super) fn apply<T>(&self, work: impl FnOnce(&mut State, Now) -> T) -> (T, Saved) {
        let mut state = self.lock();
        let now = self.now();
        state.tick(now);
        let result = work(&mut state, now);
        let saved = match &self.writer {
            Some(writer) if state.journal.has_changes() => writer.store(state.take_changes()),
            _ => Saved::default(),
        };
        let changed = std::mem::take(&mut state.changed);
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
        (result, saved)
    }

    /// The same for a process that runs.
    pub(super) async fn apply_as<T>(
        &self,
        process: &Process,
        work: impl FnOnce(&mut State, Now) -> T,
    ) -> (T, Saved) {
        loop {
            process.running().await;
            let status = process.status();
            if *status == Status::Running {
                return self.apply(work);
            }
        }
    }

    /// Asks again at every change, until `ask` has an answer or the time is up: then it answers `None`.
    pub(super) async fn wait<T>(
        &self,
        process: &Process,
        within: Duration,
        mut ask: impl FnMut(&mut State, Now) -> Option<T>,
    ) -> Option<(T, Saved)> {
        let until = Instant::now() + within;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let ((answer, due), saved) =
                self.apply_as(process, |state, now| (ask(state, now), state.due())).await;
            if let Some(answer) = answer {
                return Some((answer, saved));
            }
            if Instant::now() >= until {
                return None;
            }
            let next = due.map_or(until, |due| self.instant(due).min(until));
            tokio::select! {
                biased;
                () = changed => {}
                () = time::sleep_until(next) => {}
            }
        }
    }
}
