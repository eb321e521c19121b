//! tidelock locks a database and Kafka together.
//!
//! A service writes to its database and publishes events, or reads events, changes its database and publishes
//! more. Both sides happen together or not at all, once, in order per key, whatever process or server dies:
//!
//! ```text
//!  business transaction            one Kafka transaction              one database transaction
//! ┌──────────────────────┐      ┌─────────────────────────┐      ┌───────────────────────────────┐
//! │ your tables + outbox │ ───► │ messages, then position │ ───► │ handler's writes + fence row  │
//! └──────────────────────┘relay └─────────────────────────┘      │ (with the emitted messages)   │
//!                                                                └───────────────┬───────────────┘
//!                                                                                ▼ one Kafka transaction
//!                                                                ┌───────────────────────────────┐
//!                                                                │ emitted messages, then offset │
//!                                                                └───────────────────────────────┘
//! ```
//!
//! # The promise
//! For `read_committed` consumers of one Kafka cluster: a message committed to the outbox is published exactly once, in
//! causal order per key; a handler's database effect happens exactly once per message and consumer group; what a
//! handler emits is published exactly once. After a crash of any process of the service, of a broker or of the
//! database server nobody needs to do anything; after a fail-over or a restore of the database the relay stops and
//! says so.
//!
//! One hole is Kafka's own: in the transaction protocol that librdkafka speaks a delayed request of one transaction is
//! accepted inside the next one of the same producer epoch. Every form in which the client itself repeats the request is
//! closed by replacing the producer in time. A copy that something between client and broker makes by itself is not
//! noticed: a message may come twice, which the inbox removes, and a group's offset may go back for a moment. Nothing is
//! lost, on brokers that verify transactional writes. Others are refused at start.
//!
//! # Where to begin
//! - [`Event`](event::Event): what travels. [`Handler`](handler::Handler): what you write; its documentation is the
//!   contract. [`Outbox`](outbox::Outbox): how a business transaction publishes.
//! - [`Pipeline`](pipeline::Pipeline): start, ready, stop. [`Settings`](settings::Settings): from code or environment.
//! - [`Kafka`](log::kafka::Kafka) or, without a server, [`Embedded`](log::embedded::Embedded) on one side,
//!   [`Postgres`](database::postgres::Postgres) or [`Sqlite`](database::sqlite::Sqlite) on the other.
//!
//! The repository's DESIGN.md has the map of the files, the life of one message, and what is not obvious; docs/runbook.md says
//! what to do when something stops, and which rights are needed.

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
pub mod outbox;
mod outgoing;
pub mod pipeline;
pub mod policy;
pub mod prelude;
pub mod processor;
pub mod relay;
pub mod retry;
mod seen;
pub mod settings;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
