//! Nothing outlives the process that started a lab.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tidelock_lab::Lab;

/// Set in the process that is to be killed.
const VICTIM: &str = "TIDELOCK_LAB_VICTIM";

/// Not a test of its own: starts a lab, tells who and where its servers are, and waits to be killed.
#[test]
#[allow(clippy::print_stdout)]
#[ignore = "the other half of a_killed_parent_takes_its_servers_along"]
fn victim() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(VICTIM).is_none() {
        return Ok(());
    }
    let lab = Lab::shared();
    // Frozen servers must go as well.
    lab.postgres().pause()?;
    for server in lab.servers() {
        println!("\nserver {}", server.pid().ok_or("not running")?);
    }
    println!("directory {}", lab.directory().display());
    thread::sleep(Duration::from_secs(600));
    Ok(())
}

#[test]
fn a_killed_parent_takes_its_servers_along() -> Result<(), Box<dyn Error>> {
    let mut parent = Command::new(std::env::current_exe()?)
        .args(["teardown::victim", "--exact", "--ignored", "--nocapture"])
        .env(VICTIM, "1")
        .env_remove("TIDELOCK_TEST_KAFKA")
        .env_remove("TIDELOCK_TEST_POSTGRES")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(parent.stdout.take().ok_or("no output")?);
    let (mut servers, mut directory) = (Vec::new(), PathBuf::new());
    for line in output.lines() {
        match line?.split_once(' ') {
            Some(("server", pid)) => servers.push(pid.parse::<u32>()?),
            Some(("directory", path)) => directory = path.into(),
            _ => {}
        }
        if servers.len() == 2 && directory.is_absolute() {
            break;
        }
    }
    assert_eq!(servers.len(), 2, "the victim did not start its lab");
    let backends: Vec<_> = servers.iter().flat_map(|pid| children(*pid)).collect();
    assert!(!backends.is_empty(), "PostgreSQL has background processes");
    assert!(servers.iter().all(|pid| alive(*pid)));

    parent.kill()?; // SIGKILL
    parent.wait()?;

    let deadline = Instant::now() + Duration::from_secs(20);
    let left = || servers.iter().chain(&backends).filter(|pid| alive(**pid)).count();
    while left() > 0 || directory.exists() {
        assert!(
            Instant::now() < deadline,
            "{} processes left, directory left: {}",
            left(),
            directory.exists()
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}
