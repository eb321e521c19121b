//! What the world of the processor consists of.

use super::group::{Group, Offsets};
use crate::model::kafka::{Answer, Log, Transaction, Write};

/// The partition of outputs, in the coordinator's eyes.
pub(super) const OUTPUT: u8 = 0;
/// The group's partition of `__consumer_offsets`.
pub(super) const OFFSETS: u8 = 1;
/// No offset.
pub(super) const NONE: u8 = u8::MAX;

/// A request on its way, by the transactional id of instance `by`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Request {
    pub(super) by: u8,
    pub(super) epoch: u8,
    pub(super) call: Call,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Call {
    Init,
    Add {
        partition: u8,
    },
    Produce {
        sequence: u8,
        value: u16,
    },
    /// TxnOffsetCommit; generation 0 is none.
    Offsets {
        generation: u8,
        offsets: [u8; 2],
    },
    End {
        commit: bool,
    },
}

/// The fence row of a partition; what is pending are the outputs of the inputs from `from` up to `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fence {
    pub(super) next: u8,
    pub(super) from: u8,
    pub(super) owner: u8,
}

impl Fence {
    pub(super) const fn new() -> Self {
        Self { next: 0, from: NONE, owner: NONE }
    }
}

/// A database transaction whose COMMIT was sent and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Advance {
    pub(super) partition: u8,
    pub(super) from: u8,
    pub(super) to: u8,
    pub(super) owner: u8,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Database {
    pub(super) fences: [Fence; 2],
    /// A bit for each input whose effect is there.
    pub(super) effects: [u8; 2],
    /// An effect happened twice.
    pub(super) twice: bool,
}

impl Database {
    /// `UPDATE fence .. WHERE next_offset = from` and COMMIT; whether a row was changed.
    pub(super) fn advance(&mut self, advance: Advance, compare: bool) -> bool {
        let Advance { partition, from, to, owner } = advance;
        let fence = &mut self.fences[partition as usize];
        if compare && fence.next != from {
            return false;
        }
        *fence = Fence { next: to, from, owner };
        let effects = &mut self.effects[partition as usize];
        let new = (from..to).fold(0, |bits, input| bits | 1 << input);
        self.twice |= *effects & new != 0;
        *effects |= new;
        true
    }
}

/// Where a worker of a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// The partition is not held.
    Away,
    /// `Partition::look`: the fence row, then the committed offset, then the fence row again.
    ReadFence,
    ReadOffset,
    Decide,
    /// `Partition::end_transaction_of`.
    EndOwner,
    /// `Partition::claim_outputs`.
    Claim,
    /// A submission's verdict is awaited.
    Wait,
    /// A batch may be handled and committed.
    Handle,
    /// Fence and offset do not fit together: an operator decides.
    Stopped,
}

/// `Partition`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    pub(super) work: Work,
    /// Raised by every assignment.
    pub(super) assignment: u8,
    pub(super) next: u8,
    pub(super) fence: Fence,
    /// The row was claimed since. A number in the row says so; here it would have no end.
    pub(super) claimed: bool,
    pub(super) committed: u8,
    /// The epoch under which it had the owner's transaction aborted.
    pub(super) ended: u8,
}

impl Worker {
    pub(super) const fn away(assignment: u8) -> Self {
        Self {
            work: Work::Away,
            assignment,
            next: 0,
            fence: Fence::new(),
            claimed: false,
            committed: 0,
            ended: 0,
        }
    }

    /// Whether the row is still what it read.
    pub(super) fn sees(&self, fence: Fence) -> bool {
        self.fence == fence && !self.claimed
    }

    /// Somebody else claims the row.
    pub(super) fn outdate(&mut self) {
        self.claimed |= matches!(self.work, Work::ReadOffset | Work::Decide | Work::EndOwner | Work::Claim);
    }

    /// Forgets what it looked up.
    pub(super) fn turn(&mut self, work: Work) {
        *self = Self { work, next: self.next, ..Self::away(self.assignment) };
    }
}

/// `Submission`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Submission {
    pub(super) partition: u8,
    pub(super) assignment: u8,
    /// Outputs of the inputs from here; `to` when there are none to send.
    pub(super) from: u8,
    pub(super) to: u8,
}

/// Why a producer is initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Renewal {
    /// At start, before the group is joined.
    Start,
    /// Before the next transaction.
    Before,
    /// After a transaction that was not committed, before anybody looks.
    After,
}

/// Where the committer stands: what it does next, or the request whose answer it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cycle {
    Idle,
    Init(Renewal),
    Send,
    AddOffsets,
    SendOffsets,
    Commit,
    Abort,
}

