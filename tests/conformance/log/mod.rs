//! The contract of a log.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tidelock::{
    log::{
        Assignment, Assignor, Cleanup, Commit, Log, PartitionOffset, Producer, Received, Record, Rotation,
        TopicSpec,
    },
    message::Headers,
};

pub(super) mod embedded;
mod groups;
pub(super) mod kafka;
mod last_record;
mod member;
mod offsets;
mod producers;
mod reading;
mod records;
mod stopped;
mod topics;
mod transactions;

pub(crate) use member::Member;

/// Every clause, by subject; `$then` is what is to be made of them.
macro_rules! log_clauses {
    ($then:ident) => {
        $then! {
            transactions {
                only_what_is_committed_is_seen,
                a_transaction_is_seen_in_all_its_partitions_at_once,
                an_open_transaction_holds_back_what_comes_after_it,
                an_open_transaction_counts_in_the_bounds,
                every_end_of_a_transaction_takes_one_offset,
                an_empty_transaction_commits,
                a_transaction_that_takes_too_long_is_aborted,
                order_is_kept_over_ten_thousand_records,
                calls_out_of_order_are_errors,
                a_cancelled_commit_is_decided_by_the_next_producer,
            }
            producers {
                a_newer_producer_fences_the_older,
                a_fenced_producer_is_told_when_it_sends,
                an_aborted_producer_is_used_up,
                producers_of_other_ids_are_not_disturbed,
                a_dropped_producer_leaves_its_transaction_to_the_next,
            }
            stopped {
                a_commit_without_an_answer_is_unknown,
                a_commit_that_does_not_arrive_is_decided_by_the_next_producer,
                a_transaction_outlives_its_stopped_process_only_until_its_time_out,
                a_stopped_member_loses_its_partitions,
                proof_of_a_zombie_generation_is_refused,
            }
            records {
                every_field_comes_back,
                tombstones_and_empty_payloads_are_told_apart,
                no_key_and_an_empty_key_are_told_apart,
                keys_go_where_java_sends_them,
                a_record_without_a_time_is_stamped,
                times_before_1970_are_read_as_its_start_and_that_is_stamped,
                a_record_of_nearly_a_megabyte_goes_through,
                a_record_that_is_too_large_is_refused,
                a_partition_that_is_not_there_is_refused,
                a_topic_that_is_not_there_is_refused,
                a_compacted_topic_refuses_records_without_a_key,
                a_header_with_a_nul_in_its_name_is_refused,
            }
            last_record {
                it_is_the_last_committed_one,
                aborted_records_are_passed_over,
                it_waits_for_an_open_transaction,
                an_open_transaction_is_waited_for_until_its_time_out,
                a_partition_that_is_not_there_cannot_be_asked,
            }
            reading {
                a_start_delivers_exactly_from_its_offset,
                each_start_has_a_flow_of_its_own,
                a_start_at_the_end_waits_for_what_comes,
                nothing_flows_before_a_start,
                what_comes_during_a_pause_comes_after_it,
                pauses_and_resumes_neither_lose_nor_repeat,
                an_offset_outside_of_the_partition_fails_it,
            }
            offsets {
                a_group_without_an_offset_has_none,
                an_offset_is_known_only_after_its_transaction,
                an_aborted_offset_changes_nothing,
                an_offset_outlives_the_group_and_is_its_own,
                proof_of_an_earlier_generation_is_refused,
                proof_of_another_log_is_refused,
                after_refused_offsets_only_an_abort_is_left,
            }
            groups {
                an_eager_rebalance_waits_for_the_handback,
                a_cooperative_rebalance_waits_for_the_handback,
                a_handback_that_does_not_come_is_not_waited_for_for_ever,
                whoever_closes_is_asked_first,
                a_closed_member_holds_nothing,
                a_dropped_member_leaves_its_partitions_to_others,
                a_second_member_of_the_same_name_ends_the_first,
                a_restarted_member_of_the_same_name_disturbs_nobody,
                a_member_that_assigns_otherwise_gets_nothing,
                members_share_evenly_and_each_partition_has_one_owner,
            }
            topics {
                a_log_of_ours_will_do,
                a_topic_is_created_once,
                a_topic_keeps_its_id,
                another_count_of_partitions_is_refused,
                a_topic_that_is_not_compacted_is_refused,
                an_absent_topic_is_not_created_unless_allowed,
                a_topic_without_a_legal_name_is_refused,
            }
        }
    };
}
use log_clauses;

