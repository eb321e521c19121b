//! Processes that stand still or die.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, Commit, Log, Rotation, embedded::Embedded},
};

use super::{Member, hangs, next_of, publish, record, seen, sent, topic};

#[tokio::test(start_paused = true)]
async fn a_frozen_process_loses_its_partitions_and_its_transaction() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 2, Cleanup::Any).await;
    let zombie = log.client("zombie");
    let mut old = Member::join(&zombie, "group", &topic, Assignor::Cooperative).await;
    let held = old.assigned().await;
    let mut producer = zombie.producer("id").await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "zombie")]).await;
    let proof = old.consumer.metadata(&held).expect("member");

    zombie.freeze();
    hangs(old.consumer.committed(&held[0])).await;
    let mut new = Member::join(&log, "group", &topic, Assignor::Cooperative).await;
    let mut gained = Vec::new();
    while gained.len() < 2 {
        gained.extend(new.assigned().await);
    }
    // It knows nothing of it.
    assert!(old.consumer.holds(&held[0]));
    let stale = old.consumer.metadata(&held).expect("as far as it knows");
    let late = tokio::spawn(async move {
        let outcome = producer.commit().await;
        (producer, outcome)
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!late.is_finished());

    zombie.thaw();
    let (producer, outcome) = late.await.expect("answered");
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert_eq!(producer.must_rotate(), Some(Rotation::Fenced));
    let (revoked, lost, handback) = old.revoked().await;
    assert_eq!((&revoked, lost), (&held, true));
    assert!(!old.consumer.holds(&held[0]), "what is lost is not held while it is handed back");
    assert_eq!(old.consumer.metadata(&held).expect_err("lost").kind(), Kind::Unassigned);
    drop(handback);
    for proof in [proof, stale] {
        let mut producer = zombie.producer("id").await.expect("rotation");
        sent(&mut *producer, Vec::new()).await;
        let refused = producer.send_offsets(&next_of(&held[0], 3), proof).await.expect_err("zombie");
        assert_eq!(refused.kind(), Kind::Fenced);
        producer.abort().await;
    }
    assert_eq!(new.consumer.committed(&gained[0]).await.expect("offset"), None);
    let mut producer = log.producer("other").await.expect("producer");
    publish(&mut *producer, vec![record(&topic, 0, "after")]).await;
    assert_eq!(seen(&log, &topic, 0, "after").await, ["after"]);
}

#[tokio::test(start_paused = true)]
async fn a_short_freeze_loses_nothing() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let client = log.client("slow");
    let mut member = Member::join(&client, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    let mut producer = log.producer("id").await.expect("producer");
    client.freeze();
    publish(&mut *producer, vec![record(&topic, 0, "meanwhile")]).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(member.events.try_recv().is_none());
    client.thaw();
    let records = member.records(&held[0], |all| !all.is_empty()).await;
    assert_eq!(records.len(), 1);
    member.consumer.metadata(&held).expect("still a member");
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_is_never_heard_of_again() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let dead = log.client("dead");
    let mut old = Member::join(&dead, "group", &topic, Assignor::Eager).await;
    let held = old.assigned().await;
    let mut producer = dead.producer("id").await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "dead")]).await;
    dead.kill();
    dead.thaw();
    assert!(dead.is_killed());
    hangs(producer.commit()).await;
    hangs(old.consumer.close()).await;
    hangs(old.events.recv()).await;
    hangs(dead.check()).await;
    assert_eq!(old.consumer.metadata(&held).expect_err("dead").kind(), Kind::Unassigned);
    // Its name is free.
    let mut new = Member::join(&log.client("dead"), "group", &topic, Assignor::Eager).await;
    assert_eq!(new.assigned().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_leaves_its_transaction_to_its_successor() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let dead = log.client("dead");
    let mut producer = dead.producer("id").await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "dead")]).await;
    dead.kill();
    drop(producer);
    let mut next = log.producer("id").await.expect("successor");
    let started = tokio::time::Instant::now();
    publish(&mut *next, vec![record(&topic, 0, "next")]).await;
    assert_eq!(seen(&log, &topic, 0, "next").await, ["next"]);
    assert!(started.elapsed().as_secs() < 1);
}
