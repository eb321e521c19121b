//! The judgement itself: pure, over streams of identities, in bits of memory per message.
//!
//! Ledger, committed records and effects are read once into bits and digests ([`hearing`]). What is missing follows from
//! them; all records, also hidden ones, are then read to count them and to find what was lost among them. Only if some
//! digest differs are the sources read again, for the blocks in question ([`closer`]).

mod blocks;
mod closer;
pub(crate) mod evidence;
mod hearing;
mod keys;
mod pace;
mod stand;
mod transactions;

use std::{collections::HashMap, time::Instant};

pub(crate) use blocks::blend;
use closer::Suspicion;
use evidence::{Bounds, Case, Evidence, Record, Role, View};
use hearing::{Hearing, id, identity, place};

use crate::{
    Error, Result,
    findings::{Class, Finding, Id, Place},
    report::{Counts, Figures, Report},
};

/// Judges a case by its evidence.
///
/// # Errors
///
/// When a piece of evidence cannot be read or contradicts itself. What is wrong with the history is in the report.
pub fn examine(case: &Case, evidence: &mut dyn Evidence) -> Result<Report> {
    let started = Instant::now();
    let mut hearing = Hearing::new(case);
    if case.ledger {
        evidence.ledger(&mut |row| hearing.owe(row))?;
    }
    if let Some(reason) = hearing.nonsense.take() {
        return Err(Error::Settings(reason));
    }
    let bounds = evidence.records(View::Committed, &mut |record| hearing.hear(record))?;
    hearing.hear_claims();
    if case.effects {
        evidence.effects(&mut |effect| hearing.effect(effect))?;
    }
    missing(case, &mut hearing);
    open(case, &mut hearing, &bounds);
    let all = uncover(case, evidence, &mut hearing)?;
    let mut notes = Vec::new();
    if let Some(suspicion) = Suspicion::of(case, &mut hearing) {
        if suspicion.left_out > 0 {
            notes.push(format!(
                "{} more blocks of 4096 messages or transactions differ and were not looked into",
                suspicion.left_out
            ));
        }
        suspicion.look(case, evidence, &mut hearing.findings)?;
    }
    compare_readers(case, &mut hearing, &bounds, &mut notes);
    let faults = pace::judge(case, evidence, &mut hearing, &bounds, &mut notes)?;
    for bound in bounds.iter().filter(|bound| bound.low > 0) {
        let topic = &case.topics[bound.topic].name;
        notes.push(format!(
            "{topic}[{}] begins at offset {}: what was before is not judged",
            bound.partition, bound.low
        ));
    }
    let topics = counts(case, &hearing, &all);
    let figures = Figures {
        ledger: hearing.owed,
        effects: hearing.effects,
        foreign: hearing.foreign,
        topics,
        memory: hearing.bytes() as u64,
        seconds: started.elapsed().as_secs_f64(),
    };
    Ok(Report::new(case.run.clone(), hearing.findings.into_verdicts(), faults, figures, notes))
}

/// What is owed and did not come.
fn missing(case: &Case, hearing: &mut Hearing<'_>) {
    let outputs = case.topics.iter().any(|topic| topic.role == Role::Out);
    let findings = &mut hearing.findings;
    let absent = |id, text: &str| Finding { id: Some(id), place: None, text: text.into() };
    for ((producer, number), block) in hearing.blocks.sorted() {
        let id = |at, copy| Id { producer, seq: number * blocks::SPAN + at, copy: copy as u32 };
        if case.ledger {
            for at in block.owed.without(&block.heard) {
                findings.add(Class::Lost, || absent(id(at, 0), "in the ledger, but not in the topic"));
            }
        }
        if case.effects {
            let owed = if case.ledger { &block.owed } else { &block.heard };
            for at in owed.without(&block.effects) {
                findings.add(Class::Effect, || absent(id(at, 0), "the effect is missing"));
            }
        }
        if case.ledger && outputs {
            for (copy, planes) in block.copies.iter().enumerate() {
                for at in planes.owed.without(&planes.heard) {
                    findings.add(Class::Output, || absent(id(at, copy), "the copy is missing"));
                }
            }
        }
    }
    for (key_seq, topic, partition, offset) in hearing.keys.missing() {
        let place = Place { topic: case.topics[topic].name.clone(), partition, offset };
        let text = format!("number {key_seq} of a key is missing before the message there");
        findings.add(Class::Lost, || Finding { id: None, place: Some(place), text });
    }
    if hearing.keys.more_gaps > 0 {
        findings.note(Class::Lost, format!("{} more numbers of keys are missing", hearing.keys.more_gaps));
    }
}

