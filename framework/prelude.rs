//! What most services name: `use tidelock::prelude::*;`.

pub use async_trait::async_trait;

pub use crate::{
    database::{NoDatabase, postgres::Postgres, sqlite::Sqlite},
    error::BoxError,
    event::Event,
    handler::{Context, Handler, Outcome},
    log::{embedded::Embedded, kafka::Kafka},
    message::{Key, Message, MessageId},
    pipeline::Pipeline,
    processor::Processor,
    relay::RelayConfig,
    settings::Settings,
};
