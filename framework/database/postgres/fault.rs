//! What errors of the database mean.

use sqlx::Error as SqlxError;

use crate::error::{Error, Kind};

/// An error of a statement, with what was being done.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(SqlxError) -> Error {
    move |error| Error::caused(kind(&error), what, error)
}

fn kind(error: &SqlxError) -> Kind {
    match error {
        SqlxError::PoolTimedOut => Kind::Timeout,
        SqlxError::PoolClosed => Kind::Stopped,
        SqlxError::Configuration(_) => Kind::Config,
        SqlxError::Decode(_) | SqlxError::ColumnDecode { .. } | SqlxError::ColumnNotFound(_) => Kind::Corrupt,
        SqlxError::Database(database) => match database.code().as_deref().unwrap_or_default() {
            // undefined table, column, function, schema; insufficient privilege; wrong password
            "42P01" | "42703" | "42883" | "3F000" | "42501" | "28P01" | "28000" | "3D000" => Kind::Config,
            _ => Kind::Unavailable,
        },
        _ => Kind::Unavailable,
    }
}

/// Whether the server itself answered: then the statement had no effect.
pub(super) fn answered(error: &SqlxError) -> bool {
    // Class 57 (operator intervention, shutdown) may come in place of an answer that was already decided.
    matches!(error, SqlxError::Database(database) if database.code().is_some_and(|code| !code.starts_with("57")))
}
