//! What people read: the list of faults, a line for each fault, the table at the end.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use tidelock_campaign::tables;

use crate::{checker::Report, class::Class, crew::MOST_MEMORY, fault::Fault, run::Injected, world::World};

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    // A file or a pipe has no width, and lines of 400 columns are not for people.
    if !table.is_tty() {
        table.set_width(160);
    }
    table
}

/// All of these faults.
pub(crate) fn faults(faults: &[Fault]) -> Table {
    let mut table = table(["class", "fault", "what is done", "what must hold", "flows within"]);
    for fault in faults {
        table.add_row([
            format!("{} {}", fault.class.number(), fault.class.name()),
            fault.name.clone(),
            fault.doc.clone(),
            fault.must_hold.to_owned(),
            fault.within.map_or_else(|| "-".to_owned(), |within| format!("{} s", within.as_secs())),
        ]);
    }
    table
}

/// The line for a fault that is over.
pub(crate) fn line(world: &World, elapsed: Duration, of: usize, done: &Injected) -> String {
    let Injected { step, what, came_about, recovery } = done;
    let missed = if *came_about { "" } else { ", which did not come about" };
    let recovery = recovery.map_or_else(|| "NOT".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
    let seconds = elapsed.as_secs();
    format!(
        "[{:3}/{of}] {:02}:{:02}  {:12} {:28} {recovery:>7}  {} in, {} out  {what}{missed}",
        step.number,
        seconds / 60,
        seconds % 60,
        step.class.name(),
        step.name,
        world.pulse.records(tables::INPUT),
        world.pulse.records(tables::OUTPUT),
    )
}

/// The verdicts that the table shows beside each class; the checker's own report has all.
const SHOWN: [&str; 5] = ["lost", "duplicate", "reordered", "phantom", "torn"];

/// The verdict, class by class; missed is what did not come about. What is wrong is counted over the whole run: a message
/// does not say whose fault it was.
pub(crate) fn verdict(injected: &[Injected], report: &Report, messages: u64, elapsed: Duration) -> String {
    let recoveries = report.recoveries();
    let mut classes: BTreeMap<Class, Vec<Option<u64>>> = BTreeMap::new();
    let mut missed: BTreeMap<Class, usize> = BTreeMap::new();
    for done in injected {
        let recovery = recoveries.get(&done.step.number).copied().flatten();
        classes.entry(done.step.class).or_default().push(recovery);
        *missed.entry(done.step.class).or_default() += usize::from(!done.came_about);
    }
    let count = |name: &str| {
        report.verdicts.iter().find(|verdict| verdict.class == name).map_or(0, |each| each.count)
    };
    let total = SHOWN.map(count);
    let of_class = total.map(|count| if count == 0 { "0" } else { "?" }.to_owned());
    let [p50, p99, max] = ["recovery p50 ms", "p99 ms", "max ms"];
    let mut table = table([
        "class",
        "injected",
        "missed",
        "lost",
        "duplicate",
        "reordered",
        "phantom",
        "torn",
        p50,
        p99,
        max,
        "never",
    ]);
    let mut all = Vec::new();
    for (class, times) in &classes {
        table.add_row(row(class.name(), times, missed[class], of_class.clone()));
        all.extend(times);
    }
    table.add_row(row("all", &all, missed.values().sum(), total.map(|count| count.to_string())));
    let others: Vec<_> =
        report.verdicts.iter().filter(|each| !SHOWN.contains(&each.class.as_str())).collect();
    let others: Vec<_> =
        others.iter().map(|verdict| format!("{} {}", verdict.class, verdict.count)).collect();
    let rate = messages as f64 / elapsed.as_secs_f64().max(1.0);
    let seconds = elapsed.as_secs();
    format!("{table}\n{}\n{messages} messages in {seconds} s, {rate:.0} a second", others.join(", "))
}

/// The most resident memory of the subjects: of the largest one, and of the pipelines.
pub(crate) fn memory(peaks: &BTreeMap<String, u64>) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let each: Vec<_> = peaks.iter().map(|(name, peak)| format!("{name} {:.0}", mib(*peak))).collect();
    format!("peak resident MiB (at most {:.0} are right): {}", mib(MOST_MEMORY), each.join(", "))
}

fn row(name: &str, times: &[Option<u64>], missed: usize, wrong: [String; SHOWN.len()]) -> Vec<String> {
    let mut known: Vec<u64> = times.iter().copied().flatten().collect();
    known.sort_unstable();
    let at = |share: f64| {
        let index = ((known.len() as f64 * share).ceil() as usize).clamp(1, known.len().max(1)) - 1;
        known.get(index).map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    let mut row = vec![name.to_owned(), times.len().to_string(), missed.to_string()];
    row.extend(wrong);
    row.extend([at(0.5), at(0.99), at(1.0), (times.len() - known.len()).to_string()]);
    row
}
