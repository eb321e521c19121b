//! The closer look: reads again, and keeps everything of the few blocks whose digests differ.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    blocks::SPAN,
    evidence::{Case, Effect, Evidence, Record, Role, Row, View},
    hearing::{Hearing, fields, id, identity, place, row_fields},
};
use crate::{
    Result,
    findings::{Class, Finding, Findings, Id, Place},
    identity::Identity,
};

/// Blocks, and pages of transactions, that are looked into: bounds memory to some tens of MB.
const LOOKS: usize = 64;

/// What the closer look is about.
pub(crate) struct Suspicion {
    blocks: HashSet<(u32, u64)>,
    pages: HashSet<(u32, u64)>,
    twice: HashMap<(Role, Id), Vec<Place>>,
    /// Blocks and pages beyond the limit.
    pub(crate) left_out: usize,
}

struct Part {
    of: u32,
    seqs: BTreeSet<u64>,
    place: Place,
}

impl Suspicion {
    /// What the first reading leaves in doubt, if anything.
    pub(crate) fn of(case: &Case, hearing: &mut Hearing<'_>) -> Option<Self> {
        let outputs = case.topics.iter().any(|topic| topic.role == Role::Out);
        let blocks = hearing.blocks.sorted();
        let unsettled = blocks.iter().filter(|(_, b)| !b.is_settled(case.ledger, case.effects, outputs));
        let blocks: Vec<_> = unsettled.map(|(place, _)| *place).collect();
        let pages = hearing.transactions.torn_pages();
        let left_out = blocks.len().saturating_sub(LOOKS) + pages.len().saturating_sub(LOOKS);
        let role = |finding: &Finding| {
            let name = &finding.place.as_ref()?.topic;
            case.topics.iter().find(|topic| topic.name == *name).map(|topic| topic.role)
        };
        let twice = hearing.findings.shown(Class::Duplicate).iter();
        let twice: HashMap<_, _> =
            twice.filter_map(|finding| Some(((role(finding)?, finding.id?), Vec::new()))).collect();
        if blocks.is_empty() && pages.is_empty() && twice.is_empty() {
            return None;
        }
        let first = |places: Vec<_>| places.into_iter().take(LOOKS).collect();
        Some(Self { blocks: first(blocks), pages: first(pages), twice, left_out })
    }

    /// Reads again and names what differs.
    pub(crate) fn look(
        mut self,
        case: &Case,
        evidence: &mut dyn Evidence,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut rows: HashMap<(u32, u64), Row> = HashMap::new();
        if case.ledger {
            evidence.ledger(&mut |row| {
                if self.blocks.contains(&(row.producer, row.seq / SPAN)) {
                    rows.insert((row.producer, row.seq), row);
                }
            })?;
        }
        let mut crcs = HashMap::new();
        let mut parts: BTreeMap<(u32, u64), Part> = BTreeMap::new();
        evidence.records(View::Committed, &mut |record: &Record<'_>| {
            let Ok(sealed) = identity(case, record) else { return };
            let Identity { producer, seq, .. } = sealed.identity;
            let role = case.topics[record.topic].role;
            let place = place(case, record);
            if let Some(places) = self.twice.get_mut(&(role, id(&sealed.identity))) {
                places.push(place());
            }
            let near = self.blocks.contains(&(producer, seq / SPAN));
            let row = if near { rows.get(&(producer, seq)) } else { None };
            let sound = (near || role == Role::In) && sealed.fits(record.key, record.payload);
            if sound
                && let Some(row) = row
                && row_fields(row) != fields(&sealed.identity)
            {
                let found = Finding {
                    id: Some(id(&sealed.identity)),
                    place: Some(place()),
                    text: disagreement(row, &sealed.identity),
                };
                findings.add(Class::Corrupted, || found);
            }
            if role == Role::Out {
                return;
            }
            if near && sound {
                crcs.entry((producer, seq)).or_insert(sealed.crc);
            }
            let (txn, of) = row.map_or((sealed.identity.txn, sealed.identity.of), |row| (row.txn, row.of));
            if self.pages.contains(&(producer, txn / SPAN)) {
                let part = parts.entry((producer, txn));
                let part = part.or_insert_with(|| Part { of, seqs: BTreeSet::new(), place: place() });
                part.seqs.insert(seq);
            }
        })?;
        for ((producer, txn), Part { of, seqs, place }) in parts {
            if seqs.len() as u64 != u64::from(of) {
                let id = seqs.first().map(|seq| Id { producer, seq: *seq, copy: 0 });
                let text = format!("transaction {txn} has {of} messages, seen are {seqs:?}");
                findings.add(Class::Torn, || Finding { id, place: Some(place), text });
            }
        }
        if case.effects {
            evidence.effects(&mut |Effect { producer, seq, crc }| {
                if let Some(right) = crcs.get(&(producer, seq)).filter(|right| **right != crc) {
                    let text = format!("the effect is of checksum {crc:08x}, the message of {right:08x}");
                    let id = Some(Id { producer, seq, copy: 0 });
                    findings.add(Class::Effect, || Finding { id, place: None, text });
                }
            })?;
        }
        for finding in findings.shown(Class::Duplicate) {
            let roles = [Role::In, Role::Out].into_iter();
            let all = roles.filter_map(|role| self.twice.get(&(role, finding.id?))).flatten();
            let others = all.filter(|place| Some(*place) != finding.place.as_ref());
            let others: Vec<_> = others.map(ToString::to_string).collect();
            finding.text = format!("{}; also at {}", finding.text, others.join(", "));
        }
        Ok(())
    }
}

fn disagreement(row: &Row, identity: &Identity<'_>) -> String {
    let fields = [
        ("KEYSEQ", row.key_seq, identity.key_seq),
        ("TXN", row.txn, identity.txn),
        ("OF", u64::from(row.of), u64::from(identity.of)),
    ];
    let wrong = fields.iter().filter(|(_, ledger, message)| ledger != message);
    let wrong: Vec<_> =
        wrong.map(|(name, ledger, message)| format!("{name} {message}, the ledger {ledger}")).collect();
    format!("the message says {}", wrong.join(" and "))
}
