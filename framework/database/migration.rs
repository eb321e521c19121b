//! Versions of the framework's own tables.

use crate::error::{Error, Kind, Result};

/// One step; its place in the list, from 1, is the version it leads to. Never changed once released.
pub(super) struct Migration {
    pub(super) sql: &'static str,
    /// The oldest program that still works on tables of this version, by the newest version that program knows. What only
    /// adds leaves it where it was: during an upgrade the old processes run on, and start again, beside the new ones.
    pub(super) needs: i32,
}

/// What the tables say of themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) number: usize,
    pub(super) needs: i32,
}

impl Version {
    /// What is left to apply.
    ///
    /// # Errors
    /// Kind `Config` when only a newer program may work on these tables.
    pub(super) fn missing(self, of: &str, all: &'static [Migration]) -> Result<&'static [Migration]> {
        let known = all.len();
        if usize::try_from(self.needs).is_ok_and(|needs| needs > known) {
            let what = format!(
                "{of} has version {}, for programs that know version {} or later; this program knows up to version {known}",
                self.number, self.needs
            );
            return Err(Error::new(Kind::Config, what));
        }
        Ok(all.get(self.number..).unwrap_or_default())
    }
}
