//! Effects and outputs that are not those of the messages.

use tidelock_checker::{Bounds, Class, Effect, Evidence, Id, Progress, Record, Result, Row, View};

use super::caught;
use crate::scene::{IN, OUT, Scene, Told};

fn id(effect: &Effect) -> Id {
    Id { producer: effect.producer, seq: effect.seq, copy: 0 }
}

#[test]
fn an_effect_is_missing() {
    caught(|scene| {
        let gone = scene.effects.remove(500);
        vec![(Class::Effect, vec![id(&gone)])]
    });
}

#[test]
fn the_last_effects_are_missing() {
    caught(|scene| {
        let gone = scene.effects.split_off(scene.effects.len() - 7);
        vec![(Class::Effect, gone.iter().map(id).collect())]
    });
}

#[test]
fn an_effect_is_there_twice() {
    caught(|scene| {
        let effect = scene.effects[500];
        scene.effects.push(effect);
        vec![(Class::Effect, vec![id(&effect)])]
    });
}

#[test]
fn an_effect_is_of_another_message() {
    caught(|scene| {
        scene.effects[500].crc ^= 1;
        vec![(Class::Effect, vec![id(&scene.effects[500])])]
    });
}

#[test]
fn two_effects_are_mixed_up() {
    caught(|scene| {
        let (one, other) = (scene.effects[500].crc, scene.effects[501].crc);
        (scene.effects[500].crc, scene.effects[501].crc) = (other, one);
        vec![(Class::Effect, vec![id(&scene.effects[500]), id(&scene.effects[501])])]
    });
}

#[test]
fn one_effect_is_missing_and_another_wrong_in_the_same_block() {
    caught(|scene| {
        scene.effects[501].crc ^= 1 << 31;
        let wrong = scene.effects[501];
        let gone = scene.effects.remove(500);
        vec![(Class::Effect, vec![id(&gone), id(&wrong)])]
    });
}

#[test]
fn an_effect_of_one_that_was_rolled_back_is_there() {
    caught(|scene| {
        let phantom = scene.rolled_back[3].id();
        scene.effects.push(Effect { producer: phantom.producer, seq: phantom.seq, crc: 1 });
        vec![(Class::Effect, vec![phantom])]
    });
}

fn output(scene: &Scene, fits: impl Fn(&Told) -> bool) -> usize {
    let found = scene.find(|told| told.topic == OUT && told.visible && fits(told));
    found[found.len() / 2]
}

#[test]
fn an_output_is_missing() {
    caught(|scene| {
        let gone = scene.records.remove(output(scene, |told| told.says().seq % 10 == 5));
        vec![(Class::Output, vec![gone.id()])]
    });
}

#[test]
fn the_second_copy_is_missing() {
    caught(|scene| {
        let gone = scene.records.remove(output(scene, |told| told.says().copy == 1));
        vec![(Class::Output, vec![gone.id()])]
    });
}

#[test]
fn an_output_is_hidden_in_a_transaction_that_was_aborted() {
    let report = caught(|scene| {
        let at = output(scene, |told| told.says().seq % 10 == 5);
        scene.records[at].visible = false;
        vec![(Class::Output, vec![scene.records[at].id()])]
    });
    let missing = &report.verdict(Class::Output).first[0];
    assert!(missing.place.is_some() && missing.text.contains("hidden"), "{missing}");
}

#[test]
fn there_is_a_copy_too_many() {
    caught(|scene| {
        let at = output(scene, |told| told.says().copy == 1);
        let mut copy = scene.records[at].clone();
        copy.say(|identity| identity.copy = 2);
        let id = copy.id();
        scene.records.insert(at + 1, copy);
        vec![(Class::Output, vec![id])]
    });
}

#[test]
fn there_is_a_copy_where_none_is_owed() {
    caught(|scene| {
        let at = scene.middle(|told| told.says().seq % 10 == 0);
        let copy = Told { topic: OUT, ..scene.records[at].clone() };
        let id = copy.id();
        scene.records.push(copy);
        vec![(Class::Output, vec![id])]
    });
}

#[test]
fn a_message_went_without_any_trace() {
    caught(|scene| {
        let at = scene.middle(|told| told.says().of == 1 && told.says().seq % 10 == 3);
        let gone = scene.records[at].id();
        scene.records.retain(|told| told.id() != gone);
        scene.effects.retain(|effect| id(effect) != gone);
        let classes = [Class::Lost, Class::Effect, Class::Output];
        classes.map(|class| (class, vec![gone])).into()
    });
}

#[test]
fn more_is_wrong_than_can_be_looked_into() {
    let mut scene = crate::right::right(1);
    let pattern = scene.records[scene.middle(|told| told.says().key_seq == 0)].clone();
    (scene.ledger, scene.effects, scene.records) = Default::default();
    // In each of 70 blocks the only effect is wrong.
    for number in 0..70 {
        let mut told = pattern.clone();
        let (seq, txn) = (number * 4096 + 5, number);
        told.say(|said| (said.producer, said.seq, said.txn, said.of) = (1, seq, txn, 1));
        scene.records.push(told);
        scene.ledger.push(Row { producer: 1, seq, key_seq: 0, txn, of: 1, copies: 0 });
        scene.effects.push(Effect { producer: 1, seq, crc: 0 });
    }
    scene.case.history = None;
    let report = scene.judge_afresh();
    assert_eq!((report.wrong(), report.verdict(Class::Effect).count), (vec![Class::Effect], 64), "{report}");
    assert!(report.notes[0].starts_with("6 more blocks of 4096"), "{report}");
}

/// The second time, the effects are other ones.
struct Fickle(Scene, u32);

impl Evidence for Fickle {
    fn ledger(&mut self, each: &mut dyn FnMut(Row)) -> Result<()> {
        self.0.ledger(each)
    }

    fn effects(&mut self, each: &mut dyn FnMut(Effect)) -> Result<()> {
        self.1 += 1;
        self.0.effects[9].crc ^= u32::from(self.1 < 3);
        self.0.effects(each)
    }

    fn records(&mut self, view: View, each: &mut dyn FnMut(&Record<'_>)) -> Result<Vec<Bounds>> {
        self.0.records(view, each)
    }

    fn progress(&mut self, each: &mut dyn FnMut(&Progress)) -> Result<()> {
        self.0.progress(each)
    }
}

#[test]
fn what_changes_while_it_is_read_is_not_clean() {
    let scene = crate::right::right(1);
    let case = scene.case.clone();
    let report = tidelock_checker::examine(&case, &mut Fickle(scene, 0)).unwrap();
    assert_eq!(report.wrong(), [Class::Differing], "{report}");
}

#[test]
fn a_ledger_that_names_a_message_twice_is_no_ledger() {
    let mut scene = crate::right::right(1);
    let row = scene.ledger[7];
    scene.ledger.push(row);
    let case = scene.case.clone();
    let error = tidelock_checker::examine(&case, &mut scene).unwrap_err();
    assert_eq!(error.to_string(), format!("the ledger has {}/{} twice", row.producer, row.seq));
    assert_eq!(scene.case.topics[IN].name, "in");
}
