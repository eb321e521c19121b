//! The log seam on the embedded log: what Kafka does, and what a simulation needs.

use std::{future::Future, time::Duration};

use tidelock::log::{Assignor, Cleanup, Log, Producer, Record, TopicSpec};

use crate::conformance::{Member, committed, next_of, record, sent, text, within};

mod chaos;
mod consumer;
mod durable;
mod faults;
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

/// What a read_committed reader sees of a partition, up to a record with that payload.
async fn seen(log: &dyn Log, topic: &str, partition: i32, last: &str) -> Vec<String> {
    let mut member = Member::join(log, "seen", topic, Assignor::Eager).await;
    let assigned = member.assigned().await;
    let assignment = assigned.iter().find(|each| each.partition == partition).expect("assigned");
    member.consumer.start(assignment, 0).await.expect("start");
    let records =
        member.records(assignment, |all| all.last().is_some_and(|record| text(record) == last)).await;
    member.close().await;
    records.iter().map(text).collect()
}
