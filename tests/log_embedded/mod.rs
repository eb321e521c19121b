//! The log seam on the embedded log: what Kafka does, and what a simulation needs.

use std::{future::Future, time::Duration};

use tidelock::log::{Cleanup, Log, Producer, Record, TopicSpec};

use crate::conformance::{Member, committed, next_of, record, seen, sent, text, within};

mod chaos;
mod consumer;
mod differences;
mod disk;
mod durable;
mod faults;
mod late_move;
mod narrow;
mod pipeline;
mod processes;
mod producer;
mod rebalance;
mod topics;

/// Creates a topic of that many partitions.
async fn topic(log: &dyn Log, name: &str, partitions: i32, cleanup: Cleanup) -> String {
    let spec = TopicSpec { name: name.to_owned(), partitions: Some(partitions), cleanup };
    assert_eq!(log.topic(&spec).await.expect("topic"), partitions);
    spec.name
}

/// One transaction.
async fn publish(producer: &mut dyn Producer, records: Vec<Record>) {
    sent(producer, records).await;
    committed(producer.commit().await);
    assert_eq!(producer.must_rotate(), None);
}

/// Whether it is still waiting after a while.
async fn hangs<T: std::fmt::Debug>(what: impl Future<Output = T>) {
    let answer = tokio::time::timeout(Duration::from_secs(120), what).await;
    assert!(answer.is_err(), "{answer:?}");
}
