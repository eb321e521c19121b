//! What was done to the system during the run: faults, from when to when.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::{Error, Result};

/// One fault. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// Its number.
    pub id: u64,
    /// Its kind, such as `broker-kill`.
    pub class: String,
    /// To whom it was done.
    pub what: String,
    /// When it began.
    pub from: u64,
    /// When it ended; none if it never did.
    pub healed: Option<u64>,
    /// The longest stand-still that is right while it lasts; none where no progress is demanded.
    pub within_ms: Option<u64>,
}

/// The faults of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In the order in which they began.
    pub faults: Vec<Fault>,
    /// When nothing was enqueued any more.
    pub writers_done: Option<u64>,
}

#[derive(Deserialize)]
struct Line {
    t: u64,
    event: String,
    #[serde(default)]
    id: u64,
    #[serde(default)]
    class: String,
    #[serde(default)]
    what: String,
    allows_progress: Option<bool>,
    within_ms: Option<u64>,
}

impl History {
    /// Reads a history file: one event as JSON a line; events it does not know are passed over.
    ///
    /// # Errors
    ///
    /// When it cannot be read, a line is no event, or something healed that never began.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::file(path))?;
        let mut history = Self::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            history.add(line).map_err(|reason| Error::Line {
                path: path.display().to_string(),
                line: number + 1,
                reason,
            })?;
        }
        Ok(history)
    }

    /// Adds one line.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn add(&mut self, line: &str) -> Result<(), String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match line.event.as_str() {
            "fault" => {
                let demanded = line.within_ms.filter(|within| *within > 0);
                self.faults.push(Fault {
                    id: line.id,
                    class: line.class,
                    what: line.what,
                    from: line.t,
                    healed: None,
                    within_ms: demanded.filter(|_| line.allows_progress != Some(false)),
                });
            }
            "healed" => {
                let fault = self.faults.iter_mut().rev().find(|fault| fault.id == line.id);
                fault.ok_or_else(|| format!("fault {} healed, but never began", line.id))?.healed =
                    Some(line.t);
            }
            "writers-done" => self.writers_done = Some(line.t),
            _ => {}
        }
        Ok(())
    }
}
