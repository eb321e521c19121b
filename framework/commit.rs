//! The truth about a commit, of the log or of the database.

use crate::error::Error;

/// What became of a transaction. Never inferred from the class of an error.
#[derive(Debug)]
#[must_use]
pub enum Commit {
    /// It is committed.
    Committed,
    /// It is not committed and never will be.
    Aborted(Error),
    /// Nobody can say yet: take a new producer with the same transactional id, then look.
    Unknown(Error),
}
