//! Every metric name and label in one place.

/// Counter: messages published by relays. Label: `shard`.
pub const RELAY_PUBLISHED: &str = "tidelock_relay_published_total";
/// Counter: transactions committed by relays. Label: `shard`.
pub const RELAY_TRANSACTIONS: &str = "tidelock_relay_transactions_total";
/// Counter: messages put into quarantine. Label: `origin` (`outbox` or `output`).
pub const QUARANTINED: &str = "tidelock_quarantined_total";
/// Counter: producers replaced. Labels: `component` (`relay` or `processor`), `reason`.
pub const ROTATIONS: &str = "tidelock_producer_rotations_total";
/// Counter: records of committed batches, also those that no handler takes or the inbox had. Label: `group`.
pub const HANDLED: &str = "tidelock_processor_handled_total";
/// Counter: messages that the inbox had already. Label: `group`.
pub const DUPLICATES: &str = "tidelock_processor_duplicates_total";
/// Counter: executions that failed and were rolled back. Label: `group`.
pub const FAILED_ATTEMPTS: &str = "tidelock_processor_failed_attempts_total";
/// Counter: log transactions committed by processors. Label: `group`.
pub const PROCESSOR_TRANSACTIONS: &str = "tidelock_processor_transactions_total";
