//! Processes that are cut off, and come back.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, Commit, Rotation},
};

use super::{
    Limits, LogUnderTest, Member, next_of, publish, publish_once, record, seen, sent, text, topic, unique,
    within,
};

fn short() -> Limits {
    Limits {
        transaction_timeout: Duration::from_secs(5),
        session_timeout: Duration::from_secs(3),
        max_poll_interval: Duration::from_secs(10),
        ..Limits::default()
    }
}

pub(super) async fn a_commit_without_an_answer_is_unknown(under: &dyn LogUnderTest) {
    let (log, process) = under.with_process(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut producer = process.log().producer(&id).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "unknown")]).await;
    process.lose_answers();
    let outcome = within(60, producer.commit()).await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert!(producer.must_rotate().is_some());
    assert_eq!(producer.begin().await.expect_err("used up").kind(), Kind::Conflict);
    // An abort must not undo what may be committed.
    producer.abort().await;
    process.go_on();
    let _decided = log.producer(&id).await.expect("rotation");
    let last = log.last_record(&topic, 0).await.expect("decided");
    assert_eq!(last.as_ref().map(text).as_deref(), Some("unknown"));
}

pub(super) async fn a_commit_that_does_not_arrive_is_decided_by_the_next_producer(under: &dyn LogUnderTest) {
    let (log, process) = under.with_process(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut producer = process.log().producer(&id).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "late")]).await;
    process.stop();
    let late = tokio::spawn(async move {
        let outcome = producer.commit().await;
        (producer, outcome)
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut next = log.producer(&id).await.expect("rotation");
    assert_eq!(log.last_record(&topic, 0).await.expect("decided"), None);
    process.go_on();
    let (producer, outcome) = within(60, late).await.expect("answered");
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert!(producer.must_rotate().is_some());
    publish(&*log, &mut next, vec![record(&topic, 0, "next")]).await;
    assert_eq!(seen(&*log, &topic, 0, "next").await, ["next"]);
}

pub(super) async fn a_transaction_outlives_its_stopped_process_only_until_its_time_out(
    under: &dyn LogUnderTest,
) {
    let (log, process) = under.with_process(short()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut producer = process.log().producer(&unique("producer")).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "stopped")]).await;
    process.stop();
    publish_once(&*log, vec![record(&topic, 0, "behind")]).await;
    assert_eq!(within(60, seen(&*log, &topic, 0, "behind")).await, ["behind"]);
    process.go_on();
    let outcome = within(60, producer.commit()).await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert_eq!(producer.must_rotate(), Some(Rotation::Fenced));
}

pub(super) async fn a_stopped_member_loses_its_partitions(under: &dyn LogUnderTest) {
    let (log, process) = under.with_process(short()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let group = unique("group");
    let mut old = Member::join(&*process.log(), &group, &topic, Assignor::Cooperative).await;
    let held = old.gained(2).await;
    process.stop();
    let mut new = Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
    let gained = new.gained(2).await;
    new.consumer.metadata(&gained).expect("held");
    process.go_on();
    let (revoked, lost, handback) = old.revoked().await;
    assert_eq!((&revoked, lost), (&held, true));
    assert!(!old.consumer.holds(&held[0]), "what is lost is not held while it is handed back");
    assert_eq!(old.consumer.metadata(&held).expect_err("lost").kind(), Kind::Unassigned);
    drop(handback);
    let (given, lost, handback) = new.revoked().await;
    assert_eq!((given.len(), lost), (1, false));
    drop(handback);
    let again = old.gained(1).await;
    assert!(again[0].epoch > held[0].epoch && again[0].epoch > held[1].epoch);
    old.consumer.metadata(&again).expect("a member again");
    old.close().await;
    new.close().await;
}

pub(super) async fn proof_of_a_zombie_generation_is_refused(under: &dyn LogUnderTest) {
    let (log, process) = under.with_process(short()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let group = unique("group");
    let mut old = Member::join(&*process.log(), &group, &topic, Assignor::Cooperative).await;
    let held = old.gained(1).await;
    let proof = old.consumer.metadata(&held).expect("member");
    process.stop();
    let mut new = Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
    let gained = new.gained(1).await;
    process.go_on();
    let mut zombie = process.log().producer(&unique("zombie")).await.expect("producer");
    sent(&mut *zombie, vec![record(&topic, 0, "zombie")]).await;
    let refused = zombie.send_offsets(&next_of(&held[0], 3), proof).await.expect_err("zombie");
    assert_eq!(refused.kind(), Kind::Fenced, "{refused}");
    assert_eq!(zombie.must_rotate(), Some(Rotation::OffsetsFailed));
    assert!(matches!(zombie.commit().await, Commit::Aborted(_)));
    zombie.abort().await;
    assert_eq!(new.consumer.committed(&gained[0]).await.expect("offset"), None);
    assert_eq!(log.last_record(&topic, 0).await.expect("decided"), None);
    drop(old.events);
    new.close().await;
}
