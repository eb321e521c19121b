//! What a judge says of a history.

use std::collections::{BTreeMap, BTreeSet};

/// Counts of each way to break the promise, with the first few culprits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) lost: Vec<String>,
    pub(crate) duplicate: Vec<String>,
    pub(crate) reordered: Vec<String>,
    pub(crate) phantom: Vec<String>,
}

impl Verdict {
    /// Compares what was found, in order, with what is expected. A message is (key, its place within the key, a text
    /// that names it).
    pub(crate) fn of(expected: &BTreeSet<(String, i64)>, found: &[(String, i64)]) -> Self {
        let mut verdict = Self::default();
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for message in found {
            let (key, n) = message;
            let name = format!("{key}/{n}");
            if !expected.contains(message) {
                verdict.phantom.push(name);
                continue;
            }
            if !seen.insert(message) {
                verdict.duplicate.push(name);
                continue;
            }
            let before = last.insert(key, *n);
            if before.is_some_and(|before| before > *n) {
                verdict.reordered.push(name);
            }
        }
        verdict.lost = expected
            .iter()
            .filter(|each| !seen.contains(each))
            .map(|(key, n)| format!("{key}/{n}"))
            .collect();
        verdict
    }

    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    #[track_caller]
    pub(crate) fn assert_clean(&self, what: &str) {
        assert!(
            self.is_clean(),
            "{what}: {} lost {:?}, {} duplicate {:?}, {} reordered {:?}, {} phantom {:?}",
            self.lost.len(),
            first(&self.lost),
            self.duplicate.len(),
            first(&self.duplicate),
            self.reordered.len(),
            first(&self.reordered),
            self.phantom.len(),
            first(&self.phantom),
        );
    }
}

fn first(names: &[String]) -> &[String] {
    &names[..names.len().min(10)]
}

#[test]
fn every_fault_is_named() {
    let message = |key: &str, n| (key.to_owned(), n);
    let expected: BTreeSet<_> = [message("a", 1), message("a", 2), message("a", 3), message("b", 1)].into();
    let clean = [message("a", 1), message("b", 1), message("a", 2), message("a", 3)];
    Verdict::of(&expected, &clean).assert_clean("a clean history");
    let found = [message("a", 2), message("a", 1), message("a", 2), message("c", 1), message("b", 1)];
    let verdict = Verdict::of(&expected, &found);
    assert_eq!(verdict.lost, ["a/3"]);
    assert_eq!(verdict.duplicate, ["a/2"]);
    assert_eq!(verdict.reordered, ["a/1"]);
    assert_eq!(verdict.phantom, ["c/1"]);
}
