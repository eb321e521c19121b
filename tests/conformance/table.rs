//! The table: a row for each clause, a column for each implementation.

use std::{
    panic,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Row, database, log};

/// How many clauses run at a time.
const AT_A_TIME: usize = 6;

/// Runs every clause on every implementation, and prints what came of it.
#[test]
#[ignore = "runs every clause once more, to print the table"]
fn table() {
    let equal = [
        compare("database", &[("postgresql", database::postgres::ALL), ("sqlite", database::sqlite::ALL)]),
        compare("log", &[("kafka", log::kafka::ALL), ("embedded", log::embedded::ALL)]),
    ];
    assert!(equal.iter().all(|equal| *equal), "not every clause holds everywhere");
}

/// Prints one table; true when every clause holds everywhere.
#[expect(clippy::print_stdout, reason = "it is run to be read")]
fn compare(contract: &str, columns: &[(&str, &[Row])]) -> bool {
    let clauses = columns[0].1;
    let runs: Vec<fn()> = columns.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.2)).collect();
    let held = run_all(&runs);
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([contract, "clause"].into_iter().chain(columns.iter().map(|(name, _)| *name)));
    for (index, (subject, clause, _)) in clauses.iter().enumerate() {
        let mut row = vec![(*subject).replace('_', " "), clause.replace('_', " ")];
        for (column, (_, rows)) in columns.iter().enumerate() {
            assert_eq!((rows[index].0, rows[index].1), (*subject, *clause));
            row.push(if held[column * clauses.len() + index] { "holds" } else { "FAILS" }.to_owned());
        }
        table.add_row(row);
    }
    println!("{table}");
    let all = held.iter().filter(|held| **held).count();
    println!("{contract}: {} clauses, {all} of {} hold\n", clauses.len(), held.len());
    all == held.len()
}

fn run_all(runs: &[fn()]) -> Vec<bool> {
    let held = Mutex::new(vec![false; runs.len()]);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(run) = runs.get(index) else { return };
                    let holds = panic::catch_unwind(run).is_ok();
                    held.lock().unwrap()[index] = holds;
                }
            });
        }
    });
    held.into_inner().unwrap()
}
