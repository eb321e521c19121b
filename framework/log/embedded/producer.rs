//! A transactional producer of the embedded log.

use async_trait::async_trait;
use tokio::time::Instant;

use super::{client::Client, consumer::LocalProof, faults::Operation};
use crate::{
    error::{Error, Kind, Result},
    failpoint::{self, Variant},
    log::{Commit, GroupMetadata, PartitionOffset, Producer, Record, Refusal, Rotation},
};

/// One epoch of a transactional id.
pub(super) struct EmbeddedProducer {
    client: Client,
    id: String,
    epoch: u64,
    /// A transaction is open on our side; the log knows of it once anything is sent.
    open: bool,
    sent: usize,
    touched: bool,
    refusals: Vec<Refusal>,
    failure: Option<Error>,
    rotation: Option<Rotation>,
    commit_tried: bool,
}

impl EmbeddedProducer {
    pub(super) fn new(client: Client, id: &str, epoch: u64) -> Self {
        Self {
            client,
            id: id.to_owned(),
            epoch,
            open: false,
            sent: 0,
            touched: false,
            refusals: Vec::new(),
            failure: None,
            rotation: None,
            commit_tried: false,
        }
    }

    /// The first reason stands, but for reasons that say more.
    fn rotate(&mut self, why: Rotation) {
        if self.rotation.is_none() || why == Rotation::Fenced {
            self.rotation = Some(why);
        }
    }

    fn failed(&mut self, error: &Error, why: Rotation) {
        self.rotate(match error.kind() {
            Kind::Fenced => Rotation::Fenced,
            _ => why,
        });
    }

    /// Marks the transaction as one that a cancelled caller leaves in an unknown state; undone after the call.
    fn enter(&mut self) -> Option<Rotation> {
        let before = self.rotation;
        self.rotation = before.or(Some(Rotation::Unknown));
        before
    }

    fn slow(&self, since: Instant) -> bool {
        since.elapsed() >= self.client.shell.config.slow_call
    }

    /// Hands records over to the log; what it refuses is noted.
    async fn append(&mut self, records: Vec<Record>) -> Result<()> {
        let first = self.sent;
        self.sent += records.len();
        self.touched = true;
        let (id, epoch) = (self.id.clone(), self.epoch);
        let refused = self
            .client
            .call(Operation::Send, &id, |state, now| {
                state.usable()?;
                state.append(&id, epoch, records, now)
            })
            .await?;
        let refused = refused.into_iter();
        self.refusals.extend(refused.map(|(place, reason)| Refusal::new(first + place, reason)));
        Ok(())
    }
}

#[async_trait]
impl Producer for EmbeddedProducer {
    fn transactional_id(&self) -> &str {
        &self.id
    }

    async fn begin(&mut self) -> Result<()> {
        if let Some(why) = self.must_rotate() {
            return Err(Error::new(Kind::Conflict, format!("producer {:?} must be rotated: {why}", self.id)));
        }
        let before = self.enter();
        let open = self.open;
        let begun = self
            .client
            .call(Operation::Begin, &self.id, |_, _| match open {
                true => Err(Error::new(Kind::Unavailable, "a transaction is open already")),
                false => Ok(()),
            })
            .await;
        self.rotation = before;
        if let Err(error) = begun {
            self.failed(&error, Rotation::Unknown);
            return Err(error);
        }
        (self.open, self.sent, self.touched, self.commit_tried) = (true, 0, false, false);
        self.refusals.clear();
        self.failure = None;
        Ok(())
    }

