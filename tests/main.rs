//! Everything that is tested on real Kafka and real PostgreSQL, in one binary.
#![expect(missing_docs, clippy::unwrap_used, reason = "tests")]

mod architecture;
mod crash;
mod witness;
