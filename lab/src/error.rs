//! What can go wrong when a lab starts or changes.

use std::io;
use std::path::PathBuf;

/// A lab's failure. The text says what to do about it where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program the lab needs is not installed.
    #[error("{what} not found: {hint}; or let `./check --install` do it")]
    Missing {
        /// The program.
        what: &'static str,
        /// How to get it.
        hint: &'static str,
    },
    /// A program the lab runs to the end failed.
    #[error("{program} failed ({status}):\n{output}")]
    Program {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A server ended before it was ready.
    #[error("{server} ended before it was ready ({status}):\n{log}")]
    Ended {
        /// The server's name.
        server: String,
        /// Its exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// A server did not do in time what was asked.
    #[error("{server} was not {goal} within {seconds} s: {reason}")]
    TooSlow {
        /// The server's name.
        server: String,
        /// What was waited for.
        goal: &'static str,
        /// For how long.
        seconds: u64,
        /// What was seen instead.
        reason: String,
    },
    /// The call needs a running server.
    #[error("{server} is not running")]
    NotRunning {
        /// The server's name.
        server: String,
    },
    /// A broker refused what it was asked for.
    #[error("the brokers refused {what}: error {code} of Kafka's protocol")]
    Refused {
        /// What was asked.
        what: String,
        /// Kafka's code.
        code: i16,
    },
    /// Another process runs the lab of this name.
    #[error("a lab runs in {directory} already")]
    InUse {
        /// The lab's directory.
        directory: PathBuf,
    },
    /// The lab cannot be built as asked.
    #[error("{0}")]
    Config(String),
    /// An operation of the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether other ports would help.
    pub(crate) fn port_was_taken(&self) -> bool {
        matches!(self, Self::Ended { log, .. } if log.contains("Address already in use"))
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
