//! One server: a process that can be killed, stopped, paused and started again on the same port and data.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::watchdog::Watchdog;
use crate::{Clock, Error, Result, process};

/// Generous, because a laptop that compiles at the same time starts three brokers slowly.
const READY_WITHIN: Duration = Duration::from_secs(300);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Waits for a line before it becomes the server: by then the watchdog knows the process.
const LAUNCHER: &str = r#"read -r _ && exec "$@" </dev/null"#;

/// What a server is.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) directory: PathBuf,
    /// User and group to run as, when not this process's own.
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) address: SocketAddr,
    /// Where the server writes what it has to say, besides the console.
    pub(crate) log: PathBuf,
    pub(crate) stop: Signal,
    pub(crate) stop_immediate: Signal,
    /// The clock it goes by, if not the machine's.
    pub(crate) clock: Option<Clock>,
    /// Whether the server serves, given what it logged since its start; the reason if not.
    pub(crate) ready: fn(SocketAddr, &str) -> std::result::Result<(), String>,
}

/// A Kafka broker or a PostgreSQL server of a [`Lab`](crate::Lab).
///
/// All calls block the calling thread until the state they name is reached; they may come from any thread,
/// also from inside an async runtime, whose worker they then occupy.
#[derive(Debug)]
pub struct Server {
    spec: Spec,
    watchdog: Arc<Watchdog>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    log_start: u64,
}

impl Server {
    pub(crate) fn new(spec: Spec, watchdog: Arc<Watchdog>) -> Self {
        Self { spec, watchdog, running: Mutex::new(None) }
    }

