//! The task that writes the file: what waits at the same time is written together.

use std::{
    ops::Range,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::timeout,
};

use super::{
    journal::{Change, Failure},
    shell::Shell,
    state::Place,
    store::{Left, Store},
};
use crate::{
    error::{Kind, Result},
    log::Received,
};

/// The most jobs that are done together.
const TOGETHER: usize = 1_000;
/// How long after a failure it is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// Whether something is on disk.
type Written = Result<(), Failure>;
type Read = Result<(Vec<Received>, i64)>;
/// Where to read, and how many records and bytes at most.
type Wanted = (Place, Range<i64>, (usize, usize));

/// The way to the file.
pub(super) struct Writer(UnboundedSender<Job>);

pub(super) enum Job {
    Store(Vec<Change>, oneshot::Sender<Written>),
    Read(Wanted, oneshot::Sender<Read>),
    Close(oneshot::Sender<Result<()>>),
}

/// Something on its way to the file, or nothing.
#[derive(Default)]
#[must_use]
pub(super) struct Saved(Option<oneshot::Receiver<Written>>);

impl Saved {
    /// Waits until it is on disk.
    pub(super) async fn wait(self) -> Result<()> {
        let Some(answer) = self.0 else { return Ok(()) };
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(failure.error()),
            Err(_) => Err(closed().error()),
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
    pub(super) async fn read(&self, place: &Place, at: Range<i64>, most: (usize, usize)) -> Read {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Job::Read((place.clone(), at, most), reply));
        answer.await.unwrap_or_else(|_| Err(closed().error()))
    }

    /// Closes the file once everything before is written.
    pub(super) async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Job::Close(reply));
        answer.await.unwrap_or(Ok(()))
    }
}

pub(super) fn closed() -> Failure {
    Failure { kind: Kind::Unavailable, text: "embedded log is closed".to_owned() }
}

/// What of a batch of jobs is left to do once the changes are written.
#[derive(Default)]
struct Rest {
    replies: Vec<oneshot::Sender<Written>>,
    reads: Vec<(Wanted, oneshot::Sender<Read>)>,
    closing: Option<oneshot::Sender<Result<()>>>,
}

impl Rest {
    /// Takes the changes out of it.
    fn of(batch: &mut Vec<Job>, changes: &mut Vec<Change>) -> Self {
        let mut rest = Self::default();
        for job in batch.drain(..) {
            match job {
                Job::Store(more, reply) => {
                    changes.extend(more);
                    rest.replies.push(reply);
                }
                Job::Read(wanted, reply) => rest.reads.push((wanted, reply)),
                Job::Close(reply) => rest.closing = Some(reply),
            }
        }
        rest
    }
}

/// Runs until the log is closed, nobody has it any more, or the file must be opened again.
pub(super) async fn run(mut store: Store, mut jobs: UnboundedReceiver<Job>, shell: Weak<Shell>) {
    // Changes that could not be written stay where they are, before all later ones: what is in memory has gone on from
    // them.
    let (mut batch, mut changes) = (Vec::new(), Vec::new());
    loop {
        let next = jobs.recv_many(&mut batch, TOGETHER);
        let received = match changes.is_empty() {
            true => Some(next.await),
            false => timeout(AGAIN, next).await.ok(),
        };
        let rest = Rest::of(&mut batch, &mut changes);
        let written = match changes.is_empty() {
            true => Ok(Vec::new()),
            false => store.write(&changes).await.map_err(|error| Failure::of(&error)),
        };
        if let Some(shell) = shell.upgrade() {
            settle(&shell, &changes, &written);
        }
        // Whoever asked may have been cancelled.
        for reply in rest.replies {
            let _ = reply.send(written.as_ref().map(drop).map_err(Clone::clone));
        }
        let undecided = written.as_ref().err().filter(|failure| failure.kind == Kind::Storage);
        for ((place, at, most), reply) in rest.reads {
            let _ = reply.send(match undecided {
                None => store.read(&place, at, most).await,
                Some(failure) => Err(failure.error()),
            });
        }
        let over = received == Some(0) || rest.closing.is_some();
        let failure = match written {
            Err(failure) if failure.kind == Kind::Unavailable && !over => continue,
            Err(failure) => Some(failure),
            Ok(_) if over => None,
            Ok(_) => {
                changes.clear();
                continue;
            }
        };
        // The file is given back also when it failed, so that it can be opened again.
        let mut closing = store.close().await;
        if let Some(failure) = &failure {
            closing = Err(failure.error());
        }
        match (rest.closing, closing) {
            (Some(reply), closing) => drop(reply.send(closing)),
            (None, Err(error)) => tracing::warn!(target: "tidelock::embedded", %error, "file"),
            (None, Ok(())) => {}
        }
        return refuse(jobs, &failure.unwrap_or_else(closed)).await;
    }
}

/// Nothing is written or read any more.
async fn refuse(mut jobs: UnboundedReceiver<Job>, why: &Failure) {
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Store(_, reply) => drop(reply.send(Err(why.clone()))),
            Job::Read(_, reply) => drop(reply.send(Err(why.error()))),
            Job::Close(reply) => drop(reply.send(Ok(()))),
        }
    }
}

/// Lets the log know what is on disk. A failure after which the file alone knows is the end.
fn settle(shell: &Arc<Shell>, changes: &[Change], written: &Result<Vec<Left>, Failure>) {
    let settled = shell.apply(|state, now| match written {
        Ok(left) => {
            for change in changes {
                if let Change::Commit { id, .. } = change {
                    state.complete(id, now);
                }
            }
            left.iter().for_each(|left| state.restart(&left.place, left.start, left.oldest_ms));
            if state.stalled.take().is_some() {
                tracing::info!(target: "tidelock::embedded", "the file can be written again");
                state.changed = true;
            }
        }
        Err(failure) if failure.kind == Kind::Storage => {
            let why = &failure.text;
            tracing::error!(target: "tidelock::embedded", why, "the log cannot go on until it is opened again");
            state.broken.get_or_insert_with(|| failure.clone());
            state.changed = true;
        }
        Err(failure) if state.stalled.as_ref() != Some(failure) => {
            let why = &failure.text;
            tracing::error!(target: "tidelock::embedded", why, "the file cannot be written, it is tried again");
            state.stalled = Some(failure.clone());
            state.changed = true;
        }
        Err(_) => {}
    });
    drop(settled);
}