    async fn send(&mut self, records: Vec<Record>) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if !self.open {
            let text = format!("records of producer {:?} are outside of a transaction", self.id);
            return Err(Error::new(Kind::Unavailable, text));
        }
        if self.rotation == Some(Rotation::Fenced) {
            return Err(Error::new(Kind::Fenced, format!("producer {:?} is fenced", self.id)));
        }
        let before = self.enter();
        let sent = self.append(records).await;
        self.rotation = before;
        if let Err(error) = sent {
            self.failure.get_or_insert(error);
        }
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<Vec<Refusal>> {
        if let Err(error) = self.client.call(Operation::Acknowledged, &self.id, |_, _| Ok(())).await {
            self.rotate(Rotation::Unknown);
            return Err(error);
        }
        let mut refusals = std::mem::take(&mut self.refusals);
        refusals.sort_by_key(|refusal| refusal.index);
        let failure = self.failure.take();
        // What was taken must keep the transaction from being committed.
        if !refusals.is_empty() || failure.is_some() {
            let text = "a record of this transaction was not acknowledged";
            self.failure = Some(Error::new(Kind::Conflict, text));
        }
        match failure {
            Some(error) if refusals.is_empty() => {
                if error.kind() == Kind::Fenced {
                    self.rotate(Rotation::Fenced);
                }
                Err(error)
            }
            _ => Ok(refusals),
        }
    }

    async fn send_offsets(&mut self, offsets: &[PartitionOffset], group: GroupMetadata) -> Result<()> {
        let foreign = || Error::new(Kind::Config, "group metadata of another log");
        let local = group.0.downcast::<LocalProof>().map_err(|_| foreign())?;
        let proof = local.of(&self.client.shell).ok_or_else(foreign)?;
        let (before, started) = (self.enter(), Instant::now());
        let (id, epoch, open) = (self.id.clone(), self.epoch, self.open);
        self.touched = true;
        let result = self
            .client
            .call(Operation::SendOffsets, &id, |state, now| {
                state.usable()?;
                match open {
                    true => state.add_offsets(&id, epoch, offsets, proof, now),
                    false => Err(Error::new(Kind::Unavailable, "offsets are outside of a transaction")),
                }
            })
            .await;
        self.rotation = before;
        if let Some(why) = Rotation::after_offsets(&result, self.slow(started)) {
            self.rotate(why);
        }
        result
    }

    async fn commit(&mut self) -> Commit {
        if let Some(answer) = Rotation::forbids_commit(self.rotation) {
            return answer;
        }
        if self.open && (self.failure.is_some() || !self.refusals.is_empty()) {
            self.rotate(Rotation::Aborted);
            let text = format!("records of producer {:?} are not acknowledged", self.id);
            return Commit::Aborted(Error::new(Kind::Conflict, text));
        }
        let before = self.rotation;
        self.rotation = Some(Rotation::Unknown);
        self.commit_tried = true;
        let (id, epoch, open, touched) = (self.id.clone(), self.epoch, self.open, self.touched);
        let started = Instant::now();
        let mut effective = started;
        let result = self
            .client
            .call(Operation::Commit, &id, |state, now| {
                effective = Instant::now();
                match open {
                    // An empty transaction sends nothing.
                    true if !touched => Ok(()),
                    true => state.usable().and_then(|()| state.commit(&id, epoch, now)),
                    false => Err(Error::new(Kind::Unavailable, "no transaction is open")),
                }
            })
            .await;
        self.rotation = before;
        match result {
            Ok(()) => {
                self.open = false;
                if effective - started >= self.client.shell.config.slow_call {
                    self.rotate(Rotation::SlowCommit);
                }
                Commit::Committed
            }
            Err(error) => {
                self.failed(&error, Rotation::Unknown);
                Commit::Unknown(error)
            }
        }
    }

    async fn abort(&mut self) {
        let fenced = self.rotation == Some(Rotation::Fenced);
        if !failpoint::left_out(Variant::NoRotation) {
            self.rotate(Rotation::Aborted);
        }
        // After a failed commit an abort could undo what is about to be completed.
        if self.commit_tried || fenced {
            return;
        }
        let (id, epoch, nothing) = (self.id.clone(), self.epoch, !self.open || !self.touched);
        let result = self
            .client
            .call(Operation::Abort, &id, |state, _| match nothing {
                true => Ok(()),
                false => state.abort(&id, epoch),
            })
            .await;
        self.open = false;
        if let Err(error) = result {
            tracing::debug!(target: "tidelock::embedded", id = self.id, %error, "abort");
        }
    }

    fn must_rotate(&self) -> Option<Rotation> {
        self.rotation
    }
}