    /// `kafka-1`, `postgres`: as in the directory of the lab and in errors.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.spec.address
    }

    /// Configuration, data and logs.
    pub fn directory(&self) -> &Path {
        &self.spec.directory
    }

    /// Where it writes what it has to say, besides the console.
    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    pub(crate) fn own_clock(&self) -> Option<&Clock> {
        self.spec.clock.as_ref()
    }

    pub(crate) fn program(&self) -> &Path {
        &self.spec.program
    }

    pub(crate) fn user(&self) -> Option<(u32, u32)> {
        self.spec.user
    }

    /// The process's number while it runs; a paused server runs.
    pub fn pid(&self) -> Option<u32> {
        let mut running = self.running();
        let running = running.as_mut()?;
        let ended = matches!(running.child.try_wait(), Ok(Some(_)));
        (!ended).then(|| running.child.id())
    }

    /// Starts the server, if it does not run, and waits until it serves.
    pub fn start(&self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts the server, if it does not run, without waiting: for several at once.
    pub fn launch(&self) -> Result<()> {
        let mut running = self.running();
        if let Some(gone) = running.as_mut()
            && gone.child.try_wait().map_err(Error::io(self.name()))?.is_some()
        {
            self.watchdog.release(gone.child.id(), self.spec.stop_immediate);
            *running = None;
        }
        if running.is_some() {
            return Ok(());
        }
        let console = self.spec.directory.join("console.log");
        let open = || {
            OpenOptions::new().create(true).append(true).open(&console).map_err(Error::io("open console.log"))
        };
        let log_start = fs::metadata(&self.spec.log).map_or(0, |log| log.len());
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCHER, "launcher"]);
        if let Some(clock) = &self.spec.clock {
            // Not for the shell itself, which has the same number: what libfaketime makes is named after that.
            let set = |(name, value): (&str, OsString)| [OsStr::new(name), &value].join(OsStr::new("="));
            command.arg("env").args(clock.without_threads().map(set));
        }
        command.arg(&self.spec.program).args(&self.spec.args);
        command.current_dir(&self.spec.directory).process_group(0);
        command.stdin(Stdio::piped()).stdout(open()?).stderr(open()?);
        if let Some((user, group)) = self.spec.user {
            command.uid(user).gid(group);
        }
        let mut child = command.spawn().map_err(Error::io(format!("start {}", self.name())))?;
        self.watchdog.guard(child.id(), self.spec.stop_immediate)?;
        if let Some(mut go) = child.stdin.take() {
            go.write_all(b"go\n").map_err(Error::io(format!("start {}", self.name())))?;
        }
        *running = Some(Running { child, log_start });
        Ok(())
    }

    /// Waits until the server serves.
    pub fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let log = self.check_alive()?;
            match (self.spec.ready)(self.spec.address, &log) {
                Ok(()) => return Ok(()),
                Err(reason) if Instant::now() >= deadline => {
                    return Err(self.too_slow("ready", READY_WITHIN, reason));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// Ends the server as a power cut would: SIGKILL, to PostgreSQL's backends as well.
    pub fn kill(&self) -> Result<()> {
        self.kill_by(|first, children| {
            for child in children {
                process::signal(*child, Signal::SIGKILL);
            }
            process::signal_group(first, Signal::SIGKILL);
        })
    }

    /// SIGKILL to the server's first process alone. PostgreSQL's backends find out by themselves, each when it next waits for
    /// something, and end; only then may the server start again. Returns when all of them are gone.
    pub fn kill_first(&self) -> Result<()> {
        self.kill_by(|first, children| {
            process::signal(first, Signal::SIGKILL);
            // One that was just being forked was stopped along.
            children.iter().for_each(|child| process::signal(*child, Signal::SIGCONT));
        })
    }

    /// Returns when the first process, to which `kill` must see, and its children are gone.
    fn kill_by(&self, kill: impl FnOnce(u32, &[u32])) -> Result<()> {
        let mut running = self.running();
        let Some(Running { mut child, .. }) = running.take() else {
            return Err(self.not_running());
        };
        let pid = child.id();
        // Stopped first, so that it has no child but these.
        process::signal_group(pid, Signal::SIGSTOP);
        let children = process::children(pid);
        kill(pid, &children);
        child.wait().map_err(Error::io(format!("wait for {}", self.name())))?;
        self.watchdog.release(pid, self.spec.stop_immediate);
        // A backend that lives on keeps PostgreSQL from starting again.
        let deadline = Instant::now() + STOPPED_WITHIN;
        while children.iter().any(|child| process::alive(*child)) {
            if Instant::now() >= deadline {
                return Err(self.too_slow("gone", STOPPED_WITHIN, "children live on".into()));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends the server cleanly: SIGTERM to Kafka, SIGINT ("fast shutdown") to PostgreSQL.
    pub fn stop(&self) -> Result<()> {
        self.end(self.spec.stop)
    }

    /// Ends the server at once but by its own hand: SIGQUIT ("immediate shutdown", recovery at the next start)
    /// to PostgreSQL. Kafka has no such thing and is killed.
    pub fn stop_immediate(&self) -> Result<()> {
        if self.spec.stop_immediate == Signal::SIGKILL {
            self.kill()
        } else {
            self.end(self.spec.stop_immediate)
        }
    }

    /// Freezes the server, PostgreSQL's backends included: connections stay open and nothing answers.
    pub fn pause(&self) -> Result<()> {
        let running = self.running();
        let Some(running) = running.as_ref() else {
            return Err(self.not_running());
        };
        process::signal_group(running.child.id(), Signal::SIGSTOP);
        for child in process::children(running.child.id()) {
            process::signal(child, Signal::SIGSTOP);
        }
        Ok(())
    }

    /// Ends [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        let running = self.running();
        let Some(running) = running.as_ref() else {
            return Err(self.not_running());
        };
        self.thaw(running);
        Ok(())
    }

    fn thaw(&self, running: &Running) {
        for child in process::children(running.child.id()) {
            process::signal(child, Signal::SIGCONT);
        }
        process::signal_group(running.child.id(), Signal::SIGCONT);
    }

    fn end(&self, signal: Signal) -> Result<()> {
        let mut guard = self.running();
        let Some(running) = guard.as_mut() else {
            return Err(self.not_running());
        };
        // To the leader alone: PostgreSQL reads a signal to a backend as a request to that backend.
        process::signal(running.child.id(), signal);
        self.thaw(running);
        let deadline = Instant::now() + STOPPED_WITHIN;
        while running.child.try_wait().map_err(Error::io(self.name()))?.is_none() {
            if Instant::now() >= deadline {
                drop(guard);
                self.kill()?;
                return Err(self.too_slow("stopped", STOPPED_WITHIN, "killed it".into()));
            }
            thread::sleep(POLL);
        }
        self.watchdog.release(running.child.id(), self.spec.stop_immediate);
        *guard = None;
        Ok(())
    }

    /// What it logged since its start; an error once the process has ended.
    fn check_alive(&self) -> Result<String> {
        let mut guard = self.running();
        let Some(running) = guard.as_mut() else {
            return Err(self.not_running());
        };
        let ended = running.child.try_wait().map_err(Error::io(self.name()))?;
        let log = read_from(&self.spec.log, running.log_start);
        let Some(status) = ended else { return Ok(log) };
        self.watchdog.release(running.child.id(), self.spec.stop_immediate);
        *guard = None;
        Err(self.ended(status, &log))
    }

    fn ended(&self, status: ExitStatus, log: &str) -> Error {
        let console = read_from(&self.spec.directory.join("console.log"), 0);
        let log = if console.contains(log) { console } else { console + log };
        Error::Ended { server: self.name().into(), status: status.to_string(), log: process::tail(&log, 30) }
    }

    fn too_slow(&self, goal: &'static str, limit: Duration, reason: String) -> Error {
        Error::TooSlow { server: self.name().into(), goal, seconds: limit.as_secs(), reason }
    }

    fn not_running(&self) -> Error {
        Error::NotRunning { server: self.name().into() }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_from(path: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(start)).is_ok()
    {
        file.read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
