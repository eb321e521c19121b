//! What was found wrong: classes, and the first of each.

use std::fmt;

use serde::Serialize;

/// How many findings of a class are kept and shown.
pub const SHOWN: usize = 10;

/// A way in which a history can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Committed in the database, never seen in an input topic.
    Lost,
    /// Seen twice by a read_committed reader.
    Duplicate,
    /// Seen after a later one of its key, or in another partition than its key.
    Reordered,
    /// Seen although the database does not have it: rolled back, or never written.
    Phantom,
    /// A business transaction of which only a part was seen.
    Torn,
    /// The checksum is wrong, or the message says something else than the ledger.
    Corrupted,
    /// The effect is missing, there twice, not owed, or not that of the message.
    Effect,
    /// A copy is missing in the output topics, or is one too many.
    Output,
    /// Offsets of records or of a group went backwards.
    Backwards,
    /// A transaction was still open at the end.
    Open,
    /// Two readers saw different things.
    Differing,
    /// No progress while a fault allowed it, or none after it.
    Stalled,
    /// A message without an identity of this run.
    Foreign,
}

impl Class {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 13] = [
        Self::Lost,
        Self::Duplicate,
        Self::Reordered,
        Self::Phantom,
        Self::Torn,
        Self::Corrupted,
        Self::Effect,
        Self::Output,
        Self::Backwards,
        Self::Open,
        Self::Differing,
        Self::Stalled,
        Self::Foreign,
    ];

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicate => "duplicate",
            Self::Reordered => "reordered",
            Self::Phantom => "phantom",
            Self::Torn => "torn",
            Self::Corrupted => "corrupted",
            Self::Effect => "effect",
            Self::Output => "output",
            Self::Backwards => "backwards",
            Self::Open => "open",
            Self::Differing => "differing",
            Self::Stalled => "stalled",
            Self::Foreign => "foreign",
        }
    }
}

/// Which message: the `copy` is 0 except for outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Id {
    /// Who enqueued it.
    pub producer: u32,
    /// Its number within that producer.
    pub seq: u64,
    /// Which of its copies.
    pub copy: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.seq)?;
        if self.copy > 0 { write!(f, " copy {}", self.copy) } else { Ok(()) }
    }
}

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The message it is about, where it is about one.
    pub id: Option<Id>,
    /// Where to look, where it is one record.
    pub place: Option<Place>,
    /// What is wrong, and where else to look.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = &self.id {
            write!(f, "{id}: ")?;
        }
        f.write_str(&self.text)?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, " ({place})"))
    }
}

/// All of one class: how many, and the first ten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The class.
    pub class: Class,
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<Finding>,
}

/// Collects findings, and keeps no more than it shows.
#[derive(Debug)]
pub(crate) struct Findings(Vec<Verdict>);

impl Findings {
    pub(crate) fn new() -> Self {
        Self(Class::ALL.map(|class| Verdict { class, count: 0, first: Vec::new() }).into())
    }

    /// Counts one more; what it says is asked for only while there is room.
    pub(crate) fn add(&mut self, class: Class, finding: impl FnOnce() -> Finding) {
        let verdict = &mut self.0[class as usize];
        verdict.count += 1;
        if verdict.first.len() < SHOWN {
            verdict.first.push(finding());
        }
    }

    /// A finding that is about no single message.
    pub(crate) fn note(&mut self, class: Class, text: impl Into<String>) {
        self.add(class, || Finding { id: None, place: None, text: text.into() });
    }

    pub(crate) fn shown(&mut self, class: Class) -> &mut [Finding] {
        &mut self.0[class as usize].first
    }

    pub(crate) fn into_verdicts(self) -> Vec<Verdict> {
        self.0
    }
}
