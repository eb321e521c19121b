//! What the world of the relay consists of.

use super::outbox::{Outbox, Snapshot, Status};
use crate::model::kafka::{Answer, Log, Transaction, Write};

/// Data partitions 0 and 1, and the shard's partition of the progress topic.
pub(super) const PROGRESS: u8 = 2;
/// The position among what a transaction still has to send.
pub(super) const POSITION: u8 = 1 << 7;
/// All relays of a shard use one transactional id.
const ID: u8 = 0;

/// A request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Request {
    pub(super) epoch: u8,
    pub(super) call: Call,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Call {
    Init,
    Add { partition: u8 },
    Produce { partition: u8, sequence: u8, value: u16 },
    End { commit: bool },
}

/// Where a relay stands: what it does next, or the request whose answer it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Not running.
    Down,
    /// `init_transactions`.
    Init,
    /// `ShardRelay::durable_position`.
    Find,
    /// `Reader::read`.
    Read,
    /// AddPartitionsToTxn or Produce for the first of what is left.
    Send,
    /// `Reader::durable`.
    Flush,
    /// EndTxn(commit).
    Commit,
    /// EndTxn(abort).
    Abort,
    /// Ended for good: the database's transaction ids went back.
    Stopped,
}

/// A `ShardRelay` with its session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Relay {
    pub(super) step: Step,
    pub(super) epoch: u8,
    /// The next sequence number of each partition.
    pub(super) sequences: [u8; 3],
    /// What is published, as this relay knows it.
    pub(super) position: Snapshot,
    /// The snapshot of the batch.
    pub(super) until: Snapshot,
    /// The end of the database's log at that snapshot.
    pub(super) wal: u8,
    /// The connection's database.
    pub(super) life: u8,
    /// What is not yet sent: a bit for each row, and the position.
    pub(super) left: u8,
    /// Partitions of the transaction.
    pub(super) added: u8,
    /// The commit was asked for more than once.
    pub(super) slow: bool,
    /// The rows were committed apart from the position.
    pub(super) apart: bool,
}

impl Relay {
    pub(super) fn down() -> Self {
        Self {
            step: Step::Down,
            epoch: 0,
            sequences: [0; 3],
            position: Snapshot::default(),
            until: Snapshot::default(),
            wal: 0,
            life: 0,
            left: 0,
            added: 0,
            slow: false,
            apart: false,
        }
    }

    pub(super) fn runs(&self) -> bool {
        !matches!(self.step, Step::Down | Step::Stopped)
    }

    /// Its own step would end the coordinator's transaction sooner or later.
    pub(super) fn attends(&self, epoch: u8) -> bool {
        match self.step {
            Step::Init => true,
            Step::Send | Step::Flush | Step::Commit | Step::Abort => self.epoch == epoch,
            Step::Down | Step::Find | Step::Read | Step::Stopped => false,
        }
    }
}

/// How many faults may still happen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Of all kinds together.
    pub(super) all: u8,
    /// A relay dies.
    pub(super) crashes: u8,
    /// The client sends a request again, and a copy of it stays on its way.
    pub(super) copies: u8,
    /// The client stops waiting for an answer; the request may still arrive.
    pub(super) silences: u8,
    /// A relay aborts, as for a record that is refused.
    pub(super) aborts: u8,
    /// A second relay starts while the first one runs.
    pub(super) take_overs: u8,
    /// The coordinator ends the transaction of a relay that is alive.
    pub(super) expiries: u8,
    /// The database server dies.
    pub(super) databases: u8,
}

/// The world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) outbox: Outbox,
    pub(super) transaction: Transaction,
    pub(super) logs: [Log; 3],
    pub(super) relays: [Relay; 2],
    /// Requests that nobody waits for.
    pub(super) network: Vec<Request>,
    pub(super) budget: Budget,
}

impl State {
    /// A broker takes a request.
    pub(super) fn execute(&mut self, request: Request, verification: bool) -> Answer {
        let Request { epoch, call } = request;
        match call {
            Call::Init => self.transaction.init(),
            Call::Add { partition } => self.transaction.add(epoch, partition),
            Call::End { commit } => self.transaction.end(epoch, commit),
            Call::Produce { partition, sequence, value } => {
                let verified = !verification || self.transaction.verifies(epoch, partition);
                self.logs[partition as usize].write(Write { by: ID, epoch, sequence, value, verified })
            }
        }
    }

    pub(super) fn mark(&mut self, partition: u8) -> Option<()> {
        let commit = self.transaction.marker(partition)?;
        self.logs[partition as usize].mark(ID, self.transaction.epoch, commit);
        Some(())
    }

    pub(super) fn delay(&mut self, request: Request) {
        self.network.push(request);
        self.network.sort_unstable();
    }

    /// Forgets requests that no broker would take any more: epochs never fall.
    pub(super) fn tidy(&mut self, verification: bool) {
        let (logs, transaction) = (&self.logs, &self.transaction);
        self.network.retain(|Request { epoch, call }| match call {
            Call::Init => true,
            Call::Add { .. } | Call::End { .. } => *epoch == transaction.epoch,
            Call::Produce { partition, sequence, .. } => {
                let log = &logs[*partition as usize];
                log.expects(ID, *epoch).is_some_and(|expected| *sequence >= expected)
                    && (!verification || *epoch == transaction.epoch || !log.settled())
            }
        });
    }

    /// The last committed position.
    pub(super) fn position(&self) -> Snapshot {
        self.logs[PROGRESS as usize].committed().last().map_or_else(Snapshot::default, Snapshot::decode)
    }

    fn published(&self, row: usize, keys: &[u8]) -> usize {
        self.logs[keys[row] as usize].times(row as u16)
    }

    /// What a position covers is published, as soon as the markers are written.
    pub(super) fn no_loss(&self, keys: &[u8]) -> bool {
        let position = self.position();
        self.transaction.preparing()
            || self.outbox.rows.iter().enumerate().all(|(index, row)| {
                row.status != Status::Committed || !position.sees(row.xid) || self.published(index, keys) > 0
            })
    }

    pub(super) fn no_duplicate(&self, keys: &[u8]) -> bool {
        (0..keys.len()).all(|row| self.published(row, keys) <= 1)
    }

    /// Keys have partitions of their own here, and a later row of a key begins after the earlier one has ended.
    pub(super) fn in_order(&self) -> bool {
        let [data @ .., progress] = &self.logs;
        data.iter().all(|log| log.committed().is_sorted())
            && progress
                .committed()
                .is_sorted_by(|earlier, later| Snapshot::decode(*later).covers(Snapshot::decode(*earlier)))
    }

    pub(super) fn no_phantom(&self) -> bool {
        let data = self.logs.iter().take(PROGRESS as usize);
        data.flat_map(Log::committed).all(|row| self.outbox.rows[row as usize].status == Status::Committed)
    }

    pub(super) fn done(&self, keys: &[u8]) -> bool {
        let finished = |(index, status)| match status {
            Status::Committed => self.published(index, keys) > 0,
            Status::Gone => true,
            Status::New | Status::Open => false,
        };
        self.outbox.rows.iter().map(|row| row.status).enumerate().all(finished)
            && self.logs.iter().all(Log::settled)
    }
}
