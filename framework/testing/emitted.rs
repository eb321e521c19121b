//! What a run has emitted, in a form that two runs can be compared in.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use bytes::Bytes;

use super::{report::MOST_LINES, stage::Wave};
use crate::{
    log::Received,
    message::{Headers, MessageId, header},
};

/// A record without what differs from run to run.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Emitted {
    topic: Arc<str>,
    key: Option<Bytes>,
    payload: Option<Bytes>,
    headers: Headers,
}

struct Text<'a>(&'a Option<Bytes>);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_deref().map(str::from_utf8) {
            None => out.write_str("none"),
            Some(Ok(text)) => out.write_str(text),
            Some(Err(_)) => self.0.fmt(out),
        }
    }
}

impl fmt::Debug for Emitted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, key, payload, headers } = self;
        write!(out, "{topic} key {:?} payload {:?} (", Text(key), Text(payload))?;
        for (number, (name, value)) in headers.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(out, "{comma}{name} {:?}", Text(&value.map(Bytes::copy_from_slice)))?;
        }
        out.write_str(")")
    }
}

/// Records that were not sent by the test: in order per topic and key, those without a key in any.
pub(super) fn emitted(records: Vec<Received>, waves: &[Wave], inputs: &[&'static str]) -> Vec<Emitted> {
    let sent: HashSet<MessageId> =
        waves.iter().flatten().filter_map(|record| record.headers.message_id()).collect();
    let own = |record: &Received| record.headers.message_id().is_none_or(|id| !sent.contains(&id));
    let records: Vec<Received> = records.into_iter().filter(own).collect();
    // Ids are made of offsets; those of a topic that is read and written move with every aborted transaction.
    let chained = records.iter().any(|record| inputs.contains(&&*record.topic));
    let left_out: BTreeSet<&str> = match chained {
        true => [header::TIME, header::ID].into(),
        false => [header::TIME].into(),
    };
    let mut emitted: Vec<Emitted> = records
        .into_iter()
        .map(|record| {
            let mut headers = Headers::new();
            for (name, value) in record.headers.iter().filter(|(name, _)| !left_out.contains(name)) {
                headers.push_raw(name.to_owned(), value.map(Bytes::copy_from_slice));
            }
            Emitted { topic: record.topic, key: record.key, payload: record.payload, headers }
        })
        .collect();
    emitted.sort_by(|one, two| {
        let place = |each: &Emitted| (each.topic.clone(), each.key.clone());
        let any = |each: &Emitted| each.key.is_none().then(|| format!("{each:?}"));
        place(one).cmp(&place(two)).then_with(|| any(one).cmp(&any(two)))
    });
    emitted
}

/// What is missing and what is too much, or both orders if that is all that differs.
pub(super) fn difference(expected: &[Emitted], found: &[Emitted]) -> Option<String> {
    if expected == found {
        return None;
    }
    let (missing, extra) = (without(expected, found), without(found, expected));
    let mut text = "what was emitted differs".to_owned();
    let parts = match missing.is_empty() && extra.is_empty() {
        true => [("crash-free", expected.iter().collect()), ("here", found.iter().collect())],
        false => [("missing here", missing), ("only here", extra)],
    };
    for (name, records) in parts.into_iter().filter(|(_, records)| !records.is_empty()) {
        text += &format!("\n  {name}:");
        for record in records.iter().take(MOST_LINES) {
            text += &format!("\n    {record:?}");
        }
        if records.len() > MOST_LINES {
            text += &format!("\n    and {} more", records.len() - MOST_LINES);
        }
    }
    Some(text)
}

/// What remains when each of `others` takes one like itself away.
fn without<'a>(records: &'a [Emitted], others: &[Emitted]) -> Vec<&'a Emitted> {
    let mut others: Vec<&Emitted> = others.iter().collect();
    let mut remains = |record: &&Emitted| match others.iter().position(|other| other == record) {
        Some(at) => {
            others.swap_remove(at);
            false
        }
        None => true,
    };
    records.iter().filter(|record| remains(record)).collect()
}
