//! librdkafka's log lines, under our own target.

use rdkafka::{
    ClientContext, config::RDKafkaLogLevel as Level, consumer::ConsumerContext, error::KafkaError,
};

/// What librdkafka warns of at every rotation: it repeats the question by itself, and the call tells the outcome.
const ROUTINE: &str = "GETPID";

pub(super) fn line(level: Level, facility: &str, message: &str) {
    match level {
        Level::Warning if facility == ROUTINE => {
            tracing::debug!(target: "tidelock::kafka", facility, "{message}");
        }
        Level::Emerg | Level::Alert | Level::Critical | Level::Error | Level::Warning => {
            tracing::warn!(target: "tidelock::kafka", facility, "{message}");
        }
        Level::Notice | Level::Info => tracing::info!(target: "tidelock::kafka", facility, "{message}"),
        Level::Debug => tracing::debug!(target: "tidelock::kafka", facility, "{message}"),
    }
}

/// Global errors are hints: whatever matters comes back from a call or a delivery.
pub(super) fn error(error: &KafkaError, reason: &str) {
    tracing::debug!(target: "tidelock::kafka", %error, "{reason}");
}

/// A context that only logs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: Level, facility: &str, message: &str) {
        line(level, facility, message);
    }

    fn error(&self, failure: KafkaError, reason: &str) {
        error(&failure, reason);
    }
}

impl ConsumerContext for Quiet {}
