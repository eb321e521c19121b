//! Every crash point of the protocol: a child process dies exactly there on real Kafka and PostgreSQL, is started
//! again, and an independent reader compares topic and tables. Needs the feature `failpoints`.
#![cfg(feature = "failpoints")]

mod answers_lost;
mod child;
mod database_crash;
mod processor;
mod relay;
mod scene;
mod variants;
pub(crate) mod verdict;
mod zombies;
