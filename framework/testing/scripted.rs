//! A handler that does what it is told.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use crate::{
    database::Database,
    error::{BoxError, Result},
    event::Event,
    handler::{Context, Handler, Outcome},
    message::Message,
};

/// Answers each execution with the next of the given answers, with [`Outcome::Done`] when there are no more, and
/// remembers what it saw. Its clones are the same handler.
pub struct Scripted<E>(Arc<Mutex<Memory<E>>>);

struct Memory<E> {
    answers: VecDeque<Result<Outcome, BoxError>>,
    seen: Vec<Message<E>>,
}

impl<E> Clone for Scripted<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> fmt::Debug for Scripted<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.debug_struct("Scripted")
            .field("answers", &memory.answers)
            .field("seen", &memory.seen.len())
            .finish()
    }
}

impl<E: Event + Clone> Scripted<E> {
    /// With these answers, in order.
    pub fn new(answers: impl IntoIterator<Item = Result<Outcome, BoxError>>) -> Self {
        Self(Arc::new(Mutex::new(Memory { answers: answers.into_iter().collect(), seen: Vec::new() })))
    }

    /// Every message it was given so far, rolled-back executions included.
    pub fn seen(&self) -> Vec<Message<E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).seen.clone()
    }
}

#[async_trait]
impl<D: Database, E: Event + Clone> Handler<D> for Scripted<E> {
    type Event = E;

    async fn handle(&self, message: &Message<E>, _: &mut Context<'_, D>) -> Result<Outcome, BoxError> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.seen.push(message.clone());
        memory.answers.pop_front().unwrap_or(Ok(Outcome::Done))
    }
}
