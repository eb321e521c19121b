//! What a handler is told to suffer from: one line in a file that every pipeline of a run looks at.

use std::{fmt, fs, path::Path, str::FromStr};

use crate::{Failure, Result};

/// The file's name, in the directory of the run.
pub const FILE: &str = "trouble";

/// What goes wrong in the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It panics.
    Panic,
    /// It does not return until the trouble ends, or for 3 s.
    Hang,
    /// It returns an error, after its effect.
    Fail,
    /// It updates one of few shared rows as well: partitions wait for each other, and deadlock.
    Meet,
    /// It takes 2 ms longer.
    Slow,
    /// It takes 200 ms longer.
    Crawl,
}

const NAMES: [(Kind, &str); 6] = [
    (Kind::Panic, "panic"),
    (Kind::Hang, "hang"),
    (Kind::Fail, "fail"),
    (Kind::Meet, "meet"),
    (Kind::Slow, "slow"),
    (Kind::Crawl, "crawl"),
];

/// A kind of trouble and its share of all executions, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trouble {
    /// What goes wrong.
    pub kind: Kind,
    /// In which share of the executions.
    pub share: f64,
}

impl Trouble {
    /// The trouble in that directory, if there is any.
    pub fn look(directory: &Path) -> Option<Self> {
        fs::read_to_string(directory.join(FILE)).ok()?.parse().ok()
    }

    /// Makes it the trouble of that directory; `None` ends it.
    ///
    /// # Errors
    /// Of the file system.
    pub fn tell(directory: &Path, trouble: Option<Self>) -> Result<()> {
        let (file, fresh) = (directory.join(FILE), directory.join("trouble.new"));
        match trouble {
            Some(trouble) => {
                fs::write(&fresh, trouble.to_string())?;
                fs::rename(&fresh, &file)?;
            }
            None if file.exists() => fs::remove_file(&file)?,
            None => {}
        }
        Ok(())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        write!(out, "{name} {}", self.share)
    }
}

impl FromStr for Trouble {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || format!("trouble {text:?} is not KIND SHARE");
        let (name, share) = text.trim().split_once(' ').ok_or_else(refuse)?;
        let kind = NAMES.iter().find(|(_, each)| *each == name).map(|(kind, _)| *kind).ok_or_else(refuse)?;
        Ok(Self { kind, share: share.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        for (kind, _) in NAMES {
            let trouble = Trouble { kind, share: 0.001 };
            assert_eq!(trouble.to_string().parse::<Trouble>().unwrap(), trouble);
        }
        assert!("sing 0.1".parse::<Trouble>().is_err());
    }
}
