//! What readers of an outbox have in common, whatever database they read.

use std::{collections::HashMap, sync::Arc};

use super::{OutboxRow, Shard};

/// Rows of the first batch, before their size is known; each batch may have four times as many as the last one.
const FIRST_ROWS: usize = 64;
/// Bytes after which a batch is cut, whatever its rows.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// Nothing for a single shard, else a condition on the bucket.
pub(super) fn shard_filter(shard: Shard) -> String {
    match shard.count {
        1 => String::new(),
        count => format!(" AND bucket % {count} = {}", shard.index),
    }
}

/// About how many bytes a row takes.
pub(super) fn size(row: &OutboxRow) -> usize {
    200 + row.key.as_ref().map_or(0, |key| key.len())
        + row.payload.as_ref().map_or(0, |payload| payload.len())
}

/// How many rows to ask for: more and more, as long as they fit.
#[derive(Debug)]
pub(super) struct Appetite(usize);

impl Default for Appetite {
    fn default() -> Self {
        Self(FIRST_ROWS)
    }
}

impl Appetite {
    pub(super) fn limit(&self, most: usize) -> usize {
        most.min(self.0)
    }

    /// After a batch, which is not empty.
    pub(super) fn fed(&mut self, rows: &[OutboxRow]) {
        let bytes: usize = rows.iter().map(size).sum();
        let fitting = (MAX_BYTES / (bytes / rows.len()).max(1)).max(1);
        self.0 = self.0.saturating_mul(4).min(fitting);
    }
}

/// Topics and types of the rows, each stored once.
#[derive(Debug, Default)]
pub(super) struct Texts(HashMap<String, Arc<str>>);

impl Texts {
    pub(super) fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        // They are few; if they are not, they are not worth remembering.
        if self.0.len() > 1_000 {
            self.0.clear();
        }
        self.0.entry(text.to_owned()).or_insert_with(|| text.into()).clone()
    }
}