fn open(case: &Case, hearing: &mut Hearing<'_>, bounds: &[Bounds]) {
    for bound in bounds.iter().filter(|bound| bound.stable < bound.end) {
        let topic = case.topics[bound.topic].name.clone();
        let place = Place { topic, partition: bound.partition, offset: bound.stable };
        let text = format!("a transaction is open here, the end is {}", bound.end);
        hearing.findings.add(Class::Open, || Finding { id: None, place: Some(place), text });
    }
}

/// Reads all records, hidden ones too: counts them per partition, and looks for what is missing.
fn uncover(
    case: &Case,
    evidence: &mut dyn Evidence,
    hearing: &mut Hearing<'_>,
) -> Result<HashMap<(usize, i32), u64>> {
    let mut all: HashMap<(usize, i32), u64> = HashMap::new();
    let mut wanted: HashMap<(Role, Id), Option<Place>> = HashMap::new();
    for (class, role) in [(Class::Lost, Role::In), (Class::Output, Role::Out)] {
        let shown = hearing.findings.shown(class).iter().filter(|finding| finding.place.is_none());
        wanted.extend(shown.filter_map(|finding| Some(((role, finding.id?), None))));
    }
    let open = hearing.findings.shown(Class::Open);
    evidence.records(View::All, &mut |record: &Record<'_>| {
        *all.entry((record.topic, record.partition)).or_default() += 1;
        if wanted.is_empty() && open.is_empty() {
            return;
        }
        let Ok(sealed) = identity(case, record) else { return };
        let place = place(case, record);
        if let Some(found) = wanted.get_mut(&(case.topics[record.topic].role, id(&sealed.identity))) {
            *found = Some(place());
        }
        for finding in open.iter_mut().filter(|finding| finding.id.is_none()) {
            if finding.place.as_ref().is_some_and(|open| *open == place()) {
                finding.id = Some(id(&sealed.identity));
            }
        }
    })?;
    for (class, role) in [(Class::Lost, Role::In), (Class::Output, Role::Out)] {
        for finding in hearing.findings.shown(class).iter_mut().filter(|finding| finding.place.is_none()) {
            let hidden = finding.id.and_then(|id| wanted.remove(&(role, id))).flatten();
            if hidden.is_some() {
                finding.place = hidden;
                finding.text.push_str("; hidden in a transaction that was aborted or is open");
            }
        }
    }
    for ((topic, partition), stand) in &hearing.stands {
        let seen = all.get(&(*topic, *partition)).copied().unwrap_or_default();
        if seen < stand.count() {
            let name = &case.topics[*topic].name;
            let text = format!(
                "{name}[{partition}]: read_committed {}, read_uncommitted {seen} records",
                stand.count()
            );
            hearing.findings.note(Class::Differing, text);
        }
    }
    Ok(all)
}

/// The reader during the run against the one after it.
fn compare_readers(case: &Case, hearing: &mut Hearing<'_>, bounds: &[Bounds], notes: &mut Vec<String>) {
    let Some(watched) = &case.watched else { return };
    let mut beyond = 0;
    for bound in bounds {
        let name = &case.topics[bound.topic].name;
        let nothing = stand::Stand::new(case, bound.topic, bound.partition);
        let own = hearing.stands.get(&(bound.topic, bound.partition)).unwrap_or(&nothing);
        beyond += own.beyond;
        match watched.trace(name, bound.partition) {
            Some(trace) => {
                let differences: Vec<_> = trace.differences(&own.trace).collect();
                differences.into_iter().for_each(|text| hearing.findings.note(Class::Differing, text));
            }
            None if own.count() > 0 => {
                let text = format!("{name}[{}] was not watched during the run", bound.partition);
                hearing.findings.note(Class::Differing, text);
            }
            None => {}
        }
    }
    for text in &watched.backwards {
        hearing.findings.note(Class::Backwards, format!("during the run: {text}"));
    }
    if beyond > 0 {
        notes.push(format!("{beyond} records came after the watch had ended"));
    }
}

fn counts(case: &Case, hearing: &Hearing<'_>, all: &HashMap<(usize, i32), u64>) -> Vec<Counts> {
    let counts = case.topics.iter().enumerate().map(|(index, topic)| {
        let stands = hearing.stands.iter().filter(|((topic, _), _)| *topic == index);
        let seen: u64 = stands.map(|(_, stand)| stand.count()).sum();
        let all: u64 = all.iter().filter(|((topic, _), _)| *topic == index).map(|(_, count)| count).sum();
        Counts { topic: topic.name.clone(), seen, hidden: all.saturating_sub(seen) }
    });
    counts.collect()
}
