//! Reading: from where, until when, and what a group knows.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, Commit, ConsumerEvent, Log, PartitionOffset, kafka::Kafka},
};

use super::{Member, committed, config, kafka, producer, publish, record, sent, text, topic, unique};

#[tokio::test]
async fn a_start_delivers_exactly_from_its_offset() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let mut producer = producer(&kafka).await.expect("producer");
    let numbers =
        |range: std::ops::Range<i32>| range.map(|number| record(&topic, 0, number.to_string())).collect();
    publish(&kafka, &mut producer, numbers(0..50)).await;
    let mut member = Member::join(&kafka, &unique("group"), &topic, Assignor::Cooperative).await;
    let held = member.assigned().await;
    let [assignment] = held.as_slice() else { panic!("{held:?}") };
    for offset in [20, 0, 49] {
        member.consumer.start(assignment, offset).await.expect("start");
        let mut records = Vec::new();
        while records.last() != Some(&"49".to_owned()) {
            match member.event().await {
                ConsumerEvent::Records { records: chunk, .. } => records.extend(chunk.iter().map(text)),
                other => panic!("{other:?}"),
            }
        }
        let expected: Vec<String> = (offset..50).map(|number| number.to_string()).collect();
        assert_eq!(records, expected);
    }

    // What is read while paused comes after, once, in order.
    member.consumer.pause(assignment).expect("pause");
    publish(&kafka, &mut producer, numbers(50..60)).await;
    let quiet = tokio::time::timeout(Duration::from_millis(500), member.events.recv()).await;
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
}

#[tokio::test]
async fn pauses_and_resumes_neither_lose_nor_repeat() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let mut producer = producer(&kafka).await.expect("producer");
    for round in 0..5 {
        let records =
            (0..4_000).map(|number| record(&topic, 0, (round * 4_000 + number).to_string())).collect();
        publish(&kafka, &mut producer, records).await;
    }
    let mut member = Member::join(&kafka, &unique("group"), &topic, Assignor::Eager).await;
    let assignment = member.assigned().await.remove(0);
    member.consumer.start(&assignment, 0).await.expect("start");
    let (mut next, mut chunks) = (0, 0);
    while next < 20_000 {
        let ConsumerEvent::Records { records, .. } = member.event().await else { panic!("expected records") };
        for record in records {
            assert_eq!(text(&record), next.to_string());
            next += 1;
        }
        chunks += 1;
        if chunks % 3 == 0 {
            member.consumer.pause(&assignment).expect("pause");
            tokio::task::yield_now().await;
            member.consumer.resume(&assignment).expect("resume");
        }
    }
    member.close().await;
}

#[tokio::test]
async fn an_offset_in_a_transaction_is_known_only_after_its_outcome() {
    let mut config = config();
    config.query_timeout = Duration::from_secs(2);
    let kafka = Kafka::new(config).expect("settings are fine");
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let (id, group) = (unique("producer"), unique("group"));
    let mut producer = kafka.producer(&id).await.expect("producer");
    let mut member = Member::join(&kafka, &group, &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), None);
    let at = |offset| [PartitionOffset { topic: topic.as_str().into(), partition: 0, offset }];

    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&at(5), proof).await.expect("offsets");
    let open = member.consumer.committed(&held[0]).await;
    assert_eq!(open.expect_err("still open").kind(), Kind::Timeout);
    committed(producer.commit().await);
    assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), Some(5));

    let mut producer = kafka.producer(&id).await.expect("rotation");
    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&at(9), proof).await.expect("offsets");
    producer.abort().await;
    let _decided = kafka.producer(&id).await.expect("rotation");
    assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), Some(5));

    // Proof of membership is worth nothing once the group has moved on.
    let old = member.consumer.metadata(&held).expect("member");
    let mut second = Member::join(&kafka, &group, &topic, Assignor::Eager).await;
    let (_, _, handback) = member.revoked().await;
    drop(handback);
    second.assigned().await;
    member.assigned().await;
    let gone = member.consumer.metadata(&held).expect_err("another assignment");
    assert_eq!(gone.kind(), Kind::Unassigned);
    let mut late = kafka.producer(&id).await.expect("rotation");
    sent(&mut *late, Vec::new()).await;
    let refused = late.send_offsets(&at(11), old).await.expect_err("an old generation");
    assert_eq!(refused.kind(), Kind::Fenced, "{refused}");
    assert!(late.must_rotate().is_some());
    let outcome = late.commit().await;
    assert!(!matches!(outcome, Commit::Committed), "{outcome:?}");
}

#[tokio::test]
async fn an_offset_outside_of_the_partition_fails_it() {
    let kafka = kafka();
    let topic = topic(&kafka, 2, Cleanup::Any).await;
    let mut member = Member::join(&kafka, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[1], 1_000).await.expect("start only seeks");
    match member.event().await {
        ConsumerEvent::Failed(failed, error) => assert_eq!(failed, held[1], "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(member.consumer.holds(&held[1]), "the partition is still ours, to start elsewhere");
    let mut producer = producer(&kafka).await.expect("producer");
    publish(&kafka, &mut producer, vec![record(&topic, 1, "later")]).await;
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
