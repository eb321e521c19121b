//! Log to handler to database and log.
use crate::config::{Fields, Problems};

/// Settings of a processor.
#[derive(Debug, Clone, Default)]
pub struct ProcessorConfig {}
impl ProcessorConfig {
    pub(crate) fn read(&mut self, _: &mut Fields<'_>) {}
    pub(crate) fn report(&self, _: &mut Problems) {}
}
