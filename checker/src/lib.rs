//! Judges from topics and tables alone whether every message came through exactly once, in order and whole.
//!
//! Messages carry an [`Identity`] in a header. A [`Watch`] reads the topics while the system runs and faults happen;
//! [`judge`] reads them again afterwards, together with the tables, and says what is wrong: a [`Report`].
//! The judgement itself, [`examine`], is pure: it runs over any [`Evidence`].
//!
//! It streams. Of every message it keeps about one byte: a bit each for the ledger, the input topic, the table of effects,
//! and two for each copy that outputs have; of every key the last number (some 50 bytes). Contents are compared by
//! digests over blocks of 4096, and only the blocks that differ are read again.
//!
//! The checker shares no code with what it judges.

mod error;
mod findings;
mod history;
mod identity;
mod judge;
mod kafka;
mod progress;
mod report;
mod sources;
mod summary;
mod table;
mod tables;
mod trace;
mod watch;

pub use error::{Error, Result};
pub use findings::{Class, Finding, Id, Place, SHOWN, Verdict};
pub use history::{Fault, History};
pub use identity::{Identity, Sealed};
pub use judge::evidence::{Bounds, Case, Effect, Evidence, Record, Role, Row, Topic, View};
pub use judge::examine;
pub use kafka::Kafka;
pub use progress::{Progress, STEP};
pub use report::{COLUMNS, Counts, FaultReport, Figures, Recoveries, Report, Standstill};
pub use sources::{Options, judge};
pub use summary::Summary;
pub use tables::{EFFECTS, LEDGER, Tables};
pub use trace::{Stretch, Trace};
pub use watch::{Watch, WatchOptions};
