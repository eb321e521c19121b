//! Processes as the system shows them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::{Error, Result, jars};

/// The processes whose parent is `parent`, from `/proc`.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// Whether the process exists and is more than a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// When the process was started, in ticks since the system was: a number that is used again is told by it.
pub(crate) fn born(pid: u32) -> Option<u64> {
    // The 22nd field, of which the first two are the number and the name.
    fields(pid)?.get(19)?.parse().ok()
}

/// State and parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let fields = fields(pid)?;
    Some((fields.first()?.chars().next()?, fields.get(1)?.parse().ok()?))
}

/// What stands behind the name, which is in parentheses and may hold anything.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().map(Into::into).collect())
}

/// Signals one process. One that is gone already is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        kill(Pid::from_raw(pid), signal).ok();
    }
}

/// Signals a process group. One that is gone already is no error.
pub(crate) fn signal_group(leader: u32, signal: Signal) {
    if let Ok(leader) = i32::try_from(leader) {
        killpg(Pid::from_raw(leader), signal).ok();
    }
}

/// Runs a program to its end and returns what it printed on standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = Path::new(command.get_program()).display().to_string();
    let Output { status, stdout, stderr } = command.output().map_err(Error::io(program.clone()))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let output = [stdout, stderr].concat();
    Err(Error::Program {
        program,
        status: status.to_string(),
        output: tail(&String::from_utf8_lossy(&output), 30),
    })
}

/// Sets a limit of a running process by `prlimit`, as its own user: limits of another's process take a privilege.
pub(crate) fn limit(pid: u32, limit: &str, user: Option<(u32, u32)>) -> Result<()> {
    if !jars::on_path("prlimit") {
        return Err(Error::Missing { what: "prlimit", hint: "install util-linux" });
    }
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), limit]).current_dir("/");
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    run(&mut command).map(drop)
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