/// What a clause asks of a log's settings.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    create_topics: bool,
    transaction_timeout: Duration,
    session_timeout: Duration,
    max_poll_interval: Duration,
    query_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            create_topics: true,
            transaction_timeout: Duration::from_secs(20),
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(60),
            query_timeout: Duration::from_secs(15),
        }
    }
}

/// A log that is put to the test. Every clause takes one log, once, and names of its own.
#[async_trait]
pub(super) trait LogUnderTest: Sync {
    /// A log with these settings.
    async fn log(&self, limits: Limits) -> Arc<dyn Log>;

    /// The same, and another client of it that can be cut off.
    async fn with_process(&self, limits: Limits) -> (Arc<dyn Log>, Box<dyn Process>);
}

/// A client that can be cut off from its log.
pub(super) trait Process: Send + Sync {
    /// The log, as this client sees it.
    fn log(&self) -> Arc<dyn Log>;

    /// Nothing that it sends arrives, and it gets no answers, until it goes on. It may know, or stand still itself.
    fn stop(&self);

    /// What it sends arrives, but it gets no answers to its commits until it goes on.
    fn lose_answers(&self);

    /// Ends what was begun; requests that were held back arrive.
    fn go_on(&self);
}

pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::now_v7().simple())
}

/// A new topic of that many partitions.
async fn topic(log: &dyn Log, partitions: i32, cleanup: Cleanup) -> String {
    let spec = TopicSpec { name: unique("topic"), partitions: Some(partitions), cleanup };
    assert_eq!(log.topic(&spec).await.expect("topic"), partitions);
    spec.name
}

pub(crate) fn record(topic: &str, partition: i32, payload: impl Into<Vec<u8>>) -> Record {
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
pub(crate) async fn sent(producer: &mut dyn Producer, records: Vec<Record>) {
    producer.begin().await.expect("begin");
    producer.send(records).await.expect("send");
    let refused = producer.acknowledged().await.expect("acknowledged");
    assert!(refused.is_empty(), "{refused:?}");
}

/// One transaction by a producer that is rotated when it must be.
async fn publish(log: &dyn Log, producer: &mut Box<dyn Producer>, records: Vec<Record>) {
    sent(&mut **producer, records).await;
    committed(producer.commit().await);
    if let Some(why) = producer.must_rotate() {
        assert!(matches!(why, Rotation::SlowCommit | Rotation::SlowOffsets), "{why}");
        *producer = log.producer(producer.transactional_id()).await.expect("rotation");
    }
}

/// One transaction by a producer of its own.
async fn publish_once(log: &dyn Log, records: Vec<Record>) {
    let mut producer = log.producer(&unique("once")).await.expect("producer");
    publish(log, &mut producer, records).await;
}

pub(crate) fn committed(outcome: Commit) {
    assert!(matches!(outcome, Commit::Committed), "{outcome:?}");
}

pub(crate) fn next_of(assignment: &Assignment, offset: i64) -> [PartitionOffset; 1] {
    [PartitionOffset { topic: assignment.topic.clone(), partition: assignment.partition, offset }]
}

/// Fails with the caller's line when it takes too long.
#[track_caller]
pub(crate) fn within<T>(seconds: u64, what: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(seconds), what).await {
            Ok(value) => value,
            Err(_) => panic!("not within {seconds} s, waited for at {caller}"),
        }
    }
}

/// What a read_committed reader reads of a partition, up to a record with that payload.
async fn read(log: &dyn Log, topic: &str, partition: i32, last: &str) -> Vec<Received> {
    let mut member = Member::join(log, &unique("reader"), topic, Assignor::Eager).await;
    let assigned = member.assigned().await;
    let assignment = assigned.iter().find(|each| each.partition == partition).expect("assigned");
    member.consumer.start(assignment, 0).await.expect("start");
    let records =
        member.records(assignment, |all| all.last().is_some_and(|record| text(record) == last)).await;
    member.close().await;
    records
}

/// What a read_committed reader sees of a partition, as texts, up to that one.
pub(crate) async fn seen(log: &dyn Log, topic: &str, partition: i32, last: &str) -> Vec<String> {
    read(log, topic, partition, last).await.iter().map(text).collect()
}

pub(crate) fn text(record: &Received) -> String {
    String::from_utf8_lossy(record.payload.as_deref().unwrap_or_default()).into_owned()
}
