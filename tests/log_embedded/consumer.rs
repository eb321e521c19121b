//! Reading: from where, until when, and what a group knows.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, Commit, ConsumerEvent, Log, embedded::Embedded},
};

use super::{Member, committed, next_of, publish, record, sent, text, topic};

#[tokio::test(start_paused = true)]
async fn a_start_delivers_exactly_from_its_offset() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    let numbers =
        |range: std::ops::Range<i32>| range.map(|number| record(&topic, 0, number.to_string())).collect();
    publish(&mut *producer, numbers(0..50)).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Cooperative).await;
    let held = member.assigned().await;
    let [assignment] = held.as_slice() else { panic!("{held:?}") };
    let mut flows = Vec::new();
    for offset in [20, 0, 49] {
        flows.push(member.consumer.start(assignment, offset).await.expect("start"));
        let mut records = Vec::new();
        while records.last() != Some(&"49".to_owned()) {
            match member.event().await {
                ConsumerEvent::Records { records: chunk, flow, .. } => {
                    assert_eq!(Some(&flow), flows.last());
                    records.extend(chunk.iter().map(text));
                }
                other => panic!("{other:?}"),
            }
        }
        let expected: Vec<String> = (offset..50).map(|number| number.to_string()).collect();
        assert_eq!(records, expected);
    }
    assert!(flows.is_sorted() && flows[0] < flows[1] && flows[1] < flows[2]);

    // What is read while paused comes after, once, in order.
    member.consumer.pause(assignment).expect("pause");
    publish(&mut *producer, numbers(50..60)).await;
    let quiet = tokio::time::timeout(Duration::from_secs(60), member.events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    member.consumer.resume(assignment).expect("resume");
    let records =
        member.records(assignment, |all| all.last().is_some_and(|record| text(record) == "59")).await;
    assert_eq!(records.len(), 10);
    assert_eq!(records[0].offset, 51, "the commit marker of the first transaction takes offset 50");
    let Member { consumer, events } = member;
    drop(events);
    consumer.close().await;
    assert_eq!(consumer.start(assignment, 0).await.expect_err("closed").kind(), Kind::Unassigned);
    assert_eq!(consumer.pause(assignment).expect_err("closed").kind(), Kind::Unassigned);
    assert_eq!(consumer.metadata(&[]).expect_err("closed").kind(), Kind::Unassigned);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_take_holds_up_only_itself() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    for _ in 0..40 {
        publish(&mut *producer, vec![record(&topic, 0, vec![b'x'; (1 << 20) - 1_000])]).await;
    }
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let records = member.records(&held[0], |all| all.len() == 40).await;
    assert!(records.iter().map(|record| record.offset).eq((0..40).map(|number| number * 2)));
}

#[tokio::test(start_paused = true)]
async fn an_offset_in_a_transaction_is_known_only_after_its_outcome() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), None);

    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&next_of(&held[0], 5), proof).await.expect("offsets");
    let open = member.consumer.committed(&held[0]).await;
    assert_eq!(open.expect_err("still open").kind(), Kind::Timeout);
    let (offset, outcome) = tokio::join!(member.consumer.committed(&held[0]), producer.commit());
    committed(outcome);
    assert_eq!(offset.expect("offset"), Some(5));

    let mut producer = log.producer("id").await.expect("rotation");
    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&next_of(&held[0], 9), proof).await.expect("offsets");
    producer.abort().await;
    assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), Some(5));

    // Proof of membership is worth nothing once the group has moved on.
    let old = member.consumer.metadata(&held).expect("member");
    let mut second = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let (_, _, handback) = member.revoked().await;
    drop(handback);
    second.assigned().await;
    member.assigned().await;
    let gone = member.consumer.metadata(&held).expect_err("another assignment");
    assert_eq!(gone.kind(), Kind::Unassigned);
    let mut late = log.producer("id").await.expect("rotation");
    sent(&mut *late, Vec::new()).await;
    let refused = late.send_offsets(&next_of(&held[0], 11), old).await.expect_err("an old generation");
    assert_eq!(refused.kind(), Kind::Fenced, "{refused}");
    assert!(late.must_rotate().is_some());
    let outcome = late.commit().await;
    assert!(matches!(outcome, Commit::Aborted(_)), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn proof_of_another_log_is_refused() {
    let (log, other) = (Embedded::in_memory(), Embedded::in_memory());
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    let mut producer = other.producer("id").await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    let refused = producer.send_offsets(&next_of(&held[0], 1), proof).await.expect_err("another log");
    assert_eq!(refused.kind(), Kind::Config);
}

#[tokio::test(start_paused = true)]
async fn an_offset_outside_of_the_partition_fails_it() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 2, Cleanup::Any).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[1], 1_000).await.expect("start only seeks");
    match member.event().await {
        ConsumerEvent::Failed(failed, error) => {
            assert_eq!((failed, error.kind()), (held[1].clone(), Kind::Identity));
        }
        other => panic!("{other:?}"),
    }
    assert!(member.consumer.holds(&held[1]), "the partition is still ours, to start elsewhere");
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, vec![record(&topic, 1, "later")]).await;
    // Only a new assignment starts it again, and asking for it brings one.
    let refused = member.consumer.start(&held[1], 0).await;
    assert_eq!(refused.expect_err("failed before").kind(), Kind::Unassigned);
    let (revoked, lost, handback) = member.revoked().await;
    assert_eq!((revoked.len(), lost), (2, false));
    drop(handback);
    let again = member.assigned().await;
    member.consumer.start(&again[1], 0).await.expect("start");
    let records = member.records(&again[1], |all| !all.is_empty()).await;
    assert_eq!(text(&records[0]), "later");
}

#[tokio::test(start_paused = true)]
async fn old_records_are_thrown_away() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, vec![record(&topic, 0, "old"), record(&topic, 0, "old")]).await;
    tokio::time::sleep(Duration::from_secs(4 * 24 * 60 * 60)).await;
    publish(&mut *producer, vec![record(&topic, 0, "newer")]).await;
    tokio::time::sleep(Duration::from_secs(4 * 24 * 60 * 60)).await;
    let bounds = log.bounds(&topic, 0).await.expect("bounds");
    assert_eq!((bounds.start, bounds.end), (2, 5));
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start only seeks");
    assert!(matches!(member.event().await, ConsumerEvent::Failed(..)));
}
