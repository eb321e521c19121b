//! The log seam on the embedded log: what Kafka does, and what a simulation needs.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use tidelock::{
    log::{
        Assignment, Assignor, Cleanup, Commit, Consumer, ConsumerEvent, ConsumerEvents, Handback, Log,
        PartitionOffset, Producer, Received, Record, Subscription, TopicSpec,
    },
    message::Headers,
};

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

fn record(topic: &str, partition: i32, payload: impl Into<Vec<u8>>) -> Record {
    let payload: Vec<u8> = payload.into();
    Record {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(Bytes::from_static(b"k")),
        payload: Some(payload.into()),
        headers: Headers::new(),
        time_ms: None,
    }
}

/// Sends and waits for every acknowledgement; the transaction stays open.
async fn sent(producer: &mut dyn Producer, records: Vec<Record>) {
    producer.begin().await.expect("begin");
    producer.send(records).await.expect("send");
    let refused = producer.acknowledged().await.expect("acknowledged");
    assert!(refused.is_empty(), "{refused:?}");
}

/// One transaction.
async fn publish(producer: &mut dyn Producer, records: Vec<Record>) {
    sent(producer, records).await;
    committed(producer.commit().await);
    assert_eq!(producer.must_rotate(), None);
}

fn committed(outcome: Commit) {
    assert!(matches!(outcome, Commit::Committed), "{outcome:?}");
}

fn next_of(assignment: &Assignment, offset: i64) -> [PartitionOffset; 1] {
    [PartitionOffset { topic: assignment.topic.clone(), partition: assignment.partition, offset }]
}

/// Fails with the caller's line when it takes too long.
#[track_caller]
fn within<T>(seconds: u64, what: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(seconds), what).await {
            Ok(value) => value,
            Err(_) => panic!("not within {seconds} s, waited for at {caller}"),
        }
    }
}

/// Whether it is still waiting after a while.
async fn hangs<T: std::fmt::Debug>(what: impl Future<Output = T>) {
    let answer = tokio::time::timeout(Duration::from_secs(120), what).await;
    assert!(answer.is_err(), "{answer:?}");
}

/// A group member and what it was told.
struct Member {
    consumer: Arc<dyn Consumer>,
    events: ConsumerEvents,
}

impl Member {
    async fn join(log: &dyn Log, group: &str, topic: &str, assignor: Assignor) -> Self {
        Self::named(log, group, topic, assignor, None).await
    }

    async fn named(
        log: &dyn Log,
        group: &str,
        topic: &str,
        assignor: Assignor,
        instance: Option<&str>,
    ) -> Self {
        let subscription = Subscription {
            group: group.to_owned(),
            topics: vec![topic.to_owned()],
            instance: instance.map(str::to_owned),
            assignor,
        };
        let (consumer, events) = log.consumer(&subscription).await.expect("consumer");
        Self { consumer, events }
    }

    /// Closes without listening: whoever listens is asked for a handback first.
    async fn close(self) {
        drop(self.events);
        self.consumer.close().await;
    }

    #[track_caller]
    fn event(&mut self) -> impl Future<Output = ConsumerEvent> {
        let next = within(90, self.events.recv());
        async { next.await.expect("events ended") }
    }

    #[track_caller]
    fn assigned(&mut self) -> impl Future<Output = Vec<Assignment>> {
        let event = self.event();
        async {
            match event.await {
                ConsumerEvent::Assigned(partitions) => partitions,
                other => panic!("expected an assignment, got {other:?}"),
            }
        }
    }

    #[track_caller]
    fn revoked(&mut self) -> impl Future<Output = (Vec<Assignment>, bool, Handback)> {
        let event = self.event();
        async {
            match event.await {
                ConsumerEvent::Revoked { partitions, lost, handback } => (partitions, lost, handback),
                other => panic!("expected a revocation, got {other:?}"),
            }
        }
    }

    /// Records of one partition until `enough`.
    async fn records(&mut self, from: &Assignment, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let mut all = Vec::new();
        while !enough(&all) {
            match self.event().await {
                ConsumerEvent::Records { assignment, records, .. } => {
                    assert_eq!(assignment, *from);
                    all.extend(records);
                }
                other => panic!("expected records, got {other:?}"),
            }
        }
        all
    }
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

fn text(record: &Received) -> String {
    String::from_utf8_lossy(record.payload.as_deref().unwrap_or_default()).into_owned()
}
