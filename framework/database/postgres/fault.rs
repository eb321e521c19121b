//! What errors of the database mean.

use sqlx::{
    Error as SqlxError,
    postgres::{PgDatabaseError, PgSeverity},
};

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
            // insufficient privilege; wrong password; a role that may not log in, or not from here
            "42501" | "28P01" | "28000" => Kind::Denied,
            // undefined table, column, function, schema, database: not there yet, or gone, and what comes in its place is for
            // an operator to judge
            "42P01" | "42703" | "42883" | "3F000" | "3D000" => Kind::Config,
            _ => Kind::Unavailable,
        },
        _ => Kind::Unavailable,
    }
}

/// Whether a lock was not to be had within `lock_timeout`, or others waited for each other with it.
pub(super) fn waited_in_vain(error: &SqlxError) -> bool {
    is_one_of(error, &["55P03", "40P01"])
}

/// Whether a setting may not have that value.
pub(super) fn invalid_value(error: &SqlxError) -> bool {
    is_one_of(error, &["22023"])
}

fn is_one_of(error: &SqlxError, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|database| database.code());
    code.is_some_and(|code| codes.contains(&&*code))
}

/// Whether the server itself answered: then the statement had no effect.
pub(super) fn answered(error: &SqlxError) -> bool {
    let SqlxError::Database(database) = error else { return false };
    let Some(database) = database.try_downcast_ref::<PgDatabaseError>() else { return false };
    // FATAL and PANIC end the session or the server, perhaps after the commit was written. Class 57 (operator
    // intervention, shutdown) and class 08 (a pooler that lost the server) come in place of an answer.
    database.severity() == PgSeverity::Error
        && !["57", "08"].iter().any(|class| database.code().starts_with(class))
}
