//! How to reach PostgreSQL.

use std::time::Duration;

use crate::config::{Fields, Problems, Secret};

/// How to reach PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`; never shown. Defaults to nothing: it must be set.
    pub url: Secret,
    /// The schema of the framework's own tables. Defaults to `tidelock`.
    pub schema: String,
    /// The most connections for handlers and for the service itself: one for each partition that may be assigned here,
    /// over all processors, and what the service needs besides. The framework opens up to 4 more for what must not wait for
    /// handlers, and a relay one for each shard that it has. Defaults to 16.
    pub max_connections: u32,
    /// How long to wait for a connection. Defaults to 10 s.
    pub connect_timeout: Duration,
    /// After how long without a statement the server ends a transaction of a handler or of the framework: what a process that is stopped, or
    /// a host that is gone, can hold locks for. Defaults to 60 s.
    pub idle_in_transaction_timeout: Duration,
    /// How long the server may take over a statement of the framework itself: how soon a processor notices a host that
    /// is gone without a word. A timed-out COMMIT is looked up, not repeated. Defaults to 75 s: longer than another
    /// owner's transaction can hold a row that waits for nothing but its end.
    pub answer_timeout: Duration,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            schema: "tidelock".to_owned(),
            max_connections: 16,
            connect_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(75),
        }
    }
}

impl PostgresConfig {
    pub(crate) fn read(&mut self, fields: &mut Fields<'_>) {
        fields.field("url", &mut self.url);
        fields.field("schema", &mut self.schema);
        fields.field("max_connections", &mut self.max_connections);
        fields.field("connect_timeout", &mut self.connect_timeout);
        fields.field("idle_in_transaction_timeout", &mut self.idle_in_transaction_timeout);
        fields.field("answer_timeout", &mut self.answer_timeout);
    }

    pub(crate) fn report(&self, problems: &mut Problems) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = self.schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        problems.check(begins && self.schema.chars().all(plain) && self.schema.len() <= 63, || {
            format!("database schema {:?} is not a plain identifier (a-z, 0-9, _; at most 63)", self.schema)
        });
        problems.check(self.max_connections > 0, || "database max_connections = 0, expected more".to_owned());
        problems.check(!self.connect_timeout.is_zero(), || {
            "database connect_timeout = 0, expected more".to_owned()
        });
        problems.check(!self.answer_timeout.is_zero(), || {
            "database answer_timeout = 0, expected more".to_owned()
        });
        problems.check(self.idle_in_transaction_timeout >= Duration::from_millis(1), || {
            format!(
                "database idle_in_transaction_timeout = {:?}, expected 1 ms or more",
                self.idle_in_transaction_timeout
            )
        });
    }
}
