//! All rules, and each rule left out.

use super::{Budget, Rules, World};
use crate::model::{breaks, ends, holds, holds_but, large};

const ALL: Rules = Rules {
    compare: true,
    take_over_after_conflict: true,
    fence_twice: true,
    stable_offsets: true,
    resend_pending: true,
    generation: true,
    same_assignment: true,
    next_commit_waits: true,
    abort_after_failed_offsets: true,
    rotate_after_abort: true,
    rotate_after_slow_offsets: true,
    rotate_after_slow_commit: true,
    init_before_looking: true,
    end_owner: true,
    claim_outputs: true,
    verification: true,
};

const NONE: Budget =
    Budget { all: 0, crashes: 0, moves: 0, copies: 0, silences: 0, lost_commits: 0, expiries: 0 };

/// One of every kind, and so many of all kinds together.
const fn faults(all: u8) -> Budget {
    Budget { all, crashes: 1, moves: 1, copies: 1, silences: 1, lost_commits: 1, expiries: 1 }
}

const fn crashes(crashes: u8) -> Budget {
    Budget { all: crashes, crashes, ..NONE }
}

const fn moves(moves: u8) -> Budget {
    Budget { all: moves, moves, ..NONE }
}

fn world(rules: Rules, inputs: [u8; 2], budget: Budget) -> World {
    World {
        rules,
        inputs,
        batches: [1, 1],
        emits: u8::MAX,
        retries: 0,
        restarts: true,
        time_outs: true,
        budget,
    }
}

/// The dead stay dead, and nobody waits for a coordinator's time-out.
fn impatient(world: World) -> World {
    World { restarts: false, time_outs: false, ..world }
}

#[test]
fn all_rules_with_one_input() {
    let budget = faults(if large() { 3 } else { 2 });
    holds("processor, one input", world(ALL, [1, 0], budget), 450_000);
}

#[test]
fn all_rules_with_an_obstinate_zombie() {
    let budget = faults(if large() { 2 } else { 1 });
    let world = World { retries: 1, ..world(ALL, [2, 0], budget) };
    holds("processor, obstinate zombie", world, 50_000);
}

#[test]
fn all_rules_with_a_partition_to_and_fro() {
    let budget = if large() { Budget { all: 3, crashes: 1, ..moves(2) } } else { moves(2) };
    holds("processor, to and fro", world(ALL, [1, 0], budget), 130_000);
}

#[test]
fn all_rules_with_crash_and_move() {
    let budget = match large() {
        true => faults(2),
        false => Budget { all: 2, crashes: 1, ..moves(1) },
    };
    holds("processor, crash and move", world(ALL, [2, 0], budget), 900_000);
}

#[test]
fn all_rules_with_copy_and_move() {
    let budget = match large() {
        true => Budget { all: 3, copies: 2, ..moves(1) },
        false => Budget { all: 2, copies: 1, ..moves(1) },
    };
    holds("processor, copy and move", world(ALL, [2, 0], budget), 800_000);
}

#[test]
fn all_rules_with_requests_that_stay_away() {
    let budget = Budget { copies: 2, silences: 1, ..crashes(if large() { 2 } else { 1 }) };
    let budget = Budget { all: if large() { 3 } else { 2 }, ..budget };
    holds("processor, requests that stay away", world(ALL, [2, 0], budget), 45_000);
}

#[test]
fn all_rules_with_two_partitions_in_a_transaction() {
    let budget = if large() { Budget { all: 2, crashes: 1, ..moves(1) } } else { faults(1) };
    holds("processor, two partitions", world(ALL, [1, 1], budget), 290_000);
}

#[test]
fn all_rules_with_uneven_batches_of_which_some_emit_nothing() {
    let world = World { batches: [2, 1], emits: 0b10, ..world(ALL, [2, 1], faults(1)) };
    holds("processor, uneven batches", world, 350_000);
}

#[test]
fn all_rules_without_time_outs() {
    holds("processor, no time-outs", impatient(world(ALL, [2, 0], crashes(1))), 400);
    let silent = Budget { all: 1, silences: 1, ..NONE };
    holds("processor, no time-outs, silence", impatient(world(ALL, [2, 0], silent)), 200);
}

#[test]
fn a_resender_that_dies_is_not_waited_for() {
    let budget = Budget { all: 2, crashes: 1, ..moves(1) };
    holds_but("processor, resender dies", impatient(world(ALL, [1, 0], budget)), &["no owner waits"]);
}

/// Whoever does not know that it has lost the partition, and dies while what it sends is open: no owner looks at that, and
/// readers of the outputs wait for the time-out.
#[test]
fn a_dead_zombie_is_waited_for_by_readers() {
    let budget = Budget { all: 2, crashes: 1, ..moves(1) };
    breaks("processor, zombie dies", impatient(world(ALL, [1, 0], budget)), "never stuck");
}

