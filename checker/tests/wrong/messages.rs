//! Messages that are lost, twice, out of order, or should not be there.

use tidelock_checker::{Class, Id};

use super::caught;
use crate::scene::{IN, OUT, Scene, Told};

fn lose(scene: &mut Scene, at: usize) -> Vec<(Class, Vec<Id>)> {
    let gone = scene.records.remove(at);
    let torn = gone.says().of > 1;
    let txn = (gone.says().producer, gone.says().txn);
    let mut expected = vec![(Class::Lost, vec![gone.id()])];
    if torn {
        let rest = scene
            .find(|told| told.topic == IN && told.visible && (told.says().producer, told.says().txn) == txn);
        expected.push((Class::Torn, vec![scene.records[rest[0]].id()]));
    }
    expected
}

fn alone(told: &Told) -> bool {
    told.says().of == 1
}

#[test]
fn the_first_is_lost() {
    caught(|scene| {
        let first = scene.find(|told| told.topic == IN && told.visible && alone(told))[0];
        lose(scene, first)
    });
}

#[test]
fn one_in_the_middle_is_lost() {
    caught(|scene| lose(scene, scene.middle(alone)));
}

#[test]
fn the_last_is_lost() {
    caught(|scene| {
        let last = *scene.find(|told| told.topic == IN && told.visible && alone(told)).last().unwrap();
        lose(scene, last)
    });
}

#[test]
fn a_whole_transaction_is_lost() {
    caught(|scene| {
        let mut gone = Vec::new();
        for at in scene.transaction().into_iter().rev() {
            gone.push(scene.records.remove(at).id());
        }
        vec![(Class::Lost, gone)]
    });
}

#[test]
fn the_tail_of_a_partition_is_lost() {
    caught(|scene| {
        let tail = scene.find(|told| told.topic == IN && told.partition == 2 && told.visible && alone(told));
        let mut gone = Vec::new();
        for at in tail[tail.len() - 5..].iter().rev() {
            gone.push(scene.records.remove(*at).id());
        }
        vec![(Class::Lost, gone)]
    });
}

#[test]
fn one_is_lost_in_a_transaction_that_was_aborted() {
    let report = caught(|scene| {
        let at = scene.middle(alone);
        scene.records[at].visible = false;
        vec![(Class::Lost, vec![scene.records[at].id()])]
    });
    let lost = &report.verdict(Class::Lost).first[0];
    assert!(lost.place.is_some() && lost.text.contains("hidden"), "{lost}");
}

#[test]
fn the_first_of_a_transaction_is_missing() {
    caught(|scene| {
        let first = scene.transaction()[0];
        lose(scene, first)
    });
}

#[test]
fn the_last_of_a_transaction_is_missing() {
    caught(|scene| {
        let last = *scene.transaction().last().unwrap();
        lose(scene, last)
    });
}

#[test]
fn all_but_one_of_a_transaction_are_missing() {
    caught(|scene| {
        let mut all = scene.transaction();
        let kept = scene.records[all.remove(1)].id();
        let gone = all.into_iter().rev().map(|at| scene.records.remove(at).id()).collect();
        vec![(Class::Lost, gone), (Class::Torn, vec![kept])]
    });
}

fn again(scene: &mut Scene, topic: usize, distance: usize, partition: i32) -> Vec<(Class, Vec<Id>)> {
    let at = scene.find(|told| told.topic == topic && told.visible)[300];
    let mut copy = scene.records[at].clone();
    copy.partition = (copy.partition + partition) % 4;
    let id = copy.id();
    scene.records.insert((at + distance).min(scene.records.len()), copy);
    vec![(Class::Duplicate, vec![id])]
}

#[test]
fn one_comes_twice_in_a_row() {
    let report = caught(|scene| again(scene, IN, 1, 0));
    let text = &report.verdict(Class::Duplicate).first[0].text;
    assert!(text.contains("also at in["), "{text}");
}

#[test]
fn one_comes_again_much_later() {
    caught(|scene| again(scene, IN, 500, 0));
}

#[test]
fn one_comes_again_in_another_partition() {
    caught(|scene| again(scene, IN, 50, 1));
}

#[test]
fn an_output_comes_twice() {
    caught(|scene| again(scene, OUT, 40, 0));
}

#[test]
fn a_whole_transaction_comes_twice() {
    caught(|scene| {
        let all = scene.transaction();
        let copies: Vec<_> = all.into_iter().map(|at| scene.records[at].clone()).collect();
        let ids = copies.iter().map(Told::id).collect();
        scene.records.extend(copies);
        vec![(Class::Duplicate, ids)]
    });
}

