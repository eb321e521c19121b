//! The first reading: every record, row and effect once, into bits and digests.

use std::collections::HashMap;

use super::{
    blocks::{Blocks, blend},
    evidence::{Case, Effect, Record, Role, Row},
    keys::{Keys, Order, Step},
    stand::Stand,
    transactions::Transactions,
};
use crate::{
    findings::{Class, Finding, Findings, Id, Place},
    identity::{Identity, Sealed, content, envelope},
};

/// Copies of one message that are told apart; more are wrong whatever the ledger says.
pub(crate) const COPIES: u32 = 256;
/// Corrupted records whose identity is believed if nobody else claims it.
const CLAIMS: usize = 10_000;

/// Everything that is kept of the first reading.
#[derive(Debug)]
pub(crate) struct Hearing<'a> {
    case: &'a Case,
    pub(crate) findings: Findings,
    pub(crate) blocks: Blocks,
    pub(crate) transactions: Transactions,
    pub(crate) keys: Keys,
    pub(crate) stands: HashMap<(usize, i32), Stand>,
    claims: Vec<Claim>,
    /// Rows of the ledger.
    pub(crate) owed: u64,
    /// Rows of the table of effects.
    pub(crate) effects: u64,
    /// Records of other runs or without an identity.
    pub(crate) foreign: u64,
    /// Rows of the ledger that contradict another, as texts.
    pub(crate) nonsense: Option<String>,
}

/// What a corrupted record says it is.
#[derive(Debug)]
struct Claim {
    role: Role,
    producer: u32,
    seq: u64,
    copy: u32,
    txn: u64,
    of: u32,
    fields: u64,
    crc: u32,
}

impl<'a> Hearing<'a> {
    pub(crate) fn new(case: &'a Case) -> Self {
        Self {
            case,
            findings: Findings::new(),
            blocks: Blocks::default(),
            transactions: Transactions::default(),
            keys: Keys::default(),
            stands: HashMap::new(),
            claims: Vec::new(),
            owed: 0,
            effects: 0,
            foreign: 0,
            nonsense: None,
        }
    }

    pub(crate) fn owe(&mut self, row: Row) {
        self.owed += 1;
        let Row { producer, seq, copies, .. } = row;
        let fields = row_fields(&row);
        let (block, at) = self.blocks.of(producer, seq);
        let fresh = block.owed.put(at, fields);
        (0..copies.min(COPIES)).for_each(|copy| {
            block.copy(copy).owed.put(at, fields);
        });
        if !fresh {
            self.nonsense = Some(format!("the ledger has {producer}/{seq} twice"));
        } else if copies > COPIES {
            self.nonsense =
                Some(format!("the ledger owes {copies} copies of {producer}/{seq}, more than {COPIES}"));
        }
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects += 1;
        let Effect { producer, seq, crc } = effect;
        let (block, at) = self.blocks.of(producer, seq);
        let owed = if self.case.ledger { block.owed.has(at) } else { block.heard.has(at) };
        let fresh = block.effects.put(at, blend(&[seq, u64::from(crc)]));
        let text = match (owed, fresh) {
            (true, true) => return,
            (false, _) => "an effect that no message owes",
            (true, false) => "the effect is there twice",
        };
        let id = Some(Id { producer, seq, copy: 0 });
        self.findings.add(Class::Effect, || Finding { id, place: None, text: text.into() });
    }

    pub(crate) fn hear(&mut self, record: &Record<'_>) {
        let envelope = envelope(record.key, record.payload);
        let content = content(&envelope, record.header);
        let topic = &self.case.topics[record.topic];
        let (case, place) = (self.case, place(self.case, record));
        let stand = self
            .stands
            .entry((record.topic, record.partition))
            .or_insert_with(|| Stand::new(case, record.topic, record.partition));
        if let Err(expected) = stand.step(record.offset, content) {
            let text = format!("an offset below {expected}, which was to come next");
            self.findings.add(Class::Backwards, || Finding { id: None, place: Some(place()), text });
        }
        let sealed = match identity(self.case, record) {
            Ok(sealed) => sealed,
            Err(text) => {
                self.foreign += 1;
                if !self.case.foreign_allowed {
                    self.findings.add(Class::Foreign, || Finding { id: None, place: Some(place()), text });
                }
                return;
            }
        };
        if !sealed.fits_in(&envelope) {
            self.corrupted(topic.role, &sealed, place);
            return;
        }
        let verdict = match topic.role {
            Role::In => self.input(&sealed),
            Role::Out => self.output(&sealed.identity),
        };
        let id = id(&sealed.identity);
        match verdict {
            Some((class, text)) => {
                let text = text.into();
                self.findings.add(class, || Finding { id: Some(id), place: Some(place()), text });
            }
            None => self.follow(record, &sealed.identity, topic.role, place),
        }
    }

