//! The steps at assignment, and wherever the outcome of the last transaction is not known.

use bytes::Bytes;
use tracing::{debug, info};

use super::{
    assignment::{Decision, adopt, decide},
    committer::Verdict,
    partition::{Partition, verdict},
};
use crate::{
    database::{Database, Fence},
    error::{Error, Kind, Result},
    failpoint::{Point, Variant, hit, left_out},
    log::codec,
};

impl<D: Database> Partition<D> {
    /// The steps at assignment: D, K, D again, and whatever is left to do until both agree. Answers where to go on.
    pub(crate) async fn take_over(&mut self) -> Result<i64> {
        self.shared.same.doubt(&self.key.topic);
        loop {
            self.same_topic().await?;
            let (fence, committed) = self.look().await?;
            let decision = decide(&self.at, fence.as_ref(), committed)?;
            debug!(processor = self.name(), ?decision, "taking over");
            self.claim = fence.as_ref().map_or(0, |fence| fence.claim);
            let (next_offset, pending) = match decision {
                Decision::Continue(next) => match fence.filter(|_| left_out(Variant::PendingAgain)) {
                    Some(fence) if self.next != next => (next, fence.pending),
                    _ => return Ok(next),
                },
                Decision::Resend(next) => {
                    hit(Point::P8);
                    let fence = fence.unwrap_or_default();
                    self.end_transaction_of(&fence.owner).await?;
                    self.claim_outputs(&fence).await?;
                    (next, if left_out(Variant::PendingUnsent) { Bytes::new() } else { fence.pending })
                }
                Decision::Announce(next) => (next, Bytes::new()),
                Decision::First => {
                    let start = self.first_start().await?;
                    self.shared
                        .database
                        .insert_fence(&self.key, start, &self.shared.transactional_id)
                        .await?;
                    if D::FENCED {
                        continue;
                    }
                    (start, Bytes::new())
                }
                Decision::Adopt(committed) => {
                    let first = self.shared.first_start(&self.key).await?;
                    adopt::<D>(&self.at, self.shared.config.adopt, first.fenced, committed)?;
                    self.shared
                        .database
                        .insert_fence(&self.key, committed, &self.shared.transactional_id)
                        .await?;
                    if D::FENCED {
                        continue;
                    }
                    return Ok(committed);
                }
            };
            self.submit(codec::decode(&pending)?, self.submitted(next_offset, pending));
            let (verdict, batch) = verdict(&mut self.in_flight).await;
            if matches!(verdict, Verdict::Committed) {
                return Ok(next_offset);
            }
            if !self.shared.consumer.holds(&self.at) {
                return Err(Error::new(Kind::Unassigned, format!("{} was taken away", self.at)));
            }
            match verdict {
                Verdict::Refused(refusals) => self.quarantine(&refusals, &batch).await?,
                Verdict::Look(kind, reason) => {
                    let text = format!("{}: offset {next_offset} was not committed: {reason}", self.at);
                    let kind = if kind == Kind::Denied { kind } else { Kind::Unavailable };
                    return Err(Error::new(kind, text));
                }
                Verdict::Committed => {}
            }
        }
    }

    /// Makes the outputs of this row ours: whoever sent them before, and was refused, may be about to move them to the
    /// quarantine.
    ///
    /// # Errors
    /// Kind `Conflict` when somebody else was faster, so that two who both take the partition for theirs do not end each
    /// other's transactions without a pause.
    async fn claim_outputs(&mut self, fence: &Fence) -> Result<()> {
        if left_out(Variant::OutputsUnclaimed) {
            return Ok(());
        }
        let seen = self.submitted(fence.next_offset, fence.pending.clone());
        let claim =
            self.shared.database.claim_outputs(&self.key, &seen, &self.shared.transactional_id).await?;
        let what = || format!("{}: somebody else moved the fence, or sends its outputs", self.at);
        self.claim = claim.ok_or_else(|| Error::new(Kind::Conflict, what()))?;
        Ok(())
    }

    /// D, K, D: started over while somebody else moves the fence. K waits for open transactions; where a dead
    /// owner's keeps it waiting, initialising that owner's transactional id ends it; once, for if it waits on, it was not that.
    async fn look(&self) -> Result<(Option<Fence>, Option<i64>)> {
        let mut ended = None;
        loop {
            let before = self.shared.database.fence(&self.key).await?;
            let committed = match self.shared.consumer.committed(&self.at).await {
                Ok(committed) => committed,
                Err(error) if error.kind() == Kind::Timeout && left_out(Variant::TimeoutIsAbsent) => None,
                Err(error) if error.kind() == Kind::Timeout => {
                    let owner = before.unwrap_or_default().owner;
                    if ended.as_ref() == Some(&owner) || !self.end_transaction_of(&owner).await? {
                        return Err(error);
                    }
                    ended = Some(owner);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.shared.database.fence(&self.key).await? == before {
                return Ok((before, committed));
            }
        }
    }

    /// The last owner may have died with a transaction open, which holds back readers until its time-out. One that is
    /// alive is fenced by this too, and just takes a new producer. Answers whether there is one beside us.
    async fn end_transaction_of(&self, owner: &str) -> Result<bool> {
        if owner.is_empty() || owner == self.shared.transactional_id || left_out(Variant::NoOwnerFence) {
            return Ok(false);
        }
        info!(processor = self.name(), owner, "ending the open transaction of the last owner");
        self.shared.log.producer(owner).await?;
        Ok(true)
    }

    async fn first_start(&self) -> Result<i64> {
        let first = self.shared.first_start(&self.key).await?;
        let bounds = self.shared.log.bounds(&self.at.topic, self.at.partition).await?;
        if left_out(Variant::StartAtEnd) {
            return Ok(bounds.end);
        }
        Ok(self.shared.config.start.offset(bounds, self.at.partition < first.partitions))
    }
}
