//! Looks whether everything is as it should be, in the tables and in the topics, and says so in a table.
//!
//! It reads the tables of all services: it is the judge, not a part of the pipeline.

mod events;
mod motion;
mod tables;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use tidelock::prelude::*;

pub(crate) use motion::Motion;
pub(crate) use tables::Audit;

use crate::{shop::Shop, verify_topics::Topics};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Finding {
    what: String,
    /// How many were looked at.
    seen: i64,
    /// How many of them are not as they should be.
    off: i64,
}

/// Verifies and prints; answers whether nothing is off.
pub(crate) async fn run<D: Shop>(database: &D, topics: &Topics) -> Result<bool, BoxError> {
    let records = topics.read().await?;
    let mut connection = database.reading().await?;
    let mut findings = connection.check().await?;
    findings.extend(events::check(&records, &connection.fates().await?));
    drop(connection);

    println!("{}", summary(&Motion::look(database).await?));
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["verified", "seen", "off"]);
    for finding in &findings {
        table.add_row([finding.what.clone(), finding.seen.to_string(), finding.off.to_string()]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    let right = findings.iter().all(|finding| finding.off == 0);
    println!("{}", if right { "everything is right" } else { "NOT RIGHT" });
    Ok(right)
}

fn summary(motion: &Motion) -> String {
    let finals = crate::orders::State::FINAL.map(|state| format!("{} {}", motion.count(state), state.name()));
    format!("{} orders: {}", motion.orders(), finals.join(", "))
}
