//! Wrong histories, each made from a right one, and what exactly must be said of it.

mod chance;
mod contents;
mod messages;
mod readers;
mod tables;
mod topics_only;

use tidelock_checker::{Class, Id, Report};

use crate::{
    right::right,
    scene::{Scene, found},
};

/// Bends a right history, and asserts that exactly this is found; several seeds, so that no luck is in it.
#[track_caller]
pub(crate) fn caught(bend: impl Fn(&mut Scene) -> Vec<(Class, Vec<Id>)>) -> Report {
    let mut last = None;
    for seed in 1..=3 {
        let mut scene = right(seed);
        let mut expected = bend(&mut scene);
        expected.iter_mut().for_each(|(_, ids)| ids.sort());
        let report = scene.judge_afresh();
        let mut findings = found(&report);
        findings.iter_mut().for_each(|(_, ids)| ids.sort());
        assert_eq!(findings, expected, "seed {seed}: {report}");
        last = Some(report);
    }
    last.unwrap()
}

#[test]
fn right_histories_are_clean() {
    for seed in 1..=20 {
        let report = right(seed).judge();
        assert!(report.clean, "seed {seed}: {report}");
        assert!(report.figures.topics[0].hidden > 0, "{report}");
        assert!(report.faults[0].recovery_ms.is_some() && report.recoveries.len() == 2, "{report}");
    }
}
