//! Readers, groups, open transactions, foreign messages, stand-stills.

use tidelock_checker::{Class, Report};

use super::caught;
use crate::{
    right::{BEGIN, right},
    scene::{IN, Scene, found},
};

/// Judges a scene as it is, and expects one class without ids.
fn one(mut scene: Scene, class: Class) -> Report {
    let report = scene.judge();
    assert_eq!(found(&report), [(class, Vec::new())], "{report}");
    report
}

fn text(report: &Report, class: Class) -> &str {
    &report.verdict(class).first[0].text
}

#[test]
fn the_offsets_go_backwards() {
    let mut scene = right(1);
    let places = scene.find(|told| told.topic == IN && told.visible && told.partition == 1);
    let (earlier, at) = (scene.records[places[40]].offset, places[60]);
    scene.records[at].offset = earlier + 1;
    scene.watch();
    let report = one(scene, Class::Backwards);
    let place = report.verdict(Class::Backwards).first[0].place.clone().unwrap();
    assert_eq!((place.partition, place.offset), (1, earlier + 1));
}

#[test]
fn a_groups_offset_goes_backwards() {
    let mut scene = right(1);
    scene.case.watched.as_mut().unwrap().backwards.push("group g in[0] went from 9 to 7".into());
    let report = one(scene, Class::Backwards);
    assert_eq!(text(&report, Class::Backwards), "during the run: group g in[0] went from 9 to 7");
}

#[test]
fn a_transaction_is_left_open() {
    let mut scene = right(1);
    // A second sending of something that came already: nothing is lost, but nothing new will be seen either.
    let mut resent = scene.records[scene.middle(|told| told.partition == 2)].clone();
    resent.visible = false;
    let id = resent.id();
    scene.records.push(resent);
    scene.number();
    let stable = scene.records.last().unwrap().offset;
    scene.open.insert((IN, 2), stable);
    scene.watch();
    let report = scene.judge();
    assert_eq!(found(&report), [(Class::Open, vec![id])], "{report}");
    let place = report.verdict(Class::Open).first[0].place.clone().unwrap();
    assert_eq!((place.topic.as_str(), place.partition, place.offset), ("in", 2, stable));
}

#[test]
fn the_watch_saw_one_more() {
    let mut scene = right(1);
    let at = scene.middle(|told| told.says().of == 1);
    let gone = scene.records.remove(at).id();
    let report = scene.judge();
    assert_eq!(found(&report), [(Class::Lost, vec![gone]), (Class::Differing, vec![])], "{report}");
}

#[test]
fn the_watch_saw_one_less() {
    let mut scene = right(1);
    let full = scene.records.clone();
    let last = *scene.places(IN).last().unwrap();
    let partition = scene.records.remove(last).partition;
    scene.watch();
    scene.records = full;
    let trace = scene.case.watched.as_mut().unwrap().traces.iter_mut();
    let trace = trace.filter(|trace| trace.topic == "in" && trace.partition == partition).last().unwrap();
    trace.position = i64::MAX;
    let report = one(scene, Class::Differing);
    assert!(text(&report, Class::Differing).starts_with(&format!("in[{partition}] offsets ")), "{report}");
}

#[test]
fn the_watch_saw_as_many_but_others() {
    let mut scene = right(1);
    let right = scene.records.clone();
    let at = scene.middle(|told| told.payload.as_ref().is_some_and(|payload| payload.len() > 3));
    scene.records[at].payload.as_mut().unwrap()[0] ^= 1;
    scene.watch();
    scene.records = right;
    let report = one(scene, Class::Differing);
    assert!(text(&report, Class::Differing).contains("but not the same"), "{report}");
}

#[test]
fn the_watch_saw_the_header_of_one_otherwise() {
    let mut scene = right(1);
    let right = scene.records.clone();
    let at = scene.middle(|_| true);
    scene.records[at].say(|identity| identity.at += 1);
    scene.watch();
    scene.records = right;
    one(scene, Class::Differing);
}

#[test]
fn a_partition_was_not_watched() {
    let mut scene = right(1);
    scene.case.watched.as_mut().unwrap().traces.retain(|trace| trace.topic != "in" || trace.partition != 3);
    let report = one(scene, Class::Differing);
    assert_eq!(text(&report, Class::Differing), "in[3] was not watched during the run");
}

