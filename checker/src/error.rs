//! Why nothing could be judged. A wrong history is no error: it is a [report](crate::Report).

use std::io;

use rdkafka::error::KafkaError;

/// What kept the checker from seeing something it was to judge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A line of a file is not what it should be.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// Which file.
        path: String,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A Kafka client could not be made or did not get an answer in time.
    #[error("{what}: {source}")]
    Kafka {
        /// What was asked.
        what: String,
        /// The last answer.
        source: KafkaError,
    },
    /// A partition could not be read up to its end although nothing open is in the way.
    #[error(
        "{topic}[{partition}] was read to {position} of {end}, and then nothing for {patience:?}: {reason}"
    )]
    Unreadable {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: i32,
        /// The offset of what would have been read next.
        position: i64,
        /// The offset after the last record.
        end: i64,
        /// How long nothing came.
        patience: std::time::Duration,
        /// What the client said last.
        reason: String,
    },
    /// A query failed, or answered something else than asked.
    #[error("query {query:?}: {reason}")]
    Query {
        /// The query as given.
        query: String,
        /// What the server or the checker has against it.
        reason: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Settings(String),
}

impl Error {
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.display().to_string();
        |source| Self::File { path, source }
    }

    pub(crate) fn kafka(what: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let what = what.into();
        |source| Self::Kafka { what, source }
    }
}

/// `Result` of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
