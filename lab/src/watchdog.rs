//! The watchdog: a shell that outlives this process and ends what it leaves behind.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;

use crate::{Clock, Error, Result};

/// The other end of the watchdog's standard input. When it closes, by [`Watchdog::close`] or by the death of
/// this process in any form, the watchdog kills every guarded server and removes the lab's directory.
#[derive(Debug)]
pub(crate) struct Watchdog {
    inner: Mutex<Option<(Child, ChildStdin)>>,
}

impl Watchdog {
    /// Starts the watchdog, in a process group of its own: a Ctrl-C in the terminal does not reach it.
    pub(crate) fn start(remove: Option<&Path>) -> Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", include_str!("watchdog.sh"), "tidelock-lab-watchdog"])
            .arg(remove.unwrap_or(Path::new("")))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("start the lab's watchdog"))?;
        let pipe = child.stdin.take().ok_or_else(|| Error::Config("the watchdog has no input".into()))?;
        Ok(Self { inner: Mutex::new(Some((child, pipe))) })
    }

    /// From now on the process group of `pid` gets `signal` when this process ends, and soon after SIGKILL.
    pub(crate) fn guard(&self, pid: u32, signal: Signal) -> Result<()> {
        self.tell("guard", pid, signal).map_err(Error::io("talk to the lab's watchdog"))
    }

    /// The process is gone: its number may soon be another's.
    pub(crate) fn release(&self, pid: u32, signal: Signal) {
        Clock::sweep(pid);
        self.tell("release", pid, signal).ok();
    }

    /// Makes the watchdog do its work now, and waits for it.
    pub(crate) fn close(&self) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut child, pipe)) = inner {
            drop(pipe);
            child.wait().ok();
        }
    }

    fn tell(&self, verb: &str, pid: u32, signal: Signal) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, pipe)) = inner.as_mut() else {
            return Ok(());
        };
        let signal = signal.as_str().trim_start_matches("SIG");
        pipe.write_all(format!("{verb} {signal} {pid}\n").as_bytes())
    }
}
