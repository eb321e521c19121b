//! What can be read.

use super::{at, place, record, state};
use crate::log::embedded::{partition::Read, state::State};

fn offsets(state: &State, topic: &str, from: i64) -> (Vec<i64>, i64) {
    match state.read(&place(topic, 0), from, 500, 1 << 20) {
        Read::Records(records, next) => (records.iter().map(|record| record.offset).collect(), next),
        other => panic!("{other:?}"),
    }
}

fn publish(state: &mut State, id: &str, topic: &str, count: usize, seconds: u64) {
    let epoch = state.init(id).expect("decided");
    let records = (0..count).map(|_| record(topic, 0, "x")).collect();
    assert!(state.append(id, epoch, records, at(seconds)).expect("current").is_empty());
    state.commit(id, epoch, at(seconds)).expect("current");
}

#[test]
fn an_open_transaction_holds_back_what_was_committed_after_it_began() {
    let mut state = state(false);
    publish(&mut state, "a", "plain", 1, 0);
    let open = state.init("open").expect("decided");
    state.append("open", open, vec![record("plain", 0, "open")], at(0)).expect("current");
    publish(&mut state, "b", "plain", 2, 0);
    state.append("open", open, vec![record("plain", 0, "open")], at(0)).expect("current");
    assert_eq!(offsets(&state, "plain", 0), (vec![0], 1));
    let partition = state.partition("plain", 0).expect("there");
    assert_eq!((partition.stable(), partition.end), (2, 7));
    assert_eq!(partition.last().map(|record| record.offset), Some(0));
    state.commit("open", open, at(0)).expect("current");
    assert_eq!(offsets(&state, "plain", 0), (vec![0, 2, 3, 4, 6], 7));
    assert_eq!(offsets(&state, "plain", 4), (vec![4, 6], 7));
    assert_eq!(offsets(&state, "plain", 8), (vec![], 8));
    assert_eq!(state.read(&place("plain", 0), 9, 1, 1), Read::OutOfRange);
}

#[test]
fn aborted_records_leave_a_gap() {
    let mut state = state(false);
    let epoch = state.init("id").expect("decided");
    state.append("id", epoch, vec![record("plain", 0, "x"); 3], at(0)).expect("current");
    state.abort("id", epoch).expect("current");
    publish(&mut state, "id", "plain", 1, 0);
    assert_eq!(offsets(&state, "plain", 0), (vec![4], 5));
}

#[test]
fn chunks_are_bounded_by_records_and_bytes() {
    let mut state = state(false);
    publish(&mut state, "id", "plain", 10, 0);
    let read = |from, most, bytes| match state.read(&place("plain", 0), from, most, bytes) {
        Read::Records(records, next) => (records.len(), next),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(0, 3, 1 << 20), (3, 3));
    assert_eq!(read(3, 500, 1), (1, 4));
    assert_eq!(read(4, 500, 300), (2, 6));
}

#[test]
fn old_records_go_but_never_a_compacted_topics_last_of_a_key() {
    let mut state = state(false);
    let week = 7 * 24 * 60 * 60;
    publish(&mut state, "id", "plain", 3, 0);
    publish(&mut state, "id", "kept", 3, 0);
    publish(&mut state, "id", "plain", 1, 100);
    state.tick(at(week + 61));
    assert_eq!(state.partition("plain", 0).expect("there").start, 3);
    assert_eq!(offsets(&state, "plain", 3), (vec![4], 5));
    state.tick(at(week + 200));
    // The offset after the last record is still one to read from.
    assert_eq!(state.partition("plain", 0).expect("there").start, 5);
    assert_eq!(offsets(&state, "plain", 5), (vec![], 5));
    assert_eq!(offsets(&state, "kept", 0), (vec![0, 1, 2], 3));
}

#[test]
fn with_a_file_memory_keeps_a_window() {
    let mut state = state(true);
    state.config.window_bytes = 500;
    for _ in 0..10 {
        publish(&mut state, "id", "plain", 1, 0);
        state.complete("id", at(0));
    }
    assert_eq!(state.read(&place("plain", 0), 0, 500, 1 << 20), Read::Stored { until: 13 });
    assert_eq!(offsets(&state, "plain", 13), (vec![14, 16, 18], 19));
}
