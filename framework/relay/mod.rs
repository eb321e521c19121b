//! Outbox to log.
use crate::config::{Fields, Problems};

/// Settings of a relay.
#[derive(Debug, Clone, Default)]
pub struct RelayConfig {}
impl RelayConfig {
    pub(crate) fn read(&mut self, _: &mut Fields<'_>) {}
    pub(crate) fn report(&self, _: &mut Problems) {}
}
