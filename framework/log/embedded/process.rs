//! A simulated process: it runs, stands still, or is dead; and what becomes of each of its calls.

use std::{
    future::pending,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time};

use super::{
    faults::{Call, Fault, Operation},
    shell::Shell,
};
use crate::error::{Error, Kind, Result};

/// Whether a process makes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Running,
    Frozen,
    Dead,
}

/// One process, as far as the log can tell.
pub(super) struct Process {
    name: String,
    status: Mutex<Status>,
    thawed: Notify,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Answer {
    Given,
    Lost,
    Never,
}

impl Process {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), status: Mutex::new(Status::Running), thawed: Notify::new() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// While this is held the process neither stops nor goes on.
    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The dead stay dead.
    pub(super) fn set(&self, to: Status) {
        let mut status = self.status();
        if *status != Status::Dead {
            *status = to;
        }
        drop(status);
        self.thawed.notify_waiters();
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.status() == Status::Dead
    }

    /// Waits until the process runs: never, once it is dead.
    pub(super) async fn running(&self) {
        if !self.lives().await {
            pending().await
        }
    }

    /// Waits until the process runs; false once it is dead.
    pub(super) async fn lives(&self) -> bool {
        loop {
            let mut thawed = pin!(self.thawed.notified());
            thawed.as_mut().enable();
            let status = *self.status();
            match status {
                Status::Running => return true,
                Status::Frozen => thawed.await,
                Status::Dead => return false,
            }
        }
    }

    /// Asks what goes wrong with a call that may wait.
    ///
    /// # Errors
    /// Kind `Timeout` when the request is lost.
    pub(super) async fn enter(&self, shell: &Shell, operation: Operation, about: &str) -> Result<Answer> {
        self.running().await;
        let fault = self.fault(shell, operation, about);
        if let Fault::Delay(delay) = fault {
            time::sleep(delay).await;
        }
        let answer = self.befall(shell, fault, operation, about);
        self.running().await;
        answer
    }

    /// The same for a call that cannot wait.
    pub(super) fn enter_now(&self, shell: &Shell, operation: Operation, about: &str) -> Result<Answer> {
        let fault = self.fault(shell, operation, about);
        self.befall(shell, fault, operation, about)
    }

    fn fault(&self, shell: &Shell, operation: Operation, about: &str) -> Fault {
        let call = Call { client: &self.name, operation, about };
        shell.faults.get().map_or(Fault::None, |faults| faults.at(&call))
    }

    fn befall(&self, shell: &Shell, fault: Fault, operation: Operation, about: &str) -> Result<Answer> {
        match fault {
            Fault::None | Fault::Delay(_) => {}
            Fault::LoseRequest => return Err(lost(operation, about)),
            Fault::LoseAnswer => return Ok(Answer::Lost),
            Fault::KillAfter => return Ok(Answer::Never),
            Fault::Kill => self.set(Status::Dead),
            Fault::Fence if operation.is_transactional() => {
                drop(shell.apply(|state, _| state.init(about)));
            }
            Fault::AbortTransaction if operation.is_transactional() => {
                drop(shell.apply(|state, _| state.time_out(about)));
            }
            Fault::Fence | Fault::AbortTransaction => {}
        }
        Ok(Answer::Given)
    }

    /// Gives the answer to a call, if it is to arrive at all.
    ///
    /// # Errors
    /// Kind `Timeout` when the answer is lost.
    pub(super) async fn answer<T>(
        &self,
        answer: Answer,
        operation: Operation,
        about: &str,
        result: Result<T>,
    ) -> Result<T> {
        let lost = self.answer_now(answer, operation, about);
        self.running().await;
        lost.and(result)
    }

    /// The same for a call that cannot wait.
    pub(super) fn answer_now(&self, answer: Answer, operation: Operation, about: &str) -> Result<()> {
        match answer {
            Answer::Given => Ok(()),
            Answer::Lost => Err(lost(operation, about)),
            Answer::Never => {
                self.set(Status::Dead);
                Err(lost(operation, about))
            }
        }
    }
}

fn lost(operation: Operation, about: &str) -> Error {
    Error::new(Kind::Timeout, format!("no answer to {operation:?} of {about:?} came in time"))
}
