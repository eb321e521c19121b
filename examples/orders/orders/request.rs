//! What a customer may ask for, and the sentence for everything else.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::events::Line;

const MOST_LINES: usize = 100;
const MOST_PIECES: i64 = 1_000;
const LONGEST_TEXT: usize = 200;

/// The body of `POST /orders`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    pub(crate) customer: String,
    pub(crate) lines: Vec<Line>,
}

impl OrderRequest {
    /// What is wrong with it, for the customer to read. Whether the articles exist is asked of the database.
    pub(crate) fn check(&self) -> Result<(), String> {
        legible("customer", &self.customer)?;
        if self.lines.is_empty() {
            return Err("an order needs at least one line".to_owned());
        }
        if self.lines.len() > MOST_LINES {
            return Err(format!("an order may have {MOST_LINES} lines, this one has {}", self.lines.len()));
        }
        let mut seen = BTreeSet::new();
        for Line { sku, quantity } in &self.lines {
            legible("sku", sku)?;
            if !(1..=MOST_PIECES).contains(quantity) {
                return Err(format!(
                    "the quantity of {sku:?} is {quantity}, it must be from 1 to {MOST_PIECES}"
                ));
            }
            if !seen.insert(sku) {
                return Err(format!("{sku:?} stands in two lines, put them together"));
            }
        }
        Ok(())
    }
}

/// Text that a person can read and PostgreSQL can store.
pub(crate) fn legible(what: &str, text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if text.trim().is_empty() {
        return Err(format!("{what} is empty"));
    }
    if length > LONGEST_TEXT {
        return Err(format!("{what} has {length} characters, at most {LONGEST_TEXT} are allowed"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} contains control characters"));
    }
    Ok(())
}
