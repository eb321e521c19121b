//! What a group has consumed, and who may say so.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, Commit, Log as _, Rotation, embedded::Embedded},
};

use super::{Limits, LogUnderTest, Member, committed, next_of, record, sent, topic, unique};

pub(super) async fn a_group_without_an_offset_has_none(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), None);
    member.close().await;
}

pub(super) async fn an_offset_is_known_only_after_its_transaction(under: &dyn LogUnderTest) {
    let limits = Limits { query_timeout: Duration::from_secs(4), ..Limits::default() };
    let log = under.log(limits).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    sent(&mut *producer, vec![record(&topic, 0, "output")]).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&next_of(&held[0], 5), proof).await.expect("offsets");
    let open = member.consumer.committed(&held[0]).await;
    assert_eq!(open.expect_err("still open").kind(), Kind::Timeout);
    let commit = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        producer.commit().await
    };
    let (offset, outcome) = tokio::join!(member.consumer.committed(&held[0]), commit);
    committed(outcome);
    assert_eq!(offset.expect("offset"), Some(5));
    member.close().await;
}

pub(super) async fn an_aborted_offset_changes_nothing(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    for (offset, commits) in [(5, true), (9, false), (3, true)] {
        let mut producer = log.producer(&id).await.expect("producer");
        sent(&mut *producer, Vec::new()).await;
        let proof = member.consumer.metadata(&held).expect("member");
        producer.send_offsets(&next_of(&held[0], offset), proof).await.expect("offsets");
        match commits {
            true => committed(producer.commit().await),
            false => producer.abort().await,
        }
        let expected = if offset == 3 { 3 } else { 5 };
        assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), Some(expected));
    }
    member.close().await;
}

pub(super) async fn an_offset_outlives_the_group_and_is_its_own(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let group = unique("group");
    let mut member = Member::join(&*log, &group, &topic, Assignor::Eager).await;
    let mut held = member.gained(2).await;
    held.sort();
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&next_of(&held[1], 7), proof).await.expect("offsets");
    committed(producer.commit().await);
    member.close().await;
    for (group, expected) in [(group, Some(7)), (unique("other"), None)] {
        let mut member = Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
        let mut held = member.gained(2).await;
        held.sort();
        assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), None);
        assert_eq!(member.consumer.committed(&held[1]).await.expect("offset"), expected);
        member.close().await;
    }
}

pub(super) async fn proof_of_an_earlier_generation_is_refused(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let group = unique("group");
    let mut member = Member::join(&*log, &group, &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    let old = member.consumer.metadata(&held).expect("member");
    let mut second = Member::join(&*log, &group, &topic, Assignor::Eager).await;
    let (_, _, handback) = member.revoked().await;
    drop(handback);
    second.assigned().await;
    member.assigned().await;
    assert!(!member.consumer.holds(&held[0]));
    let gone = member.consumer.metadata(&held).expect_err("another assignment");
    assert_eq!(gone.kind(), Kind::Unassigned);
    assert_eq!(member.consumer.committed(&held[0]).await.expect_err("not held").kind(), Kind::Unassigned);
    assert_eq!(member.consumer.start(&held[0], 0).await.expect_err("not held").kind(), Kind::Unassigned);
    assert_eq!(member.consumer.pause(&held[0]).expect_err("not held").kind(), Kind::Unassigned);
    let mut late = log.producer(&unique("late")).await.expect("producer");
    sent(&mut *late, Vec::new()).await;
    let refused = late.send_offsets(&next_of(&held[0], 11), old).await.expect_err("an old generation");
    assert_eq!(refused.kind(), Kind::Fenced, "{refused}");
    member.close().await;
    second.close().await;
}

pub(super) async fn proof_of_another_log_is_refused(under: &dyn LogUnderTest) {
    let (log, other) = (under.log(Limits::default()).await, Embedded::in_memory());
    let there = topic(&other, 1, Cleanup::Any).await;
    let mut member = Member::join(&other, "group", &there, Assignor::Eager).await;
    let held = member.gained(1).await;
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    let refused = producer.send_offsets(&next_of(&held[0], 1), proof).await.expect_err("another log");
    assert_eq!(refused.kind(), Kind::Config);
}

pub(super) async fn after_refused_offsets_only_an_abort_is_left(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    let proof = member.consumer.metadata(&held).expect("member");
    member.close().await;
    let id = unique("producer");
    let mut producer = log.producer(&id).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "output")]).await;
    let refused = producer.send_offsets(&next_of(&held[0], 1), proof).await.expect_err("has left");
    assert_eq!(refused.kind(), Kind::Fenced, "{refused}");
    assert_eq!(producer.must_rotate(), Some(Rotation::OffsetsFailed));
    assert!(matches!(producer.commit().await, Commit::Aborted(_)));
    producer.abort().await;
    assert_eq!(producer.begin().await.expect_err("used up").kind(), Kind::Conflict);
    let _decided = log.producer(&id).await.expect("rotation");
    assert_eq!(log.last_record(&topic, 0).await.expect("decided"), None);
}
