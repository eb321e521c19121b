//! tidelock locks a database and Kafka together.
#![forbid(clippy::undocumented_unsafe_blocks)]

pub mod commit;
pub mod config;
pub mod database;
pub mod error;
pub mod event;
pub mod failpoint;
pub mod handler;
pub mod health;
pub mod log;
pub mod message;
pub mod pipeline;
pub mod policy;
pub mod processor;
pub mod relay;
pub mod retry;
pub mod settings;
pub mod telemetry;
mod time;
