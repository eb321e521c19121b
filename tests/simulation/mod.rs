//! The real relay and the real processor on the embedded log and SQLite in memory, with faults at every call of both
//! seams, on a clock that nobody waits for: each seed is a history, and every history is judged.
//!
//! `TIDELOCK_TEST_SEED=42 cargo test --all-features --test computed simulation::replay -- --nocapture` lives one history
//! again and prints it; `TIDELOCK_TEST_HISTORIES=1000000 ... simulation::campaign` is the large form. `./check` compiles it with
//! `CARGO_PROFILE_TEST_OPT_LEVEL=1`: a history takes less than half the CPU time.

mod bugs;
mod fate;
mod store;
mod world;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::ClockId,
    unistd::Pid,
};

const CORES: usize = 2;

/// SQLite answers from a thread of its own while this one waits: on one core the two take turns without waking another.
/// The threads that this one starts stay with it.
fn stay_on(core: usize) {
    let mut only = CpuSet::new();
    if only.set(core).is_ok() {
        // Refused where there is no such core: then it is only slower.
        let _ = sched_setaffinity(Pid::this(), &only);
    }
}

/// Of the whole process, SQLite's threads as well: what other programs do on the machine does not show in it.
fn cpu_time() -> Duration {
    ClockId::CLOCK_PROCESS_CPUTIME_ID.now().unwrap().into()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Every seed is clean.
#[test]
fn campaign() {
    let histories = setting("TIDELOCK_TEST_HISTORIES").unwrap_or(1_000);
    let first = setting("TIDELOCK_TEST_SEED").unwrap_or(0);
    let next = &AtomicU64::new(first);
    let (started, cpu) = (Instant::now(), cpu_time());
    let work = |core| {
        stay_on(core);
        let (mut messages, mut faults) = (0, BTreeMap::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + histories {
                return (messages, faults);
            }
            let history = world::live(seed, &[]);
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
        let threads: Vec<_> = (0..CORES).map(|core| scope.spawn(move || work(core))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let messages: usize = done.iter().map(|(messages, _)| messages).sum();
    let mut faults: BTreeMap<&str, u32> = BTreeMap::new();
    for (fault, count) in done.iter().flat_map(|(_, faults)| faults) {
        *faults.entry(fault).or_default() += count;
    }
    let rate = histories as f64 / started.elapsed().as_secs_f64() / CORES as f64;
    let cost = (cpu_time() - cpu).as_secs_f64() * 1e3 / histories as f64;
    println!(
        "{histories} histories, {messages} messages, {rate:.0} histories/s a core on {CORES} cores, {cost:.2} ms of CPU \
         time a history, which is {:.0}/s on a core of its own; faults: {faults:?}",
        1e3 / cost
    );
}

/// One history, printed.
#[test]
#[ignore = "a command: prints the history of TIDELOCK_TEST_SEED"]
fn replay() {
    let history = world::live(setting("TIDELOCK_TEST_SEED").unwrap_or(0), &[]);
    for line in &history.trace {
        println!("{line}");
    }
    println!("{:?}", history.wrong());
}

/// A seed is a history: two runs are alike, call by call.
#[test]
fn a_seed_is_one_history() {
    for seed in 0..30 {
        let (one, two) = (world::live(seed, &[]).trace, world::live(seed, &[]).trace);
        let differs = one.iter().zip(&two).position(|(one, two)| one != two);
        if let Some(at) = differs {
            panic!("seed {seed} differs at step {at}: {:?} and {:?}", &one[at - 3..=at], &two[at - 3..=at]);
        }
        assert_eq!(one.len(), two.len(), "seed {seed}");
    }
}
