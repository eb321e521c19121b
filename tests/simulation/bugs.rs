//! Rules left out, one at a time: histories that are clean with all rules are not without one.

use tidelock::failpoint::Variant;

use super::{stay_on, world};

/// So many seeds may pass before a wrong variant shows.
const SEEDS: u64 = 1_000;

/// Each with what gives it away.
const BUGS: [(Variant, &str); 20] = [
    (Variant::PositionOutside, "duplicate"),
    (Variant::NoCompare, "duplicate"),
    (Variant::UncheckedMetadata, "stuck"),
    (Variant::UncommittedOffset, "lost"),
    (Variant::PendingUnsent, "lost"),
    (Variant::PendingUnstored, "lost"),
    (Variant::PendingAgain, "duplicate"),
    (Variant::CommitEarly, "stuck"),
    (Variant::CompareIgnored, "lost"),
    (Variant::ReadBeforeInit, "duplicate"),
    (Variant::UnknownForgotten, "lost"),
    (Variant::PositionStale, "duplicate"),
    (Variant::RowsReversed, "reordered"),
    (Variant::OutputsReversed, "reordered"),
    (Variant::InboxUnread, "duplicate"),
    (Variant::OffsetFirst, "lost"),
    (Variant::StaleRecords, "duplicate"),
    (Variant::TimeoutIsAbsent, "stuck"),
    (Variant::StartAtEnd, "lost"),
    (Variant::ErrorSwallowed, "lost"),
];

#[test]
fn every_rule_left_out_is_noticed() {
    let unnoticed: Vec<&str> = std::thread::scope(|scope| {
        let halves = BUGS.chunks(BUGS.len() / 2).enumerate();
        let threads: Vec<_> = halves.map(|(core, bugs)| scope.spawn(move || hunt(core, bugs))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(unnoticed.is_empty(), "not noticed within {SEEDS} seeds: {unnoticed:?}");
}

fn hunt(core: usize, bugs: &[(Variant, &str)]) -> Vec<&'static str> {
    stay_on(core);
    let mut unnoticed = Vec::new();
    for (variant, sign) in bugs {
        let found = (0..SEEDS).find_map(|seed| Some((seed, world::live(seed, Some(*variant)).wrong()?)));
        match found {
            Some((seed, wrong)) => {
                assert_eq!(world::live(seed, None).wrong(), None, "{}: seed {seed} with all rules", variant.name());
                println!("{:<20} seed {seed:>4}, {sign} expected: {wrong}", variant.name());
            }
            None => unnoticed.push(variant.name()),
        }
    }
    unnoticed
}
