//! The history of a run: JSON lines, one event a line.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tidelock_campaign::Result;

/// Milliseconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Writes the history.
pub(crate) struct History {
    path: PathBuf,
    file: Mutex<File>,
}

impl History {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One event with its fields, now.
    pub(crate) fn note(&self, event: &str, fields: Value) -> Result<()> {
        self.note_at(now(), event, fields)
    }

    pub(crate) fn note_at(&self, t: u64, event: &str, fields: Value) -> Result<()> {
        let mut line = json!({ "t": t, "event": event });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{line}")?;
        Ok(())
    }
}
