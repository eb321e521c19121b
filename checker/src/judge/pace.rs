//! Progress during faults, and how long it took after them.
//!
//! A partition stands still from one message heard to the next, but only while one was waiting: the stand-still counts
//! from the later of the last message heard and the moment the next one was enqueued. Where nobody writes, nothing stalls.

use std::collections::HashMap;

use super::{
    evidence::{Bounds, Case, Evidence},
    hearing::Hearing,
};
use crate::{
    Result,
    findings::{Class, Findings},
    history::{Fault, History},
    progress::Progress,
    report::{FaultReport, Standstill},
};

/// Writers must go on for this long after a fault for its recovery to be judged.
const GRACE: u64 = 1_000;

/// One partition on its way through the faults.
#[derive(Debug, Default, Clone)]
struct Walk {
    last: u64,
    /// Faults during which it may still stand still.
    during: Vec<usize>,
    /// Faults after which it has shown nothing new.
    after: Vec<usize>,
}

pub(super) fn judge(
    case: &Case,
    evidence: &mut dyn Evidence,
    hearing: &mut Hearing<'_>,
    bounds: &[Bounds],
    notes: &mut Vec<String>,
) -> Result<Vec<FaultReport>> {
    let Some(history) = &case.history else { return Ok(Vec::new()) };
    if case.watched.is_none() {
        notes.push("the faults are not judged: nobody watched the run".into());
        return Ok(Vec::new());
    }
    let mut reports: Vec<_> = history.faults.iter().map(FaultReport::new).collect();
    let fresh = Walk { last: 0, during: (0..reports.len()).collect(), after: (0..reports.len()).collect() };
    let mut walks: HashMap<(String, i32), Walk> = HashMap::new();
    for bound in bounds {
        walks.insert((case.topics[bound.topic].name.clone(), bound.partition), fresh.clone());
    }
    evidence.progress(&mut |line| {
        let walk = walks.entry((line.topic.clone(), line.partition)).or_insert_with(|| fresh.clone());
        walk.step(line, &history.faults, &mut reports);
    })?;
    let mut silent: Vec<_> = walks
        .into_iter()
        .flat_map(|((topic, partition), walk)| {
            walk.after.into_iter().map(move |fault| (fault, format!("{topic}[{partition}]")))
        })
        .collect();
    silent.sort();
    for (report, fault) in reports.iter_mut().zip(&history.faults) {
        judge_standstill(report, fault, &mut hearing.findings);
    }
    judge_recovery(&mut reports, history, &silent, &mut hearing.findings);
    Ok(reports)
}

impl Walk {
    fn step(&mut self, line: &Progress, faults: &[Fault], reports: &mut [FaultReport]) {
        let waiting = self.last.max(line.at_min);
        self.during.retain(|index| {
            let (fault, report) = (&faults[*index], &mut reports[*index]);
            let from = waiting.max(fault.from);
            let to = line.t.min(fault.healed.unwrap_or(u64::MAX));
            if to > from && report.standstill.as_ref().is_none_or(|longest| to - from > longest.ms) {
                let partition = format!("{}[{}]", line.topic, line.partition);
                report.standstill = Some(Standstill { ms: to - from, since: from, partition });
            }
            fault.healed.is_none_or(|healed| line.last < healed)
        });
        self.after.retain(|index| {
            let Some(healed) = faults[*index].healed else { return true };
            let shown = line.at_max >= healed;
            if shown {
                let took = line.last.saturating_sub(healed);
                let recovery = &mut reports[*index].recovery_ms;
                *recovery = Some(recovery.map_or(took, |longest| longest.max(took)));
            }
            !shown
        });
        self.last = self.last.max(line.last);
    }
}

fn judge_standstill(report: &FaultReport, fault: &Fault, findings: &mut Findings) {
    let (Some(within), Some(longest)) = (fault.within_ms, &report.standstill) else { return };
    if longest.ms > within {
        let Fault { id, class, what, .. } = fault;
        let Standstill { ms, since, partition } = longest;
        findings.note(
            Class::Stalled,
            format!("fault {id} ({class} {what}): {partition} stood still for {ms} ms from {since} on, {within} ms are right"),
        );
    }
}

/// A fault has recovered when every partition has shown a message that was enqueued after it.
fn judge_recovery(
    reports: &mut [FaultReport],
    history: &History,
    silent: &[(usize, String)],
    findings: &mut Findings,
) {
    for (index, fault) in history.faults.iter().enumerate() {
        let Fault { id, class, what, healed, .. } = fault;
        let Some(healed) = healed else { continue };
        let silent: Vec<_> = silent
            .iter()
            .filter(|(fault, _)| *fault == index)
            .map(|(_, partition)| partition.as_str())
            .collect();
        if silent.is_empty() {
            continue;
        }
        reports[index].recovery_ms = None;
        if history.writers_done.is_none_or(|done| done >= healed + GRACE) {
            findings.note(
                Class::Stalled,
                format!(
                    "fault {id} ({class} {what}): {} showed nothing that was enqueued after it healed at {healed}",
                    silent.join(", ")
                ),
            );
        }
    }
}
