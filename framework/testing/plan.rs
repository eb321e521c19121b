//! What is done to a process, and where: the table.

use std::fmt;

use crate::failpoint::Point;

/// What happens to the process at a crash point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// Killed, and started again under its name.
    Killed,
    /// Killed, and its work taken over by another instance.
    Replaced,
    /// The call takes effect, its answer is lost.
    AnswerLost,
    /// The call is lost.
    RequestLost,
    /// Stopped for longer than every time-out while another instance takes over; then it goes on.
    Stopped,
    /// Asked to stop while another instance joins: its partition is revoked.
    Revoked,
}

impl fmt::Display for Fate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Killed => "killed",
            Self::Replaced => "killed and replaced",
            Self::AnswerLost => "answer lost",
            Self::RequestLost => "request lost",
            Self::Stopped => "stopped for longer than every time-out",
            Self::Revoked => "revoked",
        })
    }
}

/// One thing that goes wrong, in one place, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// Which of the protocol's points.
    pub point: Point,
    /// What happens there.
    pub fate: Fate,
    /// At which pass of that place, from 1.
    pub hit: usize,
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}, hit {})", self.point.name(), self.fate, self.hit)
    }
}

/// Where the kit gets hold of a process, in the order of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Seam {
    /// A handler has run, its transaction is open.
    Handled,
    DatabaseCommit,
    Begin,
    Send,
    SendOffsets,
    LogCommit,
}

/// What is done at a seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Kill,
    KillAfter,
    /// Killed with its next call.
    KillNext,
    LoseAnswer,
    LoseRequest,
    Stop,
    Leave,
}

pub(super) struct Entry {
    pub(super) point: Point,
    pub(super) fate: Fate,
    /// One after the other; the first one at some hit, each other one at the first pass after that.
    pub(super) steps: &'static [(Seam, Deed)],
}

const fn entry(point: Point, fate: Fate, steps: &'static [(Seam, Deed)]) -> Entry {
    Entry { point, fate, steps }
}

/// The processor's crash points P1 to P8. Not P9, for which an output must be refused.
pub(super) const PLAN: &[Entry] = {
    use Deed::{Kill, KillAfter, KillNext, Leave, LoseAnswer, LoseRequest, Stop};
    use Fate::{AnswerLost, Killed, Replaced, RequestLost, Revoked, Stopped};
    use Point::{P1, P2, P3Begin, P3Commit, P3Offsets, P3Send, P4, P5, P6, P7, P8};
    use Seam::{Begin, DatabaseCommit, Handled, LogCommit, Send, SendOffsets};
    &[
        entry(P6, Killed, &[(Handled, Kill)]),
        entry(P1, Killed, &[(DatabaseCommit, Kill)]),
        entry(P2, Killed, &[(DatabaseCommit, KillAfter)]),
        entry(P2, AnswerLost, &[(DatabaseCommit, LoseAnswer)]),
        entry(P2, RequestLost, &[(DatabaseCommit, LoseRequest)]),
        entry(P3Begin, Killed, &[(Begin, Kill)]),
        entry(P3Send, Killed, &[(Send, KillAfter)]),
        entry(P3Send, AnswerLost, &[(Send, LoseAnswer)]),
        entry(P3Offsets, Killed, &[(SendOffsets, Kill)]),
        entry(P3Offsets, AnswerLost, &[(SendOffsets, LoseAnswer)]),
        entry(P3Offsets, RequestLost, &[(SendOffsets, LoseRequest)]),
        entry(P3Commit, Killed, &[(LogCommit, Kill)]),
        entry(P4, Killed, &[(LogCommit, KillAfter)]),
        entry(P4, AnswerLost, &[(LogCommit, LoseAnswer)]),
        entry(P4, RequestLost, &[(LogCommit, LoseRequest)]),
        entry(P5, Killed, &[(LogCommit, KillNext)]),
        entry(P7, Revoked, &[(Handled, Leave)]),
        entry(P3Begin, Revoked, &[(Begin, Leave)]),
        entry(P8, Killed, &[(Begin, Kill), (SendOffsets, Kill)]),
        entry(P1, Replaced, &[(DatabaseCommit, Kill)]),
        entry(P2, Replaced, &[(DatabaseCommit, KillAfter)]),
        entry(P3Offsets, Replaced, &[(SendOffsets, Kill)]),
        entry(P3Commit, Replaced, &[(LogCommit, Kill)]),
        entry(P4, Replaced, &[(LogCommit, KillAfter)]),
        entry(P8, Replaced, &[(Begin, Kill), (LogCommit, Kill)]),
        entry(P6, Stopped, &[(Handled, Stop)]),
        entry(P1, Stopped, &[(DatabaseCommit, Stop)]),
        entry(P3Offsets, Stopped, &[(SendOffsets, Stop)]),
        entry(P3Commit, Stopped, &[(LogCommit, Stop)]),
    ]
};

impl Fate {
    /// Whether time-outs have to pass.
    pub(super) fn is_slow(self) -> bool {
        matches!(self, Self::Replaced | Self::Stopped)
    }
}
