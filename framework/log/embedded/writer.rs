//! The task that writes the file: what waits at the same time is written together.

use std::{
    ops::Range,
    sync::{Arc, Weak},
};

use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use super::{
    journal::Change,
    shell::Shell,
    state::Place,
    store::{Left, Store},
};
use crate::{
    error::{Error, Kind, Result},
    log::Received,
};

/// The most jobs that are done together.
const TOGETHER: usize = 1_000;

/// The way to the file.
pub(super) struct Writer(UnboundedSender<Job>);

pub(super) enum Job {
    Store(Vec<Change>, oneshot::Sender<Result<(), String>>),
    Read(Place, Range<i64>, (usize, usize), oneshot::Sender<Result<(Vec<Received>, i64)>>),
    Close(oneshot::Sender<Result<()>>),
}

/// Something on its way to the file, or nothing.
#[derive(Default)]
#[must_use]
pub(super) struct Saved(Option<oneshot::Receiver<Result<(), String>>>);

impl Saved {
    /// Waits until it is on disk.
    pub(super) async fn wait(self) -> Result<()> {
        let Some(answer) = self.0 else { return Ok(()) };
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => Err(Error::new(Kind::Unavailable, text)),
            Err(_) => Err(gone()),
        }
    }
}

impl Writer {
    pub(super) fn new() -> (Self, UnboundedReceiver<Job>) {
        let (sender, jobs) = unbounded_channel();
        (Self(sender), jobs)
    }

    pub(super) fn store(&self, changes: Vec<Change>) -> Saved {
        let (reply, answer) = oneshot::channel();
        // Should the task be gone, the answer says so.
        let _ = self.0.send(Job::Store(changes, reply));
        Saved(Some(answer))
    }

    /// What of a range is only in the file, and the next offset to read from.
    pub(super) async fn read(
        &self,
        place: &Place,
        at: Range<i64>,
        most: (usize, usize),
    ) -> Result<(Vec<Received>, i64)> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Job::Read(place.clone(), at, most, reply));
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Closes the file once everything before is written.
    pub(super) async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Job::Close(reply));
        answer.await.unwrap_or(Ok(()))
    }
}

fn gone() -> Error {
    Error::new(Kind::Stopped, "embedded log is closed")
}

/// Runs until the log is closed or nobody has it any more.
pub(super) async fn run(mut store: Store, mut jobs: UnboundedReceiver<Job>, shell: Weak<Shell>) {
    let mut batch = Vec::new();
    while jobs.recv_many(&mut batch, TOGETHER).await > 0 {
        let (mut changes, mut replies, mut reads, mut closing) = (Vec::new(), Vec::new(), Vec::new(), None);
        for job in batch.drain(..) {
            match job {
                Job::Store(more, reply) => {
                    changes.extend(more);
                    replies.push(reply);
                }
                Job::Read(place, at, most, reply) => reads.push((place, at, most, reply)),
                Job::Close(reply) => closing = Some(reply),
            }
        }
        let written = match changes.is_empty() {
            true => Ok(Vec::new()),
            false => store.write(&changes).await.map_err(|error| error.to_string()),
        };
        if let Some(shell) = shell.upgrade() {
            settle(&shell, &changes, &written);
        }
        // Whoever asked may have been cancelled.
        for reply in replies {
            let _ = reply.send(written.as_ref().map(drop).map_err(Clone::clone));
        }
        if written.is_err() {
            return;
        }
        for (place, at, most, reply) in reads {
            let _ = reply.send(store.read(&place, at, most).await);
        }
        if let Some(reply) = closing {
            let _ = reply.send(store.close().await);
            return;
        }
    }
    if let Err(error) = store.close().await {
        tracing::warn!(target: "tidelock::embedded", %error, "file");
    }
}

/// Lets the log know what is on disk. After a failure the file alone says what became of it: it must be opened again.
fn settle(shell: &Arc<Shell>, changes: &[Change], written: &Result<Vec<Left>, String>) {
    let settled = shell.apply(|state, now| match written {
        Ok(left) => {
            for change in changes {
                if let Change::Commit { id, .. } = change {
                    state.complete(id, now);
                }
            }
            left.iter().for_each(|left| state.restart(&left.place, left.start, left.oldest_ms));
        }
        Err(why) => {
            tracing::error!(target: "tidelock::embedded", why, "the log cannot go on until it is opened again");
            state.broken = Some(why.clone());
            state.changed = true;
        }
    });
    drop(settled);
}
