//! Where and with what a run was made, for its history.

use std::{fs, path::Path, thread};

use serde_json::{Value, json};

/// Commit, machine, versions, command line.
pub(crate) fn facts() -> Value {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    json!({
        // Of the tree that this was built from, with `+` where it had changes (`build.rs`).
        "commit": env!("CAMPAIGN_COMMIT"),
        "cores": cores,
        "memory_mib": memory_mib(),
        "kernel": first_line("/proc/sys/kernel/osrelease"),
        "kafka": tidelock_lab::KAFKA_VERSION,
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "command": std::env::args().collect::<Vec<_>>().join(" "),
    })
}

fn memory_mib() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}

fn first_line(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}
