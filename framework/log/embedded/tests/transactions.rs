//! Epochs, time-outs, and offsets in transactions.

use super::{assigned, at, beat, join, joined, offset, place, record, state};
use crate::{
    error::Kind,
    log::{
        Assignor,
        embedded::{groups::Proof, journal::Change},
    },
};

#[test]
fn a_newer_epoch_fences_and_aborts() {
    let mut state = state(false);
    let old = state.init("id").expect("decided");
    state.append("id", old, vec![record("plain", 0, "x")], at(0)).expect("current");
    let new = state.init("id").expect("decided");
    assert!(new > old);
    assert_eq!(state.partition("plain", 0).expect("there").stable(), 2);
    for refused in [
        state.append("id", old, vec![record("plain", 0, "x")], at(0)).map(drop),
        state.commit("id", old, at(0)),
        state.abort("id", old),
    ] {
        assert_eq!(refused.expect_err("fenced").kind(), Kind::Fenced);
    }
    state.abort("id", new).expect("nothing to abort");
}

#[test]
fn a_transaction_times_out_from_its_first_record_on() {
    let mut state = state(false);
    let epoch = state.init("id").expect("decided");
    state.tick(at(100));
    assert_eq!(state.due(), None);
    state.append("id", epoch, vec![record("plain", 0, "x")], at(100)).expect("current");
    state.append("id", epoch, vec![record("plain", 0, "x")], at(110)).expect("current");
    assert_eq!(state.due(), Some(at(115).at));
    state.tick(at(114));
    assert_eq!(state.partition("plain", 0).expect("there").stable(), 0);
    state.tick(at(115));
    assert_eq!(state.partition("plain", 0).expect("there").stable(), 3);
    assert_eq!(state.commit("id", epoch, at(115)).expect_err("too late").kind(), Kind::Fenced);
}

#[test]
fn offsets_count_once_their_transaction_is_committed() {
    let mut state = state(false);
    let member = joined(&mut state, join("group", None, Assignor::Eager, &[]), at(0));
    let (generation, _) = assigned(beat(&mut state, member, at(0)));
    let proof = Proof { group: "group".to_owned(), member, instance: None, generation };
    let at_0 = place("plain", 0);
    let epoch = state.init("id").expect("decided");
    state.add_offsets("id", epoch, &[offset("plain", 0, 5)], &proof, at(0)).expect("member");
    assert_eq!(state.committed("group", &at_0).expect_err("open").kind(), Kind::Timeout);
    assert_eq!(state.committed("group", &place("plain", 1)).expect("untouched"), None);
    state.commit("id", epoch, at(0)).expect("current");
    assert_eq!(state.committed("group", &at_0).expect("decided"), Some(5));
    state.add_offsets("id", epoch, &[offset("plain", 0, 9)], &proof, at(0)).expect("member");
    state.abort("id", epoch).expect("current");
    assert_eq!(state.committed("group", &at_0).expect("decided"), Some(5));
    // Asked before the group moved on, committed after it: it counts.
    state.add_offsets("id", epoch, &[offset("plain", 0, 7)], &proof, at(0)).expect("member");
    joined(&mut state, join("group", None, Assignor::Eager, &[]), at(1));
    joined(&mut state, join("group", Some(member), Assignor::Eager, &[]), at(1));
    state.commit("id", epoch, at(1)).expect("current");
    assert_eq!(state.committed("group", &at_0).expect("decided"), Some(7));
    for stale in [
        proof.clone(),
        Proof { generation: -1, ..proof.clone() },
        Proof { member: 99, ..proof.clone() },
        Proof { group: "other".to_owned(), ..proof },
    ] {
        let refused = state.add_offsets("id", epoch, &[offset("plain", 0, 8)], &stale, at(1));
        assert_eq!(refused.expect_err("stale").kind(), Kind::Fenced, "{stale:?}");
    }
}

#[test]
fn with_a_file_a_commit_counts_once_it_is_stored() {
    let mut state = state(true);
    let epoch = state.init("id").expect("decided");
    state.append("id", epoch, vec![record("plain", 0, "x")], at(0)).expect("current");
    state.take_changes();
    state.commit("id", epoch, at(0)).expect("current");
    let changes = state.take_changes();
    assert_eq!(changes[0], Change::End { place: place("plain", 0), end: 2 });
    assert!(matches!(&changes[1], Change::Commit { id, records, .. } if id == "id" && records.len() == 1));
    assert_eq!(state.partition("plain", 0).expect("there").stable(), 0);
    assert_eq!(state.due(), None, "nothing can stop it any more");
    assert_eq!(state.init("id"), None);
    state.time_out("id");
    assert_eq!(state.abort("id", epoch).expect_err("too late").kind(), Kind::Fenced);
    state.complete("id", at(0));
    assert_eq!(state.partition("plain", 0).expect("there").stable(), 2);
    assert_eq!(state.init("id"), Some(epoch + 1));
}

#[test]
fn a_refused_record_takes_no_offset() {
    let mut state = state(false);
    let epoch = state.init("id").expect("decided");
    let records = vec![record("plain", 0, "a"), record("absent", 0, "b"), record("plain", 0, "c")];
    let refused = state.append("id", epoch, records, at(0)).expect("current");
    assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
    assert_eq!(state.bounds("plain", 0).expect("there").end, 2);
}
