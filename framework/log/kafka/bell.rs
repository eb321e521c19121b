//! What wakes a consumer's thread.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{error::Result, log::Assignment};

/// A partition to start, and who waits for it.
pub(super) struct Start {
    pub(super) assignment: Assignment,
    pub(super) offset: i64,
    pub(super) reply: oneshot::Sender<Result<u64>>,
}

/// Rung by librdkafka's threads when a queue gets its first element, by callers, and by the reader of the events.
#[derive(Default)]
pub(super) struct Bell {
    calls: Mutex<Calls>,
    rung: Condvar,
}

/// What there is to do.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) starts: VecDeque<Start>,
    /// Epochs of partitions whose queues have records.
    pub(super) ready: Vec<u64>,
    pub(super) stop: bool,
    rung: bool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Must never call librdkafka inside: its threads ring this bell while they hold locks of a queue.
    pub(super) fn ring(&self, what: impl FnOnce(&mut Calls)) {
        let mut calls = self.lock();
        what(&mut calls);
        calls.rung = true;
        self.rung.notify_one();
    }

    /// Waits until rung or `most` has passed, and takes what there is to do; `stop` stays.
    pub(super) fn wait(&self, most: Duration) -> Calls {
        let mut calls = self.lock();
        if !calls.rung {
            calls = self
                .rung
                .wait_timeout_while(calls, most, |calls| !calls.rung)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        calls.rung = false;
        Calls {
            starts: std::mem::take(&mut calls.starts),
            ready: std::mem::take(&mut calls.ready),
            stop: calls.stop,
            rung: false,
        }
    }
}