/// `Committer` and its producer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Committer {
    pub(super) cycle: Cycle,
    pub(super) epoch: u8,
    pub(super) sequence: u8,
    pub(super) queue: Vec<Submission>,
    pub(super) batch: Vec<Submission>,
    /// How many outputs of the batch are acknowledged.
    pub(super) sent: u8,
    pub(super) added: bool,
    /// The checked metadata.
    pub(super) generation: u8,
    /// The producer may not be used for another transaction.
    pub(super) rotate: bool,
}

impl Committer {
    pub(super) const fn new(cycle: Cycle, epoch: u8) -> Self {
        Self {
            cycle,
            epoch,
            sequence: 0,
            queue: Vec::new(),
            batch: Vec::new(),
            sent: 0,
            added: false,
            generation: 0,
            rotate: false,
        }
    }
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) up: bool,
    /// Of the group, as it knows; 0 before it joins.
    pub(super) generation: u8,
    /// Transactions that failed since that generation was over.
    pub(super) failures: u8,
    pub(super) workers: [Worker; 2],
    pub(super) committer: Committer,
}

impl Instance {
    pub(super) fn holds(&self, submission: &Submission) -> bool {
        let worker = &self.workers[submission.partition as usize];
        worker.work != Work::Away && worker.assignment == submission.assignment
    }
}

/// How many faults may still happen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Of all kinds together.
    pub(super) all: u8,
    /// A process dies.
    pub(super) crashes: u8,
    /// The group moves a partition though its owner is alive.
    pub(super) moves: u8,
    /// The client sends a request again, and a copy of it stays on its way.
    pub(super) copies: u8,
    /// The client stops waiting for an answer; the request may still arrive.
    pub(super) silences: u8,
    /// The answer to a COMMIT of the database is lost; it may still happen.
    pub(super) lost_commits: u8,
    /// The coordinator ends the transaction of a process that is alive.
    pub(super) expiries: u8,
}

/// The world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) database: Database,
    pub(super) transactions: [Transaction; 2],
    pub(super) output: Log,
    pub(super) offsets: Offsets,
    pub(super) group: Group,
    pub(super) instances: [Instance; 2],
    /// Requests that nobody waits for.
    pub(super) network: Vec<Request>,
    /// Commits that nobody waits for.
    pub(super) commits: Vec<Advance>,
    pub(super) budget: Budget,
}

/// An output names its input.
pub(super) const fn output(partition: u8, input: u8) -> u16 {
    (partition as u16) << 8 | input as u16
}

impl State {
    /// Somebody else was faster. Whoever is no member of this generation learns of that in time.
    pub(super) fn beaten(&mut self, index: u8) {
        let instance = &mut self.instances[index as usize];
        if instance.generation != self.group.generation {
            instance.failures += 1;
        }
    }

    /// A broker takes a request.
    pub(super) fn execute(&mut self, request: Request, verification: bool) -> Answer {
        let Request { by, epoch, call } = request;
        let transaction = &mut self.transactions[by as usize];
        match call {
            Call::Init => transaction.init(),
            Call::Add { partition } => transaction.add(epoch, partition),
            Call::End { commit } => transaction.end(epoch, commit),
            Call::Produce { sequence, value } => {
                let verified = !verification || transaction.verifies(epoch, OUTPUT);
                self.output.write(Write { by, epoch, sequence, value, verified })
            }
            Call::Offsets { generation, offsets } => {
                if generation != 0 && generation != self.group.generation {
                    return Answer::Refused;
                }
                let verified = !verification || transaction.verifies(epoch, OFFSETS);
                self.offsets.write(by, epoch, offsets, verified)
            }
        }
    }

    pub(super) fn mark(&mut self, by: u8, partition: u8) -> Option<()> {
        let transaction = &mut self.transactions[by as usize];
        let commit = transaction.marker(partition)?;
        match partition {
            OUTPUT => self.output.mark(by, transaction.epoch, commit),
            _ => self.offsets.mark(by, transaction.epoch, commit),
        }
        Some(())
    }

    /// Forgets requests that no broker would take any more: epochs and generations never fall.
    pub(super) fn tidy(&mut self, verification: bool) {
        let Self { transactions, output, offsets, group, .. } = self;
        self.network.retain(|Request { by, epoch, call }| {
            let current = *epoch == transactions[*by as usize].epoch;
            match call {
                Call::Init => true,
                Call::Add { .. } | Call::End { .. } => current,
                Call::Produce { sequence, .. } => {
                    output.expects(*by, *epoch).is_some_and(|expected| *sequence >= expected)
                        && (!verification || current || !output.settled())
                }
                Call::Offsets { generation, .. } => {
                    (*generation == 0 || *generation == group.generation)
                        && offsets.takes(*by, *epoch)
                        && (!verification || current || offsets.open(*by))
                }
            }
        });
        let fences = &self.database.fences;
        self.commits.retain(|advance| fences[advance.partition as usize].next <= advance.from);
    }
}
