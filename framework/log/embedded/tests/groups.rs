//! Members that come, go, and stay away.

use super::{assigned, at, beat, join, joined, place, state};
use crate::{
    error::Kind,
    log::{
        Assignor,
        embedded::groups::{Beat, Proof},
    },
};

#[test]
fn a_generation_begins_when_all_have_joined() {
    let mut state = state(false);
    let first = joined(&mut state, join("group", None, Assignor::Eager, &[]), at(0));
    assert_eq!(assigned(beat(&mut state, first, at(0))), (1, vec![0, 1]));
    assert_eq!(beat(&mut state, first, at(1)), Beat::Quiet);
    let second = joined(&mut state, join("group", None, Assignor::Eager, &[]), at(1));
    assert_eq!(beat(&mut state, second, at(1)), Beat::Quiet);
    assert_eq!(beat(&mut state, first, at(1)), Beat::Rejoin(1));
    // Until then the old generation counts.
    let proof = Proof { group: "group".to_owned(), member: first, instance: None, generation: 1 };
    state.groups.verify(&proof).expect("current");
    joined(&mut state, join("group", Some(first), Assignor::Eager, &[]), at(2));
    assert_eq!(state.groups.verify(&proof).expect_err("old").kind(), Kind::Fenced);
    assert_eq!(assigned(beat(&mut state, first, at(2))), (2, vec![0]));
    assert_eq!(assigned(beat(&mut state, second, at(2))), (2, vec![1]));
    state.groups.leave(&state.topics, "group", first, at(3));
    assert_eq!(beat(&mut state, first, at(3)), Beat::Unknown);
    assert_eq!(beat(&mut state, second, at(3)), Beat::Rejoin(2));
}

#[test]
fn the_silent_are_expelled_and_the_late_are_not_waited_for() {
    let mut state = state(false);
    let first = joined(&mut state, join("group", None, Assignor::Eager, &[]), at(0));
    assigned(beat(&mut state, first, at(0)));
    assert_eq!(state.due(), Some(at(10).at));
    assert_eq!(beat(&mut state, first, at(9)), Beat::Quiet);
    state.tick(at(18));
    assert_eq!(beat(&mut state, first, at(19)), Beat::Unknown);

    let first = joined(&mut state, join("group", None, Assignor::Eager, &[]), at(20));
    assigned(beat(&mut state, first, at(20)));
    let second = joined(&mut state, join("group", None, Assignor::Eager, &[]), at(20));
    for second_of in 21..80 {
        assert_eq!(beat(&mut state, second, at(second_of)), Beat::Quiet);
        assert_eq!(beat(&mut state, first, at(second_of)), Beat::Rejoin(3), "it lives, but does not join");
    }
    assert_eq!(assigned(beat(&mut state, second, at(80))), (4, vec![0, 1]));
    assert_eq!(beat(&mut state, first, at(80)), Beat::Unknown);
}

#[test]
fn another_way_to_assign_is_refused() {
    let mut state = state(false);
    joined(&mut state, join("group", None, Assignor::Eager, &[]), at(0));
    let other = join("group", None, Assignor::Cooperative, &[]);
    let refused = state.groups.join(&state.topics, other, at(0));
    assert_eq!(refused.expect_err("another way").kind(), Kind::Config);
}

#[test]
fn a_name_is_taken_over_without_a_new_generation() {
    let mut state = state(false);
    let mut named = join("group", None, Assignor::Cooperative, &[]);
    named.instance = Some("name".to_owned());
    let old = joined(&mut state, named.clone(), at(0));
    let places = [place("plain", 0), place("plain", 1)];
    let proof = |member, instance: Option<&str>| Proof {
        group: "group".to_owned(),
        member,
        instance: instance.map(str::to_owned),
        generation: 1,
    };
    let both = Beat::Assigned(1, places.iter().cloned().collect());
    assert_eq!(state.groups.beat("group", old, Some("name"), at(0)), both);
    let new = joined(&mut state, named, at(0));
    assert_eq!(state.groups.beat("group", new, Some("name"), at(0)), both);
    assert_eq!(state.groups.beat("group", old, Some("name"), at(0)), Beat::Fenced);
    state.groups.verify(&proof(new, Some("name"))).expect("current");
    let fenced = state.groups.verify(&proof(old, Some("name"))).expect_err("fenced");
    assert!(fenced.to_string().contains("another member has its name"), "{fenced}");
}

#[test]
fn a_partition_moves_only_after_its_owner_has_joined_without_it() {
    let mut state = state(false);
    let places = [place("plain", 0), place("plain", 1)];
    let first = joined(&mut state, join("group", None, Assignor::Cooperative, &[]), at(0));
    assigned(beat(&mut state, first, at(0)));
    let second = joined(&mut state, join("group", None, Assignor::Cooperative, &[]), at(0));
    joined(&mut state, join("group", Some(first), Assignor::Cooperative, &places), at(0));
    assert_eq!(assigned(beat(&mut state, first, at(0))), (2, vec![0]));
    assert_eq!(assigned(beat(&mut state, second, at(0))), (2, vec![]));
    joined(&mut state, join("group", Some(first), Assignor::Cooperative, &places[..1]), at(0));
    assert_eq!(beat(&mut state, second, at(0)), Beat::Rejoin(2));
    joined(&mut state, join("group", Some(second), Assignor::Cooperative, &[]), at(0));
    assert_eq!(assigned(beat(&mut state, first, at(0))), (3, vec![0]));
    assert_eq!(assigned(beat(&mut state, second, at(0))), (3, vec![1]));
}
