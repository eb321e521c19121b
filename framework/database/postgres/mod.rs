//! PostgreSQL.
use crate::config::{Fields, Problems};

/// How to reach PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct PostgresConfig {}
impl PostgresConfig {
    pub(crate) fn read(&mut self, _: &mut Fields<'_>) {}
    pub(crate) fn report(&self, _: &mut Problems) {}
}
