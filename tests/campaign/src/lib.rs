//! What `campaign` and `subject` agree on: the identity of a message, the tables, the handler's trouble.

pub mod identity;
pub mod tables;
pub mod trouble;

/// Why something could not be done, for people.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Failure>;
