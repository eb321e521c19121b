//! Everything that is tested on real Kafka and real PostgreSQL, in one binary.
#![expect(clippy::unwrap_used, reason = "tests")]

mod architecture;
mod crash;
mod database_postgres;
mod log_kafka;
mod model;
mod pipeline;
mod settings;
mod witness;
