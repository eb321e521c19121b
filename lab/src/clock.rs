//! Clocks that go wrong, by way of libfaketime.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{Error, Lab, Result, Server};

const LIBRARY: &str = "libfaketime.so.1";

/// The clock of the processes that are started with its [variables](Self::variables): as far from the machine's as is
/// said, which they notice within a second. What measures time rather than tells it (the monotonic clock, sleeps and
/// time-outs of the system) is not touched.
///
/// PostgreSQL 15 lives on through an hour forwards and back. A JVM does not: with libfaketime 0.9.10 a broker starts in
/// anything from 5 to 90 s and now and then leaves a request without an answer, whatever the clock says, as waits on the C
/// library's condition variables are cut short or miss their signal. So a lab's brokers have no such clock.
///
/// A process that is killed leaves two files of 40 bytes in `/dev/shm`; those of servers the lab removes, those of
/// others [`sweep`](Self::sweep).
#[derive(Debug)]
pub struct Clock {
    /// Where libfaketime is.
    libraries: PathBuf,
    file: PathBuf,
    offset_ms: Mutex<i64>,
}

impl Clock {
    /// A right clock, which keeps its state in a file of this directory. Processes of whatever user must reach it.
    pub(crate) fn new(directory: &Path, name: &str) -> Result<Self> {
        let clock = Self {
            libraries: libraries()?,
            file: directory.join(format!("{name}.clock")),
            offset_ms: Mutex::new(0),
        };
        clock.set(|_| 0)?;
        Ok(clock)
    }

    /// Moves the clock forwards.
    pub fn forward(&self, time: Duration) -> Result<()> {
        self.set(|offset| offset.saturating_add(milliseconds(time)))
    }

    /// Moves the clock backwards: to the processes, moments come again.
    pub fn back(&self, time: Duration) -> Result<()> {
        self.set(|offset| offset.saturating_sub(milliseconds(time)))
    }

    /// Sets the clock right again; after [`forward`](Self::forward) that is a jump backwards.
    pub fn restore(&self) -> Result<()> {
        self.set(|_| 0)
    }

    /// By how many milliseconds the clock is ahead.
    pub fn offset_ms(&self) -> i64 {
        *self.offset_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The environment of a process that is to have this clock.
    pub fn variables(&self) -> [(&'static str, OsString); 5] {
        self.of_library("libfaketimeMT.so.1")
    }

    /// The same for a process without threads that asks the clock in its signal handlers, as PostgreSQL does: the
    /// library for threads would wait there for a lock that the interrupted call holds.
    pub(crate) fn without_threads(&self) -> [(&'static str, OsString); 5] {
        self.of_library(LIBRARY)
    }

    fn of_library(&self, library: &str) -> [(&'static str, OsString); 5] {
        [
            ("LD_PRELOAD", self.libraries.join(library).into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            // Otherwise time-outs of condition variables by the monotonic clock end at once.
            ("FAKETIME_FORCE_MONOTONIC_FIX", "0".into()),
            ("FAKETIME_CACHE_DURATION", "1".into()),
        ]
    }

    /// Removes what a killed process with such a clock left in `/dev/shm`.
    pub fn sweep(pid: u32) {
        for file in [format!("/dev/shm/faketime_shm_{pid}"), format!("/dev/shm/sem.faketime_sem_{pid}")] {
            fs::remove_file(file).ok();
        }
    }

    fn set(&self, change: impl Fn(i64) -> i64) -> Result<()> {
        let mut offset = self.offset_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = change(*offset);
        let (sign, size) = (if wanted < 0 { '-' } else { '+' }, wanted.unsigned_abs());
        let text = format!("{sign}{}.{:03}s\n", size / 1_000, size % 1_000);
        // Whoever reads meanwhile reads the old or the new.
        let new = self.file.with_extension("new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.file));
        written.map_err(Error::io(format!("write {}", self.file.display())))?;
        *offset = wanted;
        Ok(())
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Server {
    /// The server's own clock.
    pub fn clock(&self) -> Result<&Clock> {
        let clock = self.own_clock();
        clock.ok_or_else(|| Error::Config(format!("{} was not built with a movable clock", self.name())))
    }
}

impl Lab {
    /// A clock for processes that are no servers of this lab; each name is one clock.
    pub fn new_clock(&self, name: &str) -> Result<Clock> {
        Clock::new(&self.directory, name)
    }
}

/// Where libfaketime is: `TIDELOCK_LAB_FAKETIME`, or one of the usual places.
fn libraries() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("TIDELOCK_LAB_FAKETIME") {
        return Ok(chosen.into());
    }
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let machines =
        fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut places = roots.into_iter().chain(machines).map(|root| root.join("faketime"));
    places.find(|place| place.join(LIBRARY).is_file()).ok_or(Error::Missing {
        what: "libfaketime",
        hint: "install it, e.g. apt-get install libfaketime, or name its directory in TIDELOCK_LAB_FAKETIME",
    })
}