    fn input(&mut self, sealed: &Sealed<'_>) -> Option<(Class, &'static str)> {
        let Identity { producer, seq, txn, of, .. } = sealed.identity;
        let (block, at) = self.blocks.of(producer, seq);
        let owed = block.owed.has(at);
        if !block.heard.put(at, fields(&sealed.identity)) {
            return Some((Class::Duplicate, "seen again"));
        }
        block.crcs = block.crcs.wrapping_add(blend(&[seq, u64::from(sealed.crc)]));
        self.transactions.add(producer, txn, of);
        (self.case.ledger && !owed).then_some((Class::Phantom, "seen, but not in the ledger"))
    }

    fn output(&mut self, identity: &Identity<'_>) -> Option<(Class, &'static str)> {
        let Identity { producer, seq, copy, .. } = *identity;
        if copy >= COPIES {
            return Some((Class::Output, "the copy's number is absurd"));
        }
        let (block, at) = self.blocks.of(producer, seq);
        let committed = block.owed.has(at);
        let copy = block.copy(copy);
        if !copy.heard.put(at, fields(identity)) {
            return Some((Class::Duplicate, "seen again"));
        }
        match (self.case.ledger, copy.owed.has(at), committed) {
            (false, ..) | (true, true, _) => None,
            (true, false, true) => Some((Class::Output, "one copy too many")),
            (true, false, false) => {
                Some((Class::Phantom, "an output of a message that is not in the ledger"))
            }
        }
    }

    fn follow(&mut self, record: &Record<'_>, said: &Identity<'_>, role: Role, place: impl Fn() -> Place) {
        let Identity { key_seq, copy, .. } = *said;
        if key_seq == 0 {
            return;
        }
        let Record { topic, partition, offset, .. } = *record;
        let step = Step { topic, partition, offset, key_seq, copy };
        let gaps = !self.case.ledger && role == Role::In;
        let text = match self.keys.follow(record.key, step, gaps) {
            Order::Right => return,
            Order::Behind { key_seq: last, copy: 0 } => {
                format!("number {key_seq} of its key, after number {last}")
            }
            Order::Behind { key_seq: last, copy } => {
                format!("number {key_seq} of its key, after copy {copy} of number {last}")
            }
            Order::Elsewhere { partition } => format!("its key was seen first in partition {partition}"),
        };
        let id = Some(id(said));
        self.findings.add(Class::Reordered, || Finding { id, place: Some(place()), text });
    }

    fn corrupted(&mut self, role: Role, sealed: &Sealed<'_>, place: impl Fn() -> Place) {
        let identity = sealed.identity;
        let text = format!("the checksum {:08x} is not that of the record", sealed.crc);
        let found = Finding { id: Some(id(&identity)), place: Some(place()), text };
        self.findings.add(Class::Corrupted, || found);
        let Identity { producer, seq, copy, txn, of, .. } = identity;
        if self.claims.len() < CLAIMS && copy < COPIES {
            let fields = fields(&identity);
            self.claims.push(Claim { role, producer, seq, copy, txn, of, fields, crc: sealed.crc });
        }
    }

    /// After all records: a corrupted one counts as the message it says it is, if that is owed and came nowhere else.
    pub(crate) fn hear_claims(&mut self) {
        for claim in std::mem::take(&mut self.claims) {
            let (block, at) = self.blocks.of(claim.producer, claim.seq);
            match claim.role {
                Role::Out => {
                    let copy = block.copy(claim.copy);
                    if copy.owed.has(at) {
                        copy.heard.put(at, claim.fields);
                    }
                }
                Role::In if !self.case.ledger || block.owed.has(at) => {
                    if block.heard.put(at, claim.fields) {
                        let crc = blend(&[claim.seq, u64::from(claim.crc)]);
                        block.crcs = block.crcs.wrapping_add(crc);
                        self.transactions.add(claim.producer, claim.txn, claim.of);
                    }
                }
                Role::In => {}
            }
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let stands: usize = self.stands.values().map(Stand::bytes).sum();
        self.blocks.bytes() + self.transactions.bytes() + self.keys.bytes() + stands
    }
}

/// The identity of a record of this run, or why it has none.
pub(crate) fn identity<'r>(case: &Case, record: &Record<'r>) -> Result<Sealed<'r>, String> {
    let sealed = Sealed::read(record.header.ok_or("the header is missing")?)?;
    let Identity { run, copy, .. } = sealed.identity;
    if run != case.run {
        return Err(format!("of the run {run:?}"));
    }
    if copy > 0 && case.topics[record.topic].role == Role::In {
        return Err(format!("copy {copy} in an input topic"));
    }
    Ok(sealed)
}

pub(crate) fn place(case: &Case, record: &Record<'_>) -> impl Fn() -> Place {
    let Record { topic, partition, offset, .. } = *record;
    move || Place { topic: case.topics[topic].name.clone(), partition, offset }
}

pub(crate) fn id(identity: &Identity<'_>) -> Id {
    Id { producer: identity.producer, seq: identity.seq, copy: identity.copy }
}

/// What a message and its row in the ledger must agree on.
pub(crate) fn fields(identity: &Identity<'_>) -> u64 {
    let Identity { seq, key_seq, txn, of, .. } = *identity;
    blend(&[seq, key_seq, txn, u64::from(of)])
}

pub(crate) fn row_fields(row: &Row) -> u64 {
    blend(&[row.seq, row.key_seq, row.txn, u64::from(row.of)])
}
