//! A member of a group of the embedded log, as its callers see it.

use std::{
    pin::pin,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use tokio::sync::mpsc::unbounded_channel;

use super::{
    client::Client, faults::Operation, groups::Proof, local::Local, member::Member, process::Answer,
    shell::Shell,
};
use crate::{
    error::{Error, Kind, Result},
    failpoint::{self, Variant},
    log::{Assignment, Consumer, ConsumerEvents, GroupMetadata, Subscription},
};

/// The calls of a member; its task does the rest.
pub(super) struct EmbeddedConsumer {
    client: Client,
    subscription: Subscription,
    local: Arc<Local>,
}

/// Proof of membership, and whose.
pub(super) struct LocalProof {
    shell: Weak<Shell>,
    proof: Proof,
}

impl LocalProof {
    /// The proof, if it is one of that log.
    pub(super) fn of(&self, shell: &Arc<Shell>) -> Option<&Proof> {
        self.shell.ptr_eq(&Arc::downgrade(shell)).then_some(&self.proof)
    }
}

impl EmbeddedConsumer {
    /// The task joins in the background.
    pub(super) fn start(client: Client, subscription: &Subscription) -> (Arc<Self>, ConsumerEvents) {
        let (sender, receiver) = unbounded_channel();
        let local = Arc::new(Local::new(sender));
        let member = Member::new(client.clone(), subscription, Arc::clone(&local));
        tokio::spawn(member.run());
        let taken = Arc::clone(&local);
        let events = ConsumerEvents::with(receiver, move |event| taken.taken(event));
        (Arc::new(Self { client, subscription: subscription.clone(), local }), events)
    }

    /// A call that cannot wait.
    fn now<T>(&self, operation: Operation, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let lost = |error: Error| Error::caused(Kind::Unassigned, "consumer cannot tell", error);
        let process = &self.client.process;
        let group = &self.subscription.group;
        let answer = process.enter_now(&self.client.shell, operation, group).map_err(lost)?;
        if process.is_dead() {
            return Err(Error::new(Kind::Unassigned, "consumer is dead"));
        }
        let result = work();
        match process.answer_now(answer, operation, group) {
            Ok(()) => result,
            Err(error) => Err(lost(error)),
        }
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    fn holds(&self, assignment: &Assignment) -> bool {
        self.local.lock().holds(assignment)
    }

    async fn committed(&self, assignment: &Assignment) -> Result<Option<i64>> {
        let (operation, group) = (Operation::Committed, &self.subscription.group);
        self.local.lock().require(assignment)?;
        let (shell, process) = (&self.client.shell, &self.client.process);
        let answer = process.enter(shell, operation, group).await?;
        let place = (Arc::clone(&assignment.topic), assignment.partition);
        let unstable = failpoint::left_out(Variant::UncommittedOffset);
        let mut open = None;
        let asked = shell.wait(process, shell.config.query_timeout, |state, _| {
            if let Err(error) = state.usable() {
                return Some(Err(error));
            }
            if unstable {
                return Some(Ok(state.unstable_offset(group, &place)));
            }
            match state.committed(group, &place) {
                Ok(offset) => Some(Ok(offset)),
                Err(error) => {
                    open = Some(error);
                    None
                }
            }
        });
        let result = match asked.await {
            Some((offset, _)) => offset,
            None => Err(open.unwrap_or_else(|| {
                Error::new(Kind::Timeout, format!("committed offset of {assignment}: no answer"))
            })),
        };
        let offset = process.answer(answer, operation, group, result).await?;
        self.local.lock().require(assignment)?;
        Ok(offset)
    }

    async fn start(&self, assignment: &Assignment, offset: i64) -> Result<u64> {
        let group = &self.subscription.group;
        self.local.lock().require(assignment)?;
        let started = self.client.call(Operation::Start, group, |_, _| {
            let started = self.local.lock().start(assignment, offset);
            self.local.bell.notify_one();
            started
        });
        started.await
    }

    fn pause(&self, assignment: &Assignment) -> Result<()> {
        self.now(Operation::Pause, || self.local.lock().set_paused(assignment, true))
    }

    fn resume(&self, assignment: &Assignment) -> Result<()> {
        self.now(Operation::Resume, || {
            self.local.lock().set_paused(assignment, false)?;
            self.local.bell.notify_one();
            Ok(())
        })
    }

    /// One step with respect to rebalances, because what is held stays locked throughout: an epoch ends before the
    /// member joins again, so that its partition is nobody else's while the generation below is the group's.
    fn metadata(&self, held: &[Assignment]) -> Result<GroupMetadata> {
        self.now(Operation::Metadata, || {
            let believed = self.local.lock();
            if believed.ended {
                return Err(Error::new(Kind::Unassigned, "consumer is closed"));
            }
            if !failpoint::left_out(Variant::UncheckedMetadata) {
                held.iter().try_for_each(|each| believed.require(each))?;
            }
            let (member, generation) = believed
                .membership
                .ok_or_else(|| Error::new(Kind::Unassigned, "consumer is not a member of its group now"))?;
            let Subscription { group, instance, .. } = self.subscription.clone();
            Ok(GroupMetadata(Box::new(LocalProof {
                shell: Arc::downgrade(&self.client.shell),
                proof: Proof { group, member, instance, generation },
            })))
        })
    }

    async fn close(&self) {
        let (operation, group) = (Operation::Close, &self.subscription.group);
        let (shell, process) = (&self.client.shell, &self.client.process);
        let answer = match process.enter(shell, operation, group).await {
            Ok(answer) => answer,
            // Whoever closes does not ask again; the group finds out by itself.
            Err(_) => {
                self.local.lock().dropped = true;
                Answer::Given
            }
        };
        self.local.lock().closing = true;
        self.local.bell.notify_one();
        loop {
            let mut ended = pin!(self.local.ended.notified());
            ended.as_mut().enable();
            if self.local.lock().ended {
                break;
            }
            ended.await;
        }
        // A lost answer changes nothing: there is none.
        let _ = process.answer(answer, operation, group, Ok(())).await;
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.local.lock().closing = true;
        self.local.bell.notify_one();
    }
}
