//! A snapshot of running transactions, as PostgreSQL writes it (`xmin:xmax:xip,xip`) and as it is stored.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};

/// Which transactions had ended: all below `xmax` that are not in `running`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    xmin: u64,
    pub(super) xmax: u64,
    /// Rising.
    running: Vec<u64>,
}

impl Snapshot {
    /// Nothing had ended: every row is new.
    pub(super) fn empty() -> Self {
        Self { xmin: 1, xmax: 1, running: Vec::new() }
    }

    /// What was running here and has ended in `later`: the transactions whose rows come late.
    pub(super) fn ended_since(&self, later: &Self) -> Vec<String> {
        let running = |xid: &u64| later.running.binary_search(xid).is_ok() || *xid >= later.xmax;
        self.running.iter().filter(|xid| !running(xid)).map(u64::to_string).collect()
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:", self.xmin, self.xmax)?;
        for (place, xid) in self.running.iter().enumerate() {
            write!(out, "{}{xid}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || -> Option<Self> {
            let mut parts = text.splitn(3, ':');
            let xmin = parts.next()?.parse().ok()?;
            let xmax = parts.next()?.parse().ok()?;
            let list = parts.next()?;
            let mut running: Vec<u64> = match list {
                "" => Vec::new(),
                list => list.split(',').map(|xid| xid.parse().ok()).collect::<Option<_>>()?,
            };
            running.sort_unstable();
            Some(Self { xmin, xmax, running })
        };
        parse().ok_or_else(|| Error::new(Kind::Corrupt, format!("snapshot {text:?} cannot be read")))
    }
}

/// Stored as differences, which are small numbers: 5,000 running transactions take 5 kB instead of 35.
#[derive(Serialize, Deserialize)]
struct Packed {
    xmin: u64,
    width: u64,
    steps: Vec<u64>,
}

impl Serialize for Snapshot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut last = self.xmin;
        let steps =
            self.running.iter().map(|xid| xid.wrapping_sub(std::mem::replace(&mut last, *xid))).collect();
        Packed { xmin: self.xmin, width: self.xmax.wrapping_sub(self.xmin), steps }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let packed = Packed::deserialize(deserializer)?;
        let mut last = packed.xmin;
        let step = |step: u64| {
            last = last.wrapping_add(step);
            last
        };
        let running = packed.steps.into_iter().map(step).collect();
        Ok(Self { xmin: packed.xmin, xmax: packed.xmin.wrapping_add(packed.width), running })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_stored_form_survive() {
        for text in ["1:1:", "942:942:", "712470:712473:712470,712472", "5:18446744073709551615:5,6,900"] {
            let snapshot: Snapshot = text.parse().unwrap();
            assert_eq!(snapshot.to_string(), text);
            let stored = postcard::to_allocvec(&snapshot).unwrap();
            assert_eq!(postcard::from_bytes::<Snapshot>(&stored).unwrap(), snapshot);
        }
        for text in ["", "1:2", "a:b:", "1:2:x"] {
            assert_eq!(text.parse::<Snapshot>().unwrap_err().kind(), Kind::Corrupt, "{text:?}");
        }
    }

    #[test]
    fn late_transactions_are_those_that_ended_between() {
        let earlier: Snapshot = "10:20:10,12,15".parse().unwrap();
        let later: Snapshot = "12:30:12,25".parse().unwrap();
        assert_eq!(earlier.ended_since(&later), ["10", "15"]);
    }
}
