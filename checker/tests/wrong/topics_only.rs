//! Without any table: the numbers of a key and the sizes of transactions still tell.

use tidelock_checker::Class;

use crate::{
    right::right,
    scene::{IN, Scene, found},
};

fn topics_only(seed: u64) -> Scene {
    let mut scene = right(seed);
    (scene.case.ledger, scene.case.effects) = (false, false);
    scene
}

#[test]
fn right_topics_are_clean() {
    let report = topics_only(1).judge();
    assert!(report.clean, "{report}");
}

#[test]
fn a_gap_in_a_key_is_a_loss() {
    let mut scene = topics_only(1);
    let at = scene.middle(|told| told.says().key_seq > 5 && told.says().of == 1);
    let key_seq = scene.records.remove(at).says().key_seq;
    let report = scene.judge_afresh();
    assert_eq!(found(&report), [(Class::Lost, vec![])], "{report}");
    let lost = &report.verdict(Class::Lost).first[0];
    assert!(lost.text.starts_with(&format!("number {key_seq} of a key is missing")), "{lost}");
}

#[test]
fn a_late_one_is_not_lost() {
    let mut scene = topics_only(1);
    let at = scene.find(|told| told.topic == IN && told.visible && told.key.is_some())[100];
    let late = scene.records.remove(at);
    let id = late.id();
    scene.records.push(late);
    assert_eq!(found(&scene.judge_afresh()), [(Class::Reordered, vec![id])]);
}

#[test]
fn a_part_of_a_transaction_is_torn() {
    let mut scene = topics_only(1);
    let places = scene.transaction();
    let txn = scene.records[places[0]].says().txn;
    for at in places.iter().skip(1).rev() {
        scene.records.remove(*at);
    }
    let report = scene.judge_afresh();
    let torn = report.verdict(Class::Torn);
    assert_eq!(torn.count, 1, "{report}");
    assert!(torn.first[0].text.starts_with(&format!("transaction {txn} has")), "{report}");
}

#[test]
fn an_effect_that_no_message_owes_is_wrong() {
    let mut scene = topics_only(1);
    scene.case.effects = true;
    assert!(scene.judge().clean);
    let gone = scene.effects.remove(9);
    let report = scene.judge();
    assert_eq!(report.verdict(Class::Effect).first[0].id.map(|id| id.seq), Some(gone.seq), "{report}");
}
