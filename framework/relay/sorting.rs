//! Which rows are sent, and which go to the quarantine: refused ones, and what follows them under their key.

use std::collections::{HashMap, HashSet};

use super::envelope::Envelope;
use crate::{
    database::{HeldKey, OutboxRow, Quarantined},
    error::Result,
    log::{Record, codec},
    message::MessageId,
};

/// The keys of a shard whose messages wait in quarantine.
pub(crate) struct Sorting {
    held: HashSet<HeldKey>,
}

/// A batch, sorted.
pub(crate) struct Sorted {
    pub(crate) records: Vec<Record>,
    /// The id of each record.
    pub(crate) ids: Vec<MessageId>,
    pub(crate) held: Vec<Quarantined>,
}

impl Sorting {
    pub(crate) fn new(held: HashSet<HeldKey>) -> Self {
        Self { held }
    }

    /// Notes the keys of messages whose quarantine is confirmed.
    pub(crate) fn hold(&mut self, messages: &[Quarantined]) {
        self.held.extend(messages.iter().filter_map(held_key));
    }

    pub(crate) fn sort(
        &self,
        rows: Vec<OutboxRow>,
        refused: &HashMap<MessageId, String>,
        envelope: &Envelope,
    ) -> Result<Sorted> {
        let mut sorted = Sorted {
            records: Vec::with_capacity(rows.len()),
            ids: Vec::with_capacity(rows.len()),
            held: Vec::new(),
        };
        let mut behind: HashMap<HeldKey, MessageId> = HashMap::new();
        for row in rows {
            let record = envelope.record(&row);
            let reason = match self.reason(&row, refused, &behind) {
                None => {
                    sorted.records.push(record);
                    sorted.ids.push(row.id);
                    continue;
                }
                Some(reason) => reason,
            };
            let message = Quarantined {
                id: row.id,
                topic: row.topic,
                key: row.key,
                record: codec::encode(&[record])?,
                reason,
            };
            if let Some(key) = held_key(&message) {
                behind.entry(key).or_insert(message.id);
            }
            sorted.held.push(message);
        }
        Ok(sorted)
    }

    fn reason(
        &self,
        row: &OutboxRow,
        refused: &HashMap<MessageId, String>,
        behind: &HashMap<HeldKey, MessageId>,
    ) -> Option<String> {
        if let Some(reason) = refused.get(&row.id) {
            return Some(reason.clone());
        }
        if self.held.is_empty() && behind.is_empty() {
            return None;
        }
        let key = HeldKey { topic: row.topic.clone(), key: row.key.clone()? };
        match behind.get(&key) {
            Some(first) => Some(format!("behind message {first} of the same key")),
            None if self.held.contains(&key) => Some("behind an earlier message of the same key".to_owned()),
            None => None,
        }
    }
}

fn held_key(message: &Quarantined) -> Option<HeldKey> {
    Some(HeldKey { topic: message.topic.clone(), key: message.key.clone()? })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn row(seq: i64, key: Option<&'static str>) -> OutboxRow {
        OutboxRow {
            seq,
            id: MessageId::at_offset("row", "", 0, seq),
            topic: "t".into(),
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            payload: None,
            event_type: None,
            headers: None,
            time_us: 0,
        }
    }

    #[test]
    fn a_refused_row_takes_the_later_ones_of_its_key_along() {
        let rows: Vec<OutboxRow> = [
            (1, Some("a")),
            (2, Some("b")),
            (3, None),
            (4, Some("a")),
            (5, None),
            (6, Some("b")),
            (7, Some("held")),
        ]
        .map(|(seq, key)| row(seq, key))
        .into();
        let refused = [(rows[1].id, "too large".to_owned()), (rows[2].id, "too large".to_owned())].into();
        let held = HeldKey { topic: "t".into(), key: Bytes::from_static(b"held") };
        let sorted =
            Sorting::new([held].into()).sort(rows.clone(), &refused, &Envelope::new("/s".into())).unwrap();
        let ids = |seqs: &[usize]| seqs.iter().map(|seq| rows[seq - 1].id).collect::<Vec<_>>();
        assert_eq!(sorted.ids, ids(&[1, 4, 5]));
        assert_eq!(sorted.records.len(), 3);
        assert_eq!(sorted.held.iter().map(|each| each.id).collect::<Vec<_>>(), ids(&[2, 3, 6, 7]));
        assert_eq!(sorted.held[2].reason, format!("behind message {} of the same key", rows[1].id));
    }
}
