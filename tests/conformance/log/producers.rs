//! Who may write under a transactional id.

use tidelock::{
    error::Kind,
    log::{Cleanup, Commit, Rotation},
};

use super::{Limits, LogUnderTest, committed, publish, record, seen, sent, topic, unique};

pub(super) async fn a_newer_producer_fences_the_older(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut older = log.producer(&id).await.expect("producer");
    assert_eq!((older.transactional_id(), older.must_rotate()), (id.as_str(), None));
    sent(&mut *older, vec![record(&topic, 0, "older")]).await;
    let mut newer = log.producer(&id).await.expect("producer");
    let outcome = older.commit().await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert_eq!(older.must_rotate(), Some(Rotation::Fenced));
    older.abort().await;
    assert_eq!(older.begin().await.expect_err("fenced").kind(), Kind::Conflict);
    publish(&*log, &mut newer, vec![record(&topic, 0, "newer")]).await;
    assert_eq!(seen(&*log, &topic, 0, "newer").await, ["newer"]);
}

pub(super) async fn a_fenced_producer_is_told_when_it_sends(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut late = log.producer(&id).await.expect("producer");
    late.begin().await.expect("begin");
    let mut newer = log.producer(&id).await.expect("producer");
    late.send(vec![record(&topic, 0, "late")]).await.expect("the answer comes later");
    assert_eq!(late.acknowledged().await.expect_err("fenced").kind(), Kind::Fenced);
    assert_eq!(late.must_rotate(), Some(Rotation::Fenced));
    let outcome = late.commit().await;
    assert!(!matches!(outcome, Commit::Committed), "{outcome:?}");
    publish(&*log, &mut newer, vec![record(&topic, 0, "newer")]).await;
    assert_eq!(seen(&*log, &topic, 0, "newer").await, ["newer"]);
}

pub(super) async fn an_aborted_producer_is_used_up(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "aborted")]).await;
    producer.abort().await;
    assert_eq!(producer.must_rotate(), Some(Rotation::Aborted));
    assert!(matches!(producer.commit().await, Commit::Aborted(_)));
    let refused = producer.begin().await.expect_err("used up");
    assert_eq!(refused.kind(), Kind::Conflict);
}

pub(super) async fn producers_of_other_ids_are_not_disturbed(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut one = log.producer(&unique("one")).await.expect("producer");
    sent(&mut *one, vec![record(&topic, 0, "one")]).await;
    let mut other = log.producer(&unique("other")).await.expect("producer");
    sent(&mut *other, vec![record(&topic, 0, "other")]).await;
    committed(other.commit().await);
    committed(one.commit().await);
    assert_eq!(seen(&*log, &topic, 0, "other").await, ["one", "other"]);
}

pub(super) async fn a_dropped_producer_leaves_its_transaction_to_the_next(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut dropped = log.producer(&id).await.expect("producer");
    sent(&mut *dropped, vec![record(&topic, 0, "dropped")]).await;
    let end = log.bounds(&topic, 0).await.expect("bounds").end;
    drop(dropped);
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds").end, end, "neither committed nor aborted");
    let mut next = log.producer(&id).await.expect("rotation");
    assert_eq!(log.last_record(&topic, 0).await.expect("decided"), None);
    publish(&*log, &mut next, vec![record(&topic, 0, "next")]).await;
    assert_eq!(seen(&*log, &topic, 0, "next").await, ["next"]);
}
