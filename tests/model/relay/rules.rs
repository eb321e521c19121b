//! All rules, and each rule left out.

use super::{Budget, Rules, World};
use crate::model::{breaks, ends, holds, holds_but, large};

const ALL: Rules = Rules {
    init_before_reading: true,
    position_last: true,
    position_in_transaction: true,
    rotate_after_abort: true,
    rotate_after_slow_commit: true,
    rotate_after_unknown_commit: true,
    flush: true,
    verification: true,
};

const NONE: Budget = Budget {
    all: 0,
    crashes: 0,
    copies: 0,
    silences: 0,
    aborts: 0,
    take_overs: 0,
    expiries: 0,
    databases: 0,
};

/// One of every kind but the database's, and so many of all kinds together.
const fn faults(all: u8) -> Budget {
    Budget { all, crashes: 1, copies: 1, silences: 1, aborts: 1, take_overs: 1, expiries: 1, ..NONE }
}

fn world(rules: Rules, keys: &'static [u8], budget: Budget) -> World {
    World { rules, keys, roll_backs: false, asynchronous: false, budget }
}

/// Transactions that leave nothing but their number, and commits that the database may forget.
fn forgetful(world: World) -> World {
    World { roll_backs: true, asynchronous: true, ..world }
}

#[test]
fn all_rules_with_two_keys() {
    let all = if large() { 3 } else { 2 };
    holds("relay, two keys", world(ALL, &[0, 1], faults(all)), 1_100_000);
}

#[test]
fn all_rules_with_one_row() {
    let twice = Budget { all: if large() { 4 } else { 3 }, crashes: 2, copies: 2, silences: 2, ..faults(0) };
    holds("relay, one row", world(ALL, &[0], twice), 300_000);
}

#[test]
fn all_rules_with_one_key() {
    let all = if large() { 3 } else { 2 };
    let budget = Budget { databases: 1, aborts: 0, ..faults(all) };
    holds("relay, one key", forgetful(world(ALL, &[0, 0], budget)), 650_000);
}

#[test]
fn all_rules_with_a_database_that_forgets() {
    let budget = match large() {
        true => Budget { databases: 2, ..faults(2) },
        false => Budget { all: 2, databases: 2, crashes: 1, ..NONE },
    };
    holds("relay, database crashes", forgetful(world(ALL, &[0, 1, 0], budget)), 1_250_000);
}

#[test]
fn steps_without_faults_end() {
    ends("relay, two keys", &world(ALL, &[0, 1], faults(1)));
    let budget = Budget { databases: 1, ..faults(2) };
    ends("relay, one row", &forgetful(world(ALL, &[0], budget)));
}

#[test]
fn without_init_before_reading() {
    let rules = Rules { init_before_reading: false, ..ALL };
    let budget = Budget { all: 1, take_overs: 1, ..NONE };
    breaks("relay, position read before init", world(rules, &[0], budget), "no duplicate");
}

#[test]
fn without_the_position_in_the_transaction() {
    let rules = Rules { position_in_transaction: false, ..ALL };
    let budget = Budget { all: 1, crashes: 1, ..NONE };
    breaks("relay, position apart", world(rules, &[0], budget), "no duplicate");
}

#[test]
fn without_rotation_after_an_abort() {
    let rules = Rules { rotate_after_abort: false, ..ALL };
    let budget = Budget { all: 2, aborts: 1, copies: 1, ..NONE };
    breaks("relay, no rotation after an abort", world(rules, &[0], budget), "no loss");
}

#[test]
fn without_rotation_after_a_slow_commit() {
    let rules = Rules { rotate_after_slow_commit: false, ..ALL };
    let budget = Budget { all: 1, copies: 1, ..NONE };
    breaks("relay, no rotation after a slow commit", world(rules, &[0, 1], budget), "no duplicate");
}

#[test]
fn without_rotation_after_an_unknown_commit() {
    let rules = Rules { rotate_after_unknown_commit: false, ..ALL };
    let budget = Budget { all: 2, copies: 1, silences: 1, ..NONE };
    breaks("relay, no rotation after an unknown commit", world(rules, &[0, 1], budget), "no duplicate");
}

/// What gets past the rotation is a duplicate: the position is last, so a torn transaction never has it alone.
#[test]
fn a_torn_transaction_duplicates_and_never_loses() {
    let torn = Rules { rotate_after_slow_commit: false, ..ALL };
    let budget = Budget { all: 2, crashes: 1, copies: 2, silences: 1, ..NONE };
    let what = "relay, torn transaction";
    holds_but(what, world(torn.clone(), &[0, 1], budget), &["no loss", "no phantom", "never stuck"]);
    let budget = Budget { all: 1, copies: 1, ..NONE };
    let rules = Rules { position_last: false, ..torn };
    breaks("relay, torn transaction, position first", world(rules, &[0, 1], budget), "no loss");
}

#[test]
fn without_the_flush_rows_that_are_not_there_are_published() {
    let rules = Rules { flush: false, ..ALL };
    let budget = Budget { all: 1, databases: 1, ..NONE };
    breaks("relay, no flush, lost commit", forgetful(world(rules, &[0], budget)), "no phantom");
}

#[test]
fn without_the_flush_ids_are_given_out_again() {
    let rules = Rules { flush: false, ..ALL };
    let budget = Budget { all: 1, databases: 1, ..NONE };
    let world = World { roll_backs: true, ..world(rules, &[0, 1, 0], budget) };
    breaks("relay, no flush, ids again", world, "no loss");
}

#[test]
fn without_verification() {
    let rules = Rules { verification: false, ..ALL };
    let budget = Budget { all: 1, silences: 1, ..NONE };
    breaks(
        "relay, record outside of every transaction",
        world(rules.clone(), &[0, 1], budget),
        "never stuck",
    );
    let budget = Budget { all: 2, silences: 1, aborts: 1, ..NONE };
    breaks("relay, record of an aborted transaction", world(rules, &[0], budget), "no duplicate");
}
