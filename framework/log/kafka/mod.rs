//! Apache Kafka through rdkafka; nothing outside of this room names it.
use crate::config::{Fields, Problems};

/// How to reach Kafka, and what to demand of it.
#[derive(Debug, Clone, Default)]
pub struct KafkaConfig {}
impl KafkaConfig {
    pub(crate) fn read(&mut self, _: &mut Fields<'_>) {}
    pub(crate) fn report(&self, _: &mut Problems) {}
}
