//! Less of a CPU, less memory, and how much of it a process has.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Error, Result, Server, process};

/// Within which a process gets its share.
const PERIOD: Duration = Duration::from_millis(100);

/// Lets a process run for only a part of every 100 ms. Dropping it lets the process run freely.
///
/// It is stopped and continued by signals: what it waits for meanwhile goes on, its connections stay, and its timers
/// are late. A busy machine is late to stop it and makes the share larger than asked. If this process dies, a process
/// that is no server of a lab may stay stopped. Not to be combined with [`Server::pause`], which it ends.
#[derive(Debug)]
#[must_use = "dropping it ends the limit"]
pub struct CpuLimit {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl CpuLimit {
    /// Limits the process and its children to this share (0 to 1) of a CPU's time, each as long as it lives.
    pub fn new(pid: u32, share: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::Config(format!("a share of a CPU is between 0 and 1, not {share}")));
        }
        let Some(born) = process::born(pid) else {
            return Err(Error::Config(format!("there is no process {pid}")));
        };
        let (end, ended) = mpsc::channel::<()>();
        let running = PERIOD.mul_f64(share);
        let thread = thread::spawn(move || {
            let goes_on = |time| ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
            loop {
                if process::born(pid) != Some(born) {
                    return;
                }
                // First the one that has children: it gets no more of them meanwhile.
                process::signal(pid, Signal::SIGSTOP);
                let mut limited = process::children(pid);
                limited.push(pid);
                limited.iter().for_each(|pid| process::signal(*pid, Signal::SIGSTOP));
                let more = goes_on(PERIOD - running);
                limited.iter().for_each(|pid| process::signal(*pid, Signal::SIGCONT));
                if !more || !goes_on(running) {
                    return;
                }
            }
        });
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        drop(self.end.take());
        self.thread.take().map(JoinHandle::join);
    }
}

impl Server {
    /// Lets the server, PostgreSQL's backends included, run for only this share (0 to 1) of every 100 ms, until the
    /// guard is dropped or the server ends.
    pub fn limit_cpu(&self, share: f64) -> Result<CpuLimit> {
        let pid = self.pid().ok_or_else(|| Error::NotRunning { server: self.name().into() })?;
        CpuLimit::new(pid, share)
    }

    /// The memory of the server's first process, while it runs.
    pub fn memory(&self) -> Option<Memory> {
        self.pid().and_then(memory)
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub now: u64,
    /// The most that was ever resident.
    pub peak: u64,
    /// Of its own and writable, resident or not: what [`limit_memory`] limits.
    pub data: u64,
}

/// How much memory a process has; none when there is no such process.
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")?, data: bytes("VmData:")? })
}

/// Lets a running process have no more memory of its own than so many bytes ([`Memory::data`]), until it ends: an
/// allocation beyond it fails. Children that it starts from then on have the same limit.
pub fn limit_memory(pid: u32, bytes: u64) -> Result<()> {
    // The soft limit alone: to lift it again takes no privilege.
    process::limit(pid, &format!("--data={bytes}:"), None)
}
