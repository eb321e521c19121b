//! Kafka as far as the protocol depends on it: the transaction coordinator of protocol V1 and partition leaders.

use std::cmp::Ordering;

/// What a broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Done, or done before.
    Done,
    /// CONCURRENT_TRANSACTIONS: the client asks again, later.
    Again,
    /// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED, ILLEGAL_GENERATION.
    Fenced,
    /// INVALID_TXN_STATE, OUT_OF_ORDER_SEQUENCE_NUMBER.
    Refused,
}

/// The coordinator's state of a transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// No transaction since the last initialisation.
    Empty,
    /// Partitions were added.
    Ongoing,
    /// Decided (`true` is commit), markers are on their way.
    Preparing(bool),
    /// Decided and every marker is written.
    Complete(bool),
}

/// A transactional id at its coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    pub(super) epoch: u8,
    pub(super) phase: Phase,
    /// A bit for each partition: of the transaction while it is ongoing, without its marker while it is preparing.
    pub(super) partitions: u8,
}

impl Transaction {
    pub(super) const fn new() -> Self {
        Self { epoch: 0, phase: Phase::Empty, partitions: 0 }
    }

    /// InitProducerId. An ongoing transaction is aborted under a new epoch first, and the client asks again.
    pub(super) fn init(&mut self) -> Answer {
        match self.phase {
            Phase::Ongoing => {
                self.expire();
                Answer::Again
            }
            Phase::Preparing(_) => Answer::Again,
            Phase::Empty | Phase::Complete(_) => {
                *self = Self { epoch: self.epoch + 1, ..Self::new() };
                Answer::Done
            }
        }
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn: the first one opens the transaction.
    pub(super) fn add(&mut self, epoch: u8, partition: u8) -> Answer {
        match self.phase {
            _ if epoch != self.epoch => Answer::Fenced,
            Phase::Preparing(_) => Answer::Again,
            Phase::Empty | Phase::Ongoing | Phase::Complete(_) => {
                self.phase = Phase::Ongoing;
                self.partitions |= 1 << partition;
                Answer::Done
            }
        }
    }

    /// EndTxn. Nothing in it says which transaction of the epoch is meant.
    pub(super) fn end(&mut self, epoch: u8, commit: bool) -> Answer {
        match self.phase {
            _ if epoch != self.epoch => Answer::Fenced,
            Phase::Ongoing => {
                self.phase = Phase::Preparing(commit);
                Answer::Done
            }
            Phase::Preparing(decided) if decided == commit => Answer::Again,
            Phase::Complete(decided) if decided == commit => Answer::Done,
            Phase::Empty | Phase::Preparing(_) | Phase::Complete(_) => Answer::Refused,
        }
    }

    /// The time-out of an ongoing transaction, and what initialisation does with it: abort under a new epoch.
    pub(super) fn expire(&mut self) {
        self.epoch += 1;
        self.phase = Phase::Preparing(false);
    }

    /// Takes the next marker for that partition; `None` when there is none to write.
    pub(super) fn marker(&mut self, partition: u8) -> Option<bool> {
        match self.phase {
            Phase::Preparing(commit) if self.partitions & (1 << partition) != 0 => {
                self.partitions &= !(1 << partition);
                if self.partitions == 0 {
                    self.phase = Phase::Complete(commit);
                }
                Some(commit)
            }
            _ => None,
        }
    }

    pub(super) const fn preparing(&self) -> bool {
        matches!(self.phase, Phase::Preparing(_))
    }

    /// What a partition leader asks before the first write of a transaction.
    pub(super) fn verifies(&self, epoch: u8, partition: u8) -> bool {
        self.phase == Phase::Ongoing && self.epoch == epoch && self.partitions & (1 << partition) != 0
    }
}

/// A transactional record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) by: u8,
    pub(super) value: u16,
    pub(super) committed: bool,
}

/// What a leader knows of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sequence {
    epoch: u8,
    next: u8,
}

/// A partition of a topic. Aborted records are gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Log {
    pub(super) records: Vec<Record>,
    sequences: [Sequence; 2],
}

/// A transactional write as a leader sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) by: u8,
    pub(super) epoch: u8,
    pub(super) sequence: u8,
    pub(super) value: u16,
    /// The coordinator's answer to the leader's question; always `true` on brokers that do not ask.
    pub(super) verified: bool,
}

impl Log {
    pub(super) const fn new() -> Self {
        Self { records: Vec::new(), sequences: [Sequence { epoch: 0, next: 0 }; 2] }
    }

    pub(super) fn write(&mut self, write: Write) -> Answer {
        let Write { by, epoch, sequence, value, verified } = write;
        let Some(expected) = self.expects(by, epoch) else {
            return Answer::Fenced;
        };
        if sequence < expected {
            return Answer::Done;
        }
        if sequence > expected || !(verified || self.open(by)) {
            return Answer::Refused;
        }
        self.sequences[by as usize] = Sequence { epoch, next: expected + 1 };
        self.records.push(Record { by, value, committed: false });
        Answer::Done
    }

    /// Decides everything that the producer wrote and nobody decided.
    pub(super) fn mark(&mut self, by: u8, epoch: u8, commit: bool) {
        let known = &mut self.sequences[by as usize];
        if epoch < known.epoch {
            return;
        }
        if epoch > known.epoch {
            *known = Sequence { epoch, next: 0 };
        }
        if commit {
            self.records
                .iter_mut()
                .filter(|record| record.by == by)
                .for_each(|record| record.committed = true);
        } else {
            self.records.retain(|record| record.by != by || record.committed);
        }
    }

    /// The sequence number that would be taken; `None` when the epoch is over.
    pub(super) fn expects(&self, by: u8, epoch: u8) -> Option<u8> {
        let known = self.sequences[by as usize];
        match epoch.cmp(&known.epoch) {
            Ordering::Less => None,
            Ordering::Equal => Some(known.next),
            Ordering::Greater => Some(0),
        }
    }

    /// Whether the producer has a transaction open here.
    fn open(&self, by: u8) -> bool {
        self.records.iter().any(|record| record.by == by && !record.committed)
    }

    /// Nothing is undecided: the last stable offset is the end.
    pub(super) fn settled(&self) -> bool {
        self.records.iter().all(|record| record.committed)
    }

    /// What was committed, in order, whether a reader can see it yet or not.
    pub(super) fn committed(&self) -> impl Iterator<Item = u16> {
        self.records.iter().filter(|record| record.committed).map(|record| record.value)
    }

    pub(super) fn times(&self, value: u16) -> usize {
        self.committed().filter(|each| *each == value).count()
    }
}
