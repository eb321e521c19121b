//! Rules left out, one at a time: histories that are clean with all rules are not without one.
#![expect(clippy::print_stdout, reason = "tells what gave each away")]

use tidelock::failpoint::Variant;

use super::{stay_on, world};

/// So many seeds may pass before a wrong variant shows.
const SEEDS: u64 = 2_000;

/// What a single process of a log without late requests cannot show is left to the model and to the crash tests:
/// no rotation, no flush, no fence of the owner, unchecked metadata, an unstable offset, a failed comparison that is
/// passed over, a position that is read too early.
const BUGS: [Variant; 16] = [
    Variant::PositionOutside,
    Variant::PositionStale,
    Variant::UnknownForgotten,
    Variant::RowsReversed,
    Variant::OutputsReversed,
    Variant::InboxUnread,
    Variant::OffsetFirst,
    Variant::StaleRecords,
    Variant::NoCompare,
    Variant::PendingUnsent,
    Variant::PendingUnstored,
    Variant::PendingAgain,
    Variant::CommitEarly,
    Variant::TimeoutIsAbsent,
    Variant::StartAtEnd,
    Variant::ErrorSwallowed,
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

fn hunt(core: usize, bugs: &'static [Variant]) -> Vec<&'static str> {
    stay_on(core);
    let mut unnoticed = Vec::new();
    for bug in bugs {
        let name = bug.name();
        let found =
            (0..SEEDS).find_map(|seed| Some((seed, world::live(seed, std::slice::from_ref(bug)).wrong()?)));
        match found {
            Some((seed, wrong)) => {
                assert_eq!(world::live(seed, &[]).wrong(), None, "{name}: seed {seed} with all rules");
                println!("{name:<20} seed {seed:>4}: {wrong}");
            }
            None => unnoticed.push(name),
        }
    }
    unnoticed
}
