//! Effects and outputs that are not those of the messages.

use tidelock_checker::{Class, Effect, Id};

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
fn a_ledger_that_names_a_message_twice_is_no_ledger() {
    let mut scene = crate::right::right(1);
    let row = scene.ledger[7];
    scene.ledger.push(row);
    let case = scene.case.clone();
    let error = tidelock_checker::examine(&case, &mut scene).unwrap_err();
    assert_eq!(error.to_string(), format!("the ledger has {}/{} twice", row.producer, row.seq));
    assert_eq!(scene.case.topics[IN].name, "in");
}
