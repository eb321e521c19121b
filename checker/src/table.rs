//! The report as people read it.

use std::fmt;

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};

use crate::{
    findings::{Class, SHOWN},
    report::{COLUMNS, Report},
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run {}", self.run)?;
        writeln!(f, "{}", self.read())?;
        if !self.faults.is_empty() {
            writeln!(f, "{}", self.fault_table())?;
        }
        if !self.recoveries.is_empty() {
            writeln!(f, "{}", self.histogram())?;
        }
        writeln!(f, "{}", self.verdict_table())?;
        for verdict in self.verdicts.iter().filter(|verdict| verdict.count > 0) {
            writeln!(f, "{}: {}", verdict.class.as_str(), verdict.count)?;
            for finding in &verdict.first {
                writeln!(f, "  {finding}")?;
            }
            if verdict.count > SHOWN as u64 {
                writeln!(f, "  and {} more", verdict.count - SHOWN as u64)?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        write!(f, "{}", if self.clean { "clean" } else { "WRONG" })
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}

fn or_dash(value: Option<u64>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

impl Report {
    fn read(&self) -> Table {
        let figures = &self.figures;
        let mut table = table(&["read", "records", "hidden"]);
        for counts in &figures.topics {
            table.add_row([counts.topic.clone(), counts.seen.to_string(), counts.hidden.to_string()]);
        }
        table.add_row(["ledger".into(), figures.ledger.to_string(), String::new()]);
        table.add_row(["effects".into(), figures.effects.to_string(), String::new()]);
        table.add_row(["foreign".into(), figures.foreign.to_string(), String::new()]);
        table.add_row([
            format!("in {:.1} s", figures.seconds),
            format!("{} KiB kept", figures.memory / 1024),
            String::new(),
        ]);
        table
    }

    fn fault_table(&self) -> Table {
        let mut table = table(&[
            "fault",
            "class",
            "what",
            "lasted ms",
            "stood still ms",
            "where",
            "right ms",
            "recovery ms",
        ]);
        for fault in &self.faults {
            let standstill = fault.standstill.as_ref();
            table.add_row([
                fault.id.to_string(),
                fault.class.clone(),
                fault.what.clone(),
                or_dash(fault.lasted_ms),
                or_dash(standstill.map(|longest| longest.ms)),
                standstill.map(|longest| longest.partition.clone()).unwrap_or_default(),
                or_dash(fault.within_ms),
                or_dash(fault.recovery_ms),
            ]);
        }
        table
    }

    fn histogram(&self) -> Table {
        let mut header = vec!["recovery".into(), "faults".into(), "median ms".into(), "longest ms".into()];
        header.extend(COLUMNS.iter().map(|column| format!("<={column}")));
        header.push("more".into());
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut table = table(&header);
        for (class, times) in &self.recoveries {
            let mut row = vec![class.clone()];
            row.extend([times.count, times.median_ms, times.most_ms].map(|figure| figure.to_string()));
            row.extend(times.histogram.iter().map(ToString::to_string));
            table.add_row(row);
        }
        table
    }

    fn verdict_table(&self) -> Table {
        let mut table = table(&["verdict", "count", "first"]);
        for class in Class::ALL {
            let verdict = self.verdict(class);
            let first = verdict.first.first().map(ToString::to_string).unwrap_or_default();
            table.add_row([class.as_str().into(), verdict.count.to_string(), first]);
        }
        table
    }
}
