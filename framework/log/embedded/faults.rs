//! What may go wrong with a call, for tests.

use std::{sync::Arc, time::Duration};

/// A call through the seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`Log::check`](crate::log::Log::check).
    Check,
    /// [`Log::topic`](crate::log::Log::topic).
    Topic,
    /// [`Log::producer`](crate::log::Log::producer).
    Init,
    /// [`Log::consumer`](crate::log::Log::consumer).
    Join,
    /// [`Log::last_record`](crate::log::Log::last_record).
    LastRecord,
    /// [`Log::bounds`](crate::log::Log::bounds).
    Bounds,
    /// [`Producer::begin`](crate::log::Producer::begin).
    Begin,
    /// [`Producer::send`](crate::log::Producer::send).
    Send,
    /// [`Producer::acknowledged`](crate::log::Producer::acknowledged).
    Acknowledged,
    /// [`Producer::send_offsets`](crate::log::Producer::send_offsets).
    SendOffsets,
    /// [`Producer::commit`](crate::log::Producer::commit).
    Commit,
    /// [`Producer::abort`](crate::log::Producer::abort).
    Abort,
    /// [`Consumer::committed`](crate::log::Consumer::committed).
    Committed,
    /// [`Consumer::start`](crate::log::Consumer::start).
    Start,
    /// [`Consumer::pause`](crate::log::Consumer::pause).
    Pause,
    /// [`Consumer::resume`](crate::log::Consumer::resume).
    Resume,
    /// [`Consumer::metadata`](crate::log::Consumer::metadata).
    Metadata,
    /// [`Consumer::close`](crate::log::Consumer::close).
    Close,
}

impl Operation {
    /// Whether the call is made under a transactional id.
    pub fn is_transactional(self) -> bool {
        use Operation::{Abort, Acknowledged, Begin, Commit, Init, Send, SendOffsets};
        matches!(self, Init | Begin | Send | Acknowledged | SendOffsets | Commit | Abort)
    }
}

/// A call that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The name of the client that makes it.
    pub client: &'a str,
    /// Which call.
    pub operation: Operation,
    /// What it is about: the transactional id, the group, or the topic.
    pub about: &'a str,
}

/// What becomes of a call. Calls that cannot wait ([`Pause`](Operation::Pause), [`Resume`](Operation::Resume),
/// [`Metadata`](Operation::Metadata)) take no [`Delay`](Self::Delay).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing goes wrong.
    None,
    /// It takes effect only after that time.
    Delay(Duration),
    /// It never arrives; the client sees a time-out.
    LoseRequest,
    /// It takes effect, but the client sees a time-out.
    LoseAnswer,
    /// Somebody has initialised that transactional id just before. Only for calls under one.
    Fence,
    /// The transaction of that transactional id has just taken too long. Only for calls under one.
    AbortTransaction,
    /// The client is killed before the call.
    Kill,
    /// The client is killed after the call took effect, before the answer comes.
    KillAfter,
}

/// Decides what goes wrong. Asked once a call, before it takes effect; it must not make calls itself.
pub trait Faults: Send + Sync {
    /// What becomes of that call.
    fn at(&self, call: &Call<'_>) -> Fault;
}

impl<F: Fn(&Call<'_>) -> Fault + Send + Sync> Faults for F {
    fn at(&self, call: &Call<'_>) -> Fault {
        self(call)
    }
}

/// Decided by whoever else holds it, too.
pub(super) type Installed = Arc<dyn Faults>;