#[test]
fn what_came_after_the_watch_is_only_noted() {
    let mut scene = right(1);
    let full = scene.records.clone();
    scene.records.truncate(full.len() - 20);
    scene.watch();
    scene.records = full;
    let report = scene.judge();
    assert!(report.clean && report.notes[0].contains("20 records came after the watch"), "{report}");
}

#[test]
fn nothing_moves_during_a_fault_that_allows_it() {
    let mut scene = right(1);
    // Between 3,000 and 4,000 only one partition is held up, for 950 ms.
    for line in scene.progress.iter_mut().filter(|line| line.topic == "in" && line.partition == 1) {
        if (BEGIN + 3_010..BEGIN + 3_960).contains(&line.t) {
            (line.t, line.last) = (BEGIN + 3_990, BEGIN + 3_990);
        }
    }
    let report = one(scene, Class::Stalled);
    assert!(
        text(&report, Class::Stalled).starts_with("fault 1 (broker-kill kafka-2): in[1] stood still for 9"),
        "{report}"
    );
    assert_eq!(report.faults[0].standstill.as_ref().unwrap().partition, "in[1]");
}

#[test]
fn a_standstill_in_which_nothing_waits_is_right() {
    let mut scene = right(1);
    scene.progress.retain(|line| !(BEGIN + 2_900..BEGIN + 4_000).contains(&line.t));
    assert!(scene.judge().clean);
}

#[test]
fn a_standstill_during_a_fault_that_allows_none_is_right() {
    let mut scene = right(1);
    for line in &mut scene.progress {
        if (BEGIN + 6_000..BEGIN + 7_500).contains(&line.t) {
            (line.t, line.last) = (BEGIN + 7_500, BEGIN + 7_500);
        }
    }
    let report = scene.judge();
    assert!(report.clean, "{report}");
    assert_eq!(report.faults[1].recovery_ms.map(|ms| ms >= 500), Some(true), "{report}");
}

#[test]
fn a_partition_never_recovers() {
    let mut scene = right(1);
    scene.progress.retain(|line| line.topic != "out" || line.partition != 2 || line.t < BEGIN + 7_000);
    let report = one(scene, Class::Stalled);
    assert!(
        text(&report, Class::Stalled).contains("fault 2 (database-kill db): out[2] showed nothing"),
        "{report}"
    );
    assert_eq!((report.faults[0].recovery_ms.is_some(), report.faults[1].recovery_ms), (true, None));
}

#[test]
fn a_partition_is_silent_from_the_first_fault_on() {
    let mut scene = right(1);
    scene.progress.retain(|line| line.topic != "in" || line.partition != 0 || line.t < BEGIN + 3_000);
    assert_eq!(one(scene, Class::Stalled).verdict(Class::Stalled).count, 2);
}

/// Puts a message more into the topic, with this header.
fn foreign(header: Option<&str>) {
    let bend = |scene: &mut Scene| {
        let mut stranger = scene.records[scene.middle(|_| true)].clone();
        stranger.header = header.map(Into::into);
        scene.records.insert(400, stranger);
    };
    let report = caught(|scene| {
        bend(scene);
        vec![(Class::Foreign, vec![])]
    });
    let place = report.verdict(Class::Foreign).first[0].place.as_ref();
    assert!(place.is_some_and(|place| place.topic == "in"), "{report}");
    let mut scene = right(1);
    bend(&mut scene);
    scene.case.foreign_allowed = true;
    let report = scene.judge_afresh();
    assert!(report.clean && report.figures.foreign == 1, "{report}");
}

#[test]
fn one_is_of_another_run() {
    foreign(Some("v1 r2 1 7 2 4 3 0 1700000000000 f0b95b4a"));
}

#[test]
fn one_has_no_header() {
    foreign(None);
}

#[test]
fn one_has_a_header_that_cannot_be_read() {
    foreign(Some("v1 r1 1 seven 2 4 3 0 1700000000000 f0b95b4a"));
}

#[test]
fn one_has_a_header_of_another_version() {
    foreign(Some("v2 r1 1 7 2 4 3 0 1700000000000 f0b95b4a"));
}

#[test]
fn one_has_a_field_too_many() {
    foreign(Some("v1 r1 1 7 2 4 3 0 1700000000000 0 f0b95b4a"));
}

#[test]
fn a_copy_is_in_the_input_topic() {
    caught(|scene| {
        let mut copy = scene.records[scene.middle(|_| true)].clone();
        copy.say(|identity| identity.copy = 1);
        scene.records.insert(400, copy);
        vec![(Class::Foreign, vec![])]
    });
}
