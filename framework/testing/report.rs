//! What the kit found.

use std::{collections::BTreeMap, error::Error as StdError, fmt};

use super::plan::CrashPoint;

/// What was tried, and that nothing differed.
#[derive(Debug, Clone)]
#[must_use]
pub struct Report {
    /// Every crash point at which a process was really killed, stopped, or lost an answer.
    pub hit: Vec<CrashPoint>,
    /// How often handlers ran over all runs, rolled-back executions included.
    pub executions: usize,
    /// How many messages the crash-free run emitted.
    pub emitted: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut points: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for each in &self.hit {
            *points.entry((each.point.name(), each.fate.to_string())).or_default() += 1;
        }
        writeln!(out, "{} crash points hit, {} executions", self.hit.len(), self.executions)?;
        for ((point, fate), hits) in points {
            writeln!(out, "  {point} {fate}: {hits}")?;
        }
        Ok(())
    }
}

/// A run that was not like the crash-free one, or that could not be. Its `Debug` is its text, for `unwrap`.
pub struct Failure {
    point: Option<CrashPoint>,
    what: String,
}

impl Failure {
    pub(super) fn new(point: Option<CrashPoint>, what: impl Into<String>) -> Self {
        Self { point, what: what.into() }
    }

    /// Where; `None` when already the crash-free run failed.
    pub fn point(&self) -> Option<CrashPoint> {
        self.point
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.point {
            Some(point) => write!(out, "crash point {point}: {}", self.what),
            None => write!(out, "without a crash: {}", self.what),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl StdError for Failure {}

/// The most lines of a part of a difference.
pub(super) const MOST_LINES: usize = 30;
/// Up to this many characters a value stands in one line.
const ONE_LINE: usize = 100;

/// Both sides, or of long ones the lines in which they differ.
pub(super) fn both_sides(expected: &impl fmt::Debug, found: &impl fmt::Debug) -> String {
    let (one, two) = (format!("{expected:?}"), format!("{found:?}"));
    if one.len().max(two.len()) <= ONE_LINE {
        return format!("\n  crash-free: {one}\n  here:       {two}");
    }
    let (one, two) = (format!("{expected:#?}"), format!("{found:#?}"));
    let (one, two): (Vec<&str>, Vec<&str>) = (one.lines().collect(), two.lines().collect());
    let same = one.iter().zip(&two).take_while(|(one, two)| one == two).count();
    let rest = one.len().min(two.len()) - same;
    let tail = one.iter().rev().zip(two.iter().rev()).take(rest).take_while(|(one, two)| one == two).count();
    let mut text = String::new();
    for (name, lines) in [("crash-free", &one), ("here", &two)] {
        let different = &lines[same..lines.len() - tail];
        text += &format!("\n  {name}, lines {} to {} of {}:", same + 1, same + different.len(), lines.len());
        for line in different.iter().take(MOST_LINES) {
            text += &format!("\n    {line}");
        }
        match different.len() {
            0 => text += "\n    (nothing)",
            more if more > MOST_LINES => text += "\n    ...",
            _ => {}
        }
    }
    text
}