#[test]
fn steps_without_faults_end() {
    ends("processor, one input", &world(ALL, [1, 0], faults(1)));
    let budget = Budget { all: 2, crashes: 1, ..moves(1) };
    ends("processor, crash and move", &world(ALL, [1, 0], budget));
}

#[test]
fn without_the_compare() {
    let rules = Rules { compare: false, ..ALL };
    breaks("processor, no compare", world(rules, [1, 0], moves(1)), "effect once");
}

#[test]
fn without_taking_over_after_a_conflict() {
    let rules = Rules { take_over_after_conflict: false, ..ALL };
    breaks("processor, no take-over after a conflict", world(rules, [2, 0], moves(1)), "no loss");
}

#[test]
fn without_reading_the_fence_twice() {
    let rules = Rules { fence_twice: false, ..ALL };
    breaks("processor, fence read once", world(rules, [1, 0], moves(2)), "never gives up");
}

#[test]
fn without_stable_offsets() {
    let rules = Rules { stable_offsets: false, ..ALL };
    breaks("processor, unstable offset", world(rules, [1, 0], moves(1)), "no duplicate");
}

#[test]
fn without_sending_again_what_is_pending() {
    let rules = Rules { resend_pending: false, ..ALL };
    breaks("processor, pending not sent", world(rules, [1, 0], crashes(1)), "no loss");
}

/// The fence row would name whose batch it was, not who sends its outputs again.
#[test]
fn without_claiming_what_is_sent_again() {
    let rules = Rules { claim_outputs: false, ..ALL };
    let budget = Budget { all: 2, crashes: 1, ..moves(1) };
    breaks("processor, outputs not claimed", impatient(world(rules, [1, 0], budget)), "no owner waits");
}

#[test]
fn without_the_generation() {
    let rules = Rules { generation: false, ..ALL };
    breaks("processor, no generation", world(rules, [1, 0], moves(1)), "no duplicate");
}

#[test]
fn without_the_same_assignment() {
    let rules = Rules { same_assignment: false, ..ALL };
    breaks("processor, another assignment", world(rules, [1, 0], moves(1)), "no duplicate");
}

#[test]
fn without_waiting_for_the_last_transaction() {
    let rules = Rules { next_commit_waits: false, ..ALL };
    breaks("processor, next commit does not wait", world(rules, [2, 0], crashes(1)), "never gives up");
}

#[test]
fn without_an_abort_after_failed_offsets() {
    let rules = Rules { abort_after_failed_offsets: false, ..ALL };
    let budget = Budget { all: 2, silences: 1, ..crashes(1) };
    breaks("processor, commit after failed offsets", world(rules, [1, 0], budget), "no duplicate");
}

#[test]
fn without_rotation_after_an_abort() {
    let rules = Rules { rotate_after_abort: false, ..ALL };
    let budget = Budget { all: 2, silences: 1, copies: 1, ..NONE };
    breaks("processor, no rotation after an abort", world(rules, [1, 0], budget), "no loss");
}

#[test]
fn without_rotation_after_slow_offsets() {
    let rules = Rules { rotate_after_slow_offsets: false, ..ALL };
    let budget = Budget { all: 2, copies: 1, ..crashes(1) };
    breaks("processor, no rotation after slow offsets", world(rules, [2, 0], budget), "no duplicate");
}

#[test]
fn without_rotation_after_a_slow_commit() {
    let rules = Rules { rotate_after_slow_commit: false, ..ALL };
    let budget = Budget { all: 1, copies: 1, ..NONE };
    breaks("processor, no rotation after a slow commit", world(rules, [2, 0], budget), "no duplicate");
}

/// A matter of time only: stable offsets wait for whatever the last producer left behind.
#[test]
fn without_init_before_looking() {
    let rules = Rules { init_before_looking: false, ..ALL };
    let budget = Budget { all: 1, silences: 1, ..NONE };
    breaks("processor, look before init", impatient(world(rules, [1, 0], budget)), "never stuck");
}

/// A matter of time only, too.
#[test]
fn without_ending_the_owners_transaction() {
    let rules = Rules { end_owner: false, ..ALL };
    breaks("processor, owner not ended", impatient(world(rules, [1, 0], crashes(1))), "never stuck");
}

#[test]
fn without_verification() {
    let rules = Rules { verification: false, ..ALL };
    let budget = Budget { all: 1, silences: 1, ..NONE };
    breaks("processor, no verification, hangs", world(rules.clone(), [1, 0], budget.clone()), "never stuck");
    breaks("processor, no verification, twice", world(rules, [1, 0], budget), "no duplicate");
}
