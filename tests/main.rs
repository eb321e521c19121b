//! Everything that is tested on real Kafka, PostgreSQL and SQLite, in one binary.
#![expect(clippy::unwrap_used, reason = "tests")]

mod architecture;
mod checker;
mod conformance;
mod crash;
mod database_postgres;
mod database_sqlite;
mod log_embedded;
mod log_kafka;
mod pipeline;
mod settings;
#[cfg(feature = "testing")]
mod testing_kit;
mod witness;
