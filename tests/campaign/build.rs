//! Stamps the commit that the programs of the campaign are built from: what is checked out when they run may be another one.
#![allow(clippy::print_stdout, reason = "how a build script talks to cargo")]

use std::{path::Path, process::Command};

/// What changes with every commit, checkout and reset.
const OF_GIT: [&str; 3] = ["HEAD", "logs/HEAD", "index"];
/// What they are built from.
const SOURCES: [&str; 6] =
    ["src", "Cargo.toml", "../../Cargo.lock", "../../framework", "../../lab", "../../migrations"];

fn main() {
    let files = OF_GIT.iter().filter_map(|name| git(&["rev-parse", "--git-path", name]));
    for path in files.chain(SOURCES.map(str::to_owned)) {
        // One that is not there would be a reason to build each time.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // Without locks it leaves the index as it is.
    let changes = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]);
    let mark = if changes.is_some_and(|changes| !changes.is_empty()) { "+" } else { "" };
    let commit = git(&["rev-parse", "HEAD"]).map_or_else(|| "unknown".to_owned(), |hash| hash + mark);
    // Not TIDELOCK_..: cargo hands it to the programs that it runs, and an unknown setting is an error.
    println!("cargo::rustc-env=CAMPAIGN_COMMIT={commit}");
}

/// What git says; nothing outside of a repository, or where there is no git.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
