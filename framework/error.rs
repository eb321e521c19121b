//! What can go wrong: a kind to act on, a sentence to read, and the cause.

use std::{any::Any, error::Error as StdError, fmt};

/// A boxed cause: what handlers return and what an [`Error`] carries.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The classes of failure; each has an action and a sentence of advice in the module `policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A setting is wrong, or the servers are not set up as the settings say.
    Config,
    /// The right to do it is missing: to a topic, a group, a transactional id, a table, or to log in.
    Denied,
    /// No answer within the time allowed; the call had no effect that matters.
    Timeout,
    /// The log or the database cannot be reached now, or asks to try again.
    Unavailable,
    /// Another producer with the same transactional id, or a newer member of the group, has taken over.
    Fenced,
    /// The assignment under which the work was done is no longer held.
    Unassigned,
    /// A compare-and-set found another value than expected.
    Conflict,
    /// Refused for good: the same request would be refused again.
    Refused,
    /// The request may or may not have taken effect.
    Unknown,
    /// Stored bytes cannot be read, or contradict each other.
    Corrupt,
    /// The database or the offsets are not the ones that were worked on before: an operator decides.
    Identity,
    /// What the embedded log stores in its file may be there or not, and only opening the file again tells.
    Storage,
    /// A handler returned an error or panicked, or its message could not be decoded.
    Handler,
    /// The component was stopped.
    Stopped,
}

/// An error of the framework. Its text names the thing and the value, never a payload or a password. `Debug` shows the
/// same text behind the kind: it is what a `main` that returns an error prints.
pub struct Error {
    kind: Kind,
    what: String,
    source: Option<BoxError>,
}

impl Error {
    /// An error without a cause.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// An error with its cause.
    pub fn caused(kind: Kind, what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self { kind, what: what.into(), source: Some(source.into()) }
    }

    /// A panic that was caught.
    pub(crate) fn panicked(kind: Kind, what: &str, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::new(kind, format!("{what} panicked: {}", text.unwrap_or("(no text)")))
    }

    /// The class of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {self}", self.kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)?;
        match &self.source {
            Some(source) => write!(out, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
