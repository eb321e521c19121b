//! The real relay and the real processor on the embedded log and SQLite in memory, with faults at every call of both
//! seams, on a clock that nobody waits for: each seed is a history, and every history is judged.
//!
//! `TIDELOCK_TEST_SEED=42 cargo test --all-features --test main simulation::replay -- --nocapture` lives one history
//! again and prints it; `TIDELOCK_TEST_HISTORIES=1000000 cargo test --release ... simulation::campaign` is the large form.

mod fate;
mod store;
mod world;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Every seed is clean.
#[test]
fn campaign() {
    let histories = setting("TIDELOCK_TEST_HISTORIES").unwrap_or(2_000);
    let first = setting("TIDELOCK_TEST_SEED").unwrap_or(0);
    let next = AtomicU64::new(first);
    let started = Instant::now();
    let work = || {
        let (mut messages, mut faults) = (0, BTreeMap::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + histories {
                return (messages, faults);
            }
            let history = world::live(seed);
            if let Some(wrong) = history.wrong() {
                panic!("seed {seed}: {wrong}");
            }
            messages += history.messages;
            for (fault, count) in history.faults {
                *faults.entry(fault).or_insert(0) += count;
            }
        }
    };
    let done: Vec<(usize, BTreeMap<&str, u32>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let messages: usize = done.iter().map(|(messages, _)| messages).sum();
    let mut faults: BTreeMap<&str, u32> = BTreeMap::new();
    for (fault, count) in done.iter().flat_map(|(_, faults)| faults) {
        *faults.entry(fault).or_default() += count;
    }
    let rate = histories as f64 / started.elapsed().as_secs_f64();
    println!(
        "{histories} histories, {messages} messages, {rate:.0} histories/s on two threads; faults: {faults:?}"
    );
}

/// One history, printed.
#[test]
#[ignore = "a command: prints the history of TIDELOCK_TEST_SEED"]
fn replay() {
    let history = world::live(setting("TIDELOCK_TEST_SEED").unwrap_or(0));
    for line in &history.trace {
        println!("{line}");
    }
    println!("{:?}", history.wrong());
}

/// A seed is a history: two runs are alike, call by call.
#[test]
fn a_seed_is_one_history() {
    for seed in 0..30 {
        let (one, two) = (world::live(seed).trace, world::live(seed).trace);
        let differs = one.iter().zip(&two).position(|(one, two)| one != two);
        if let Some(at) = differs {
            panic!("seed {seed} differs at step {at}: {:?} and {:?}", &one[at - 3..=at], &two[at - 3..=at]);
        }
        assert_eq!(one.len(), two.len(), "seed {seed}");
    }
}
