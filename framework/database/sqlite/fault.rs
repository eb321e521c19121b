//! What errors of SQLite mean.

use sqlx::Error as SqlxError;

use crate::error::{Error, Kind};

const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const CONSTRAINT: u32 = 19;

/// An error of a statement, with what was being done.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(SqlxError) -> Error {
    move |error| Error::caused(kind(&error), what, error)
}

/// SQLite's result code without its extension.
fn code(error: &SqlxError) -> Option<u32> {
    let SqlxError::Database(database) = error else { return None };
    database.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

fn kind(error: &SqlxError) -> Kind {
    match error {
        SqlxError::Configuration(_) => Kind::Config,
        SqlxError::Decode(_) | SqlxError::ColumnDecode { .. } | SqlxError::ColumnNotFound(_) => Kind::Corrupt,
        SqlxError::Database(database) => match code(error) {
            // no such table or column: not migrated
            Some(1) if database.message().starts_with("no such") => Kind::Config,
            // no permission, read-only, cannot be opened, not authorised
            Some(3 | 8 | 14 | 23) => Kind::Config,
            // malformed, not a database
            Some(11 | 26) => Kind::Corrupt,
            _ => Kind::Unavailable,
        },
        _ => Kind::Unavailable,
    }
}

/// Somebody else is writing.
pub(super) fn is_busy(error: &SqlxError) -> bool {
    matches!(code(error), Some(BUSY | LOCKED))
}

/// Whether an error of COMMIT says for certain that nothing was written. A full disk does not: the last page of the
/// commit may have been the one before it.
pub(super) fn refused(error: &SqlxError) -> bool {
    matches!(code(error), Some(BUSY | LOCKED | CONSTRAINT))
}
