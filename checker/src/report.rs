//! What came of a judgement: for people as tables ([`Display`](std::fmt::Display)), for programs as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    findings::{Class, Verdict},
    history::Fault,
};

/// The upper ends of the histogram's columns, in milliseconds; the last column is what took longer.
pub const COLUMNS: [u64; 8] = [250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

/// What came of a judgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run.
    pub run: String,
    /// Whether nothing is wrong.
    pub clean: bool,
    /// All classes, also those of which nothing was found.
    pub verdicts: Vec<Verdict>,
    /// The faults of the history, in its order.
    pub faults: Vec<FaultReport>,
    /// How long recoveries took, per class of fault.
    pub recoveries: BTreeMap<String, Recoveries>,
    /// What was read.
    pub figures: Figures,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// The longest time a message waited while its partition stood still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standstill {
    /// How long, in milliseconds.
    pub ms: u64,
    /// From when on, in milliseconds since 1970.
    pub since: u64,
    /// Which, as `topic[partition]`.
    pub partition: String,
}

/// One fault, and how the system took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    /// Its number.
    pub id: u64,
    /// Its kind.
    pub class: String,
    /// To whom it was done.
    pub what: String,
    /// How long it lasted, in milliseconds; none if it never healed.
    pub lasted_ms: Option<u64>,
    /// The longest stand-still that is right, in milliseconds, where progress is demanded.
    pub within_ms: Option<u64>,
    /// The longest stand-still; none if no partition stood still with a message waiting.
    pub standstill: Option<Standstill>,
    /// How long after it healed every partition had shown a message that was enqueued after it, in milliseconds; none
    /// if one never did.
    pub recovery_ms: Option<u64>,
}

impl FaultReport {
    pub(crate) fn new(fault: &Fault) -> Self {
        let Fault { id, class, what, from, healed, within_ms } = fault.clone();
        let lasted_ms = healed.map(|healed| healed.saturating_sub(from));
        Self { id, class, what, lasted_ms, within_ms, standstill: None, recovery_ms: None }
    }
}

/// How long recoveries took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recoveries {
    /// How many there were.
    pub count: u64,
    /// The shortest, in milliseconds.
    pub least_ms: u64,
    /// The one in the middle.
    pub median_ms: u64,
    /// The longest.
    pub most_ms: u64,
    /// How many took up to each of [`COLUMNS`], and how many longer.
    pub histogram: [u64; COLUMNS.len() + 1],
}

impl Recoveries {
    fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let mut histogram = [0; COLUMNS.len() + 1];
        times.iter().for_each(|time| histogram[COLUMNS.partition_point(|column| column < time)] += 1);
        Self {
            count: times.len() as u64,
            least_ms: times.first().copied().unwrap_or_default(),
            median_ms: times.get(times.len() / 2).copied().unwrap_or_default(),
            most_ms: times.last().copied().unwrap_or_default(),
            histogram,
        }
    }
}

/// How many records a topic has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The topic.
    pub topic: String,
    /// Records that a read_committed reader sees.
    pub seen: u64,
    /// Records that only a read_uncommitted reader sees: those of aborted and open transactions.
    pub hidden: u64,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Rows of the ledger.
    pub ledger: u64,
    /// Rows of the table of effects.
    pub effects: u64,
    /// Records without an identity of the run.
    pub foreign: u64,
    /// Every topic.
    pub topics: Vec<Counts>,
    /// Bytes that the judgement kept.
    pub memory: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Report {
    pub(crate) fn new(
        run: String,
        verdicts: Vec<Verdict>,
        faults: Vec<FaultReport>,
        figures: Figures,
        notes: Vec<String>,
    ) -> Self {
        let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for fault in &faults {
            if let Some(ms) = fault.recovery_ms {
                times.entry(fault.class.clone()).or_default().push(ms);
            }
        }
        let recoveries = times.into_iter().map(|(class, times)| (class, Recoveries::of(times))).collect();
        let clean = verdicts.iter().all(|verdict| verdict.count == 0);
        Self { run, clean, verdicts, faults, recoveries, figures, notes }
    }

    /// What was found of a class.
    ///
    /// # Panics
    ///
    /// Never: a report has all classes.
    pub fn verdict(&self, class: Class) -> &Verdict {
        &self.verdicts[class as usize]
    }

    /// The classes of which something was found.
    pub fn wrong(&self) -> Vec<Class> {
        self.verdicts.iter().filter(|verdict| verdict.count > 0).map(|verdict| verdict.class).collect()
    }
}
