//! When messages were heard during the run: the progress file, one line per partition and 100 ms.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How many milliseconds one line covers at most.
pub const STEP: u64 = 100;

/// What was heard of one partition within 100 ms. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When the first of them was heard.
    pub t: u64,
    /// When the last of them was heard.
    pub last: u64,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How many messages of the run.
    pub count: u64,
    /// When the earliest of them was enqueued.
    pub at_min: u64,
    /// When the latest of them was enqueued.
    pub at_max: u64,
    /// The last offset.
    pub offset: i64,
}

/// Writes a progress file.
#[derive(Debug)]
pub(crate) struct Diary {
    path: PathBuf,
    file: BufWriter<File>,
    open: HashMap<(usize, i32), Progress>,
}

impl Diary {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::file(path))?;
        Ok(Self { path: path.into(), file: BufWriter::new(file), open: HashMap::new() })
    }

    /// Notes a message that was heard `now`.
    pub(crate) fn note(
        &mut self,
        topic: (usize, &str),
        partition: i32,
        offset: i64,
        at: u64,
        now: u64,
    ) -> Result<()> {
        let fresh = || Progress {
            t: now,
            last: now,
            topic: topic.1.into(),
            partition,
            count: 0,
            at_min: at,
            at_max: at,
            offset,
        };
        let line = self.open.entry((topic.0, partition)).or_insert_with(fresh);
        if line.t + STEP <= now {
            let done = std::mem::replace(line, fresh());
            write(&mut self.file, &done).map_err(Error::file(&self.path))?;
        }
        line.last = now;
        line.count += 1;
        line.at_min = line.at_min.min(at);
        line.at_max = line.at_max.max(at);
        line.offset = offset;
        Ok(())
    }

    /// Writes what is older than 100 ms, so that whoever reads along is up to date.
    pub(crate) fn turn(&mut self, now: u64) -> Result<()> {
        let mut old: Vec<_> =
            self.open.extract_if(|_, line| line.t + STEP <= now).map(|(_, line)| line).collect();
        old.sort_unstable_by_key(|line| line.t);
        let written = old.iter().try_for_each(|line| write(&mut self.file, line));
        written.and_then(|()| self.file.flush()).map_err(Error::file(&self.path))
    }
}

fn write(file: &mut BufWriter<File>, line: &Progress) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

/// Reads a progress file line by line.
///
/// # Errors
///
/// When it cannot be read, or a line is not of its kind.
pub(crate) fn read(path: &Path, each: &mut dyn FnMut(&Progress)) -> Result<()> {
    let file = File::open(path).map_err(Error::file(path))?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(Error::file(path))?;
        let progress = serde_json::from_str(&line).map_err(|error| Error::Line {
            path: path.display().to_string(),
            line: number + 1,
            reason: error.to_string(),
        })?;
        each(&progress);
    }
    Ok(())
}