/// Two records of a key, one after the other, of different messages.
fn pair(scene: &Scene, topic: usize) -> (usize, usize) {
    let first = scene.find(|told| told.topic == topic && told.visible && told.key.is_some())[200];
    let key = scene.records[first].key.clone();
    let seq = scene.records[first].says().key_seq;
    let next = scene
        .find(|told| told.topic == topic && told.visible && told.key == key && told.says().key_seq > seq);
    (first, next[0])
}

#[test]
fn two_of_a_key_are_swapped() {
    caught(|scene| {
        let (one, other) = pair(scene, IN);
        scene.records.swap(one, other);
        vec![(Class::Reordered, vec![scene.records[other].id()])]
    });
}

#[test]
fn two_outputs_of_a_key_are_swapped() {
    caught(|scene| {
        let (one, other) = pair(scene, OUT);
        scene.records.swap(one, other);
        let moved = scene.records[other].says();
        let (key, last) = (scene.records[other].key.clone(), moved.key_seq);
        let between = scene.find(|told| told.topic == OUT && told.visible && told.key == key);
        // Copies of the first that come between the two are late as well.
        let between = between.into_iter().filter(|at| (one + 1..=other).contains(at));
        let late = between.filter(|at| scene.records[*at].says().key_seq <= last);
        let late = late.map(|at| scene.records[at].id()).collect();
        vec![(Class::Reordered, late)]
    });
}

#[test]
fn one_is_late_by_many() {
    caught(|scene| {
        let at = scene.find(|told| told.topic == IN && told.visible && told.key.is_some())[100];
        let late = scene.records.remove(at);
        let id = late.id();
        scene.records.push(late);
        vec![(Class::Reordered, vec![id])]
    });
}

#[test]
fn the_copies_of_a_message_are_swapped() {
    caught(|scene| {
        let second =
            scene.find(|told| told.topic == OUT && told.says().copy == 1 && told.says().key_seq > 0)[20];
        let of = (scene.records[second].says().producer, scene.records[second].says().seq);
        let first = scene.find(|told| {
            told.topic == OUT && told.says().copy == 0 && (told.says().producer, told.says().seq) == of
        })[0];
        scene.records.swap(first, second);
        vec![(Class::Reordered, vec![scene.records[second].id()])]
    });
}

#[test]
fn one_strays_into_another_partition() {
    caught(|scene| {
        let at = scene.middle(|told| told.key.is_some());
        scene.records[at].partition = (scene.records[at].partition + 1) % 4;
        vec![(Class::Reordered, vec![scene.records[at].id()])]
    });
}

fn rolled_back(scene: &Scene) -> Vec<Told> {
    let said = scene.rolled_back.iter().find(|told| told.says().of >= 2).unwrap().says();
    let txn = (said.producer, said.txn);
    let same = scene.rolled_back.iter().filter(|told| (told.says().producer, told.says().txn) == txn);
    same.cloned().collect()
}

#[test]
fn a_transaction_that_was_rolled_back_is_seen() {
    caught(|scene| {
        let phantoms = rolled_back(scene);
        let ids = phantoms.iter().map(Told::id).collect();
        scene.records.splice(700..700, phantoms);
        vec![(Class::Phantom, ids)]
    });
}

#[test]
fn a_part_of_a_transaction_that_was_rolled_back_is_seen() {
    caught(|scene| {
        let phantom = rolled_back(scene).remove(0);
        let id = phantom.id();
        scene.records.insert(700, phantom);
        vec![(Class::Phantom, vec![id]), (Class::Torn, vec![id])]
    });
}

#[test]
fn one_that_nobody_wrote_is_seen() {
    caught(|scene| {
        let mut phantom = scene.records[scene.middle(alone)].clone();
        phantom.say(|identity| (identity.seq, identity.txn) = (1 << 40, 1 << 30));
        let id = phantom.id();
        scene.records.push(phantom);
        vec![(Class::Phantom, vec![id])]
    });
}

#[test]
fn an_output_of_one_that_was_rolled_back_is_seen() {
    caught(|scene| {
        let phantom = Told { topic: OUT, ..rolled_back(scene).remove(0) };
        let id = phantom.id();
        scene.records.insert(900, phantom);
        vec![(Class::Phantom, vec![id])]
    });
}
