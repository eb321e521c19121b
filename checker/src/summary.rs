//! What the watch leaves behind: the summary file.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, trace::Trace};

/// What a reader saw during the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The run whose messages it noted in the progress file.
    pub run: String,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// When it ended.
    pub ended: u64,
    /// Every partition.
    pub traces: Vec<Trace>,
    /// Offsets that went backwards, of records or of a group.
    pub backwards: Vec<String>,
    /// The last committed offsets of the watched groups, as `group topic[partition] offset`.
    pub groups: Vec<String>,
    /// What else is to be known, such as partitions that could not be read to their end.
    pub notes: Vec<String>,
}

impl Summary {
    /// The trace of a partition.
    pub fn trace(&self, topic: &str, partition: i32) -> Option<&Trace> {
        self.traces.iter().find(|trace| trace.topic == topic && trace.partition == partition)
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no summary.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::file(path))?;
        serde_json::from_str(&text).map_err(|error| Error::Line {
            path: path.display().to_string(),
            line: error.line(),
            reason: error.to_string(),
        })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|error| Error::Settings(error.to_string()))?;
        let draft = path.with_extension("draft");
        fs::write(&draft, text + "\n").map_err(Error::file(&draft))?;
        fs::rename(&draft, path).map_err(Error::file(path))
    }
}
