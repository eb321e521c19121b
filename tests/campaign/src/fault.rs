//! What a fault is.

use std::{ops::RangeInclusive, time::Duration};

use fastrand::Rng;
use tidelock_campaign::Result;

use crate::{class::Class, world::World};

/// What must hold during and after every fault.
pub(crate) const EXACTLY_ONCE: &str =
    "every verdict of the checker is 0, and everything flows again once it is healed";

/// Something that is done to the system. One row of the table in `faults`.
pub(crate) struct Fault {
    pub(crate) class: Class,
    /// Unique; says what is done to whom.
    pub(crate) name: String,
    /// What is done, in a sentence.
    pub(crate) doc: String,
    /// What must hold, mostly [`EXACTLY_ONCE`].
    pub(crate) must_hold: &'static str,
    /// The longest stand-still of a partition that is right while it lasts; `None`: nothing needs to flow.
    pub(crate) within: Option<Duration>,
    /// For how long it is left before it is healed, in ms; chosen by the schedule.
    pub(crate) lasts_ms: RangeInclusive<u64>,
    /// What it occupies: faults of a composition never share one.
    pub(crate) touches: &'static [Part],
    /// Does it, and says what was done.
    pub(crate) inject: Inject,
}

pub(crate) type Inject = Box<dyn Fn(&World, &mut Rng) -> Result<Ongoing> + Send + Sync>;

/// A part of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Pipelines,
    Writer,
    Brokers,
    Database,
    KafkaNetwork,
    DatabaseNetwork,
    /// What single requests meet with on their way to a broker.
    Requests,
    Handler,
    /// Members besides the pipelines.
    Group,
    /// Writers besides the first.
    Writers,
    /// Rights and quotas.
    Rules,
    /// A topic and subjects of the fault's own.
    Side,
    /// Whatever else: the whole machine, topics, rights. Never part of a composition.
    Alone,
}

/// A fault that has begun.
pub(crate) struct Ongoing {
    /// To whom it was done.
    pub(crate) what: String,
    /// Whether what was prepared came about: a crash point may not be reached, a request not be sent.
    pub(crate) came_about: bool,
    /// Whether it waits, at its end, for what another fault may keep it from.
    pub(crate) waits: bool,
    heal: Heal,
}

type Heal = Box<dyn FnOnce(&World) -> Result<()> + Send>;

impl Ongoing {
    /// `heal` is always called, also after Ctrl-C.
    pub(crate) fn new(
        what: impl Into<String>,
        heal: impl FnOnce(&World) -> Result<()> + Send + 'static,
    ) -> Self {
        Self { what: what.into(), came_about: true, waits: false, heal: Box::new(heal) }
    }

    /// It came about only if that is so.
    pub(crate) fn only_if(self, so: bool) -> Self {
        Self { came_about: self.came_about && so, ..self }
    }

    /// It ends after the others of a composition: it waits for what they may keep it from.
    pub(crate) fn after_others(self) -> Self {
        Self { waits: true, ..self }
    }

    /// Ends it. What it did to processes and servers is undone when this returns.
    pub(crate) fn heal(self, world: &World) -> Result<()> {
        (self.heal)(world)
    }
}
