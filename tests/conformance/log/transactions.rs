//! What becomes visible, when, and in which order.

use futures_util::FutureExt;
use tidelock::log::{Assignor, Bounds, Cleanup, Commit, Rotation};

use super::{
    Limits, LogUnderTest, Member, committed, publish, publish_once, record, seen, sent, text, topic, unique,
    within,
};

pub(super) async fn only_what_is_committed_is_seen(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut first = log.producer(&id).await.expect("producer");
    publish(&*log, &mut first, vec![record(&topic, 0, "a")]).await;
    sent(&mut *first, vec![record(&topic, 0, "b")]).await;
    first.abort().await;
    let mut second = log.producer(&id).await.expect("rotation");
    publish(&*log, &mut second, vec![record(&topic, 0, "c")]).await;
    assert_eq!(seen(&*log, &topic, 0, "c").await, ["a", "c"]);
}

pub(super) async fn a_transaction_is_seen_in_all_its_partitions_at_once(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let (one, other) = (topic(&*log, 2, Cleanup::Any).await, topic(&*log, 1, Cleanup::Any).await);
    let places = [(&one, 0), (&one, 1), (&other, 0)];
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    sent(&mut *producer, places.map(|(topic, partition)| record(topic, partition, "x")).into()).await;
    committed(producer.commit().await);
    for (topic, partition) in places {
        assert_eq!(seen(&*log, topic, partition, "x").await, ["x"]);
        let bounds = log.bounds(topic, partition).await.expect("bounds");
        assert_eq!(bounds, Bounds { start: 0, end: 2 }, "the record and the marker");
    }
}

pub(super) async fn an_open_transaction_holds_back_what_comes_after_it(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    publish_once(&*log, vec![record(&topic, 0, "before")]).await;
    let mut open = log.producer(&unique("open")).await.expect("producer");
    sent(&mut *open, vec![record(&topic, 0, "open")]).await;
    publish_once(&*log, vec![record(&topic, 0, "after")]).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    let records = member.records(&held[0], |all| !all.is_empty()).await;
    assert_eq!(records.iter().map(text).collect::<Vec<_>>(), ["before"]);
    member.quiet(1).await;
    committed(open.commit().await);
    let records = member.records(&held[0], |all| all.len() >= 2).await;
    assert_eq!(records.iter().map(text).collect::<Vec<_>>(), ["open", "after"]);
    member.close().await;
}

pub(super) async fn an_open_transaction_counts_in_the_bounds(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds"), Bounds { start: 0, end: 0 });
    publish_once(&*log, vec![record(&topic, 0, "committed")]).await;
    // The answer to a commit may come before its marker is written.
    assert_eq!(seen(&*log, &topic, 0, "committed").await, ["committed"]);
    let mut open = log.producer(&unique("open")).await.expect("producer");
    sent(&mut *open, vec![record(&topic, 0, "open")]).await;
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds"), Bounds { start: 0, end: 3 });
    open.abort().await;
}

pub(super) async fn every_end_of_a_transaction_takes_one_offset(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    publish_once(&*log, vec![record(&topic, 0, "1"), record(&topic, 0, "2")]).await;
    let mut producer = log.producer(&id).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "aborted")]).await;
    producer.abort().await;
    let mut producer = log.producer(&id).await.expect("rotation");
    sent(&mut *producer, Vec::new()).await;
    committed(producer.commit().await);
    publish_once(&*log, vec![record(&topic, 0, "3")]).await;
    let records = super::read(&*log, &topic, 0, "3").await;
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 5]);
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds"), Bounds { start: 0, end: 7 });
}

pub(super) async fn an_empty_transaction_commits(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    for _ in 0..2 {
        sent(&mut *producer, Vec::new()).await;
        committed(producer.commit().await);
    }
}

pub(super) async fn a_transaction_that_takes_too_long_is_aborted(under: &dyn LogUnderTest) {
    let limits = Limits { transaction_timeout: std::time::Duration::from_secs(2), ..Limits::default() };
    let log = under.log(limits).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut slow = log.producer(&unique("slow")).await.expect("producer");
    sent(&mut *slow, vec![record(&topic, 0, "slow")]).await;
    publish_once(&*log, vec![record(&topic, 0, "quick")]).await;
    assert_eq!(within(60, seen(&*log, &topic, 0, "quick")).await, ["quick"]);
    let outcome = slow.commit().await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert_eq!(slow.must_rotate(), Some(Rotation::Fenced));
    slow.abort().await;
    let mut next = log.producer(slow.transactional_id()).await.expect("rotation");
    publish(&*log, &mut next, vec![record(&topic, 0, "next")]).await;
    assert_eq!(seen(&*log, &topic, 0, "next").await, ["quick", "next"]);
}

pub(super) async fn order_is_kept_over_ten_thousand_records(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    let all: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    for chunk in all.chunks(2_500) {
        let records = chunk.iter().map(|text| record(&topic, 0, text.as_str())).collect();
        publish(&*log, &mut producer, records).await;
    }
    assert_eq!(seen(&*log, &topic, 0, "9999").await, all);
}

pub(super) async fn calls_out_of_order_are_errors(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut producer = log.producer(&id).await.expect("producer");
    let outside = producer.send(vec![record(&topic, 0, "outside")]).await;
    let told = outside.is_err() || producer.acknowledged().await.is_err();
    assert!(told, "records outside of a transaction");
    let mut producer = log.producer(&id).await.expect("rotation");
    sent(&mut *producer, Vec::new()).await;
    committed(producer.commit().await);
    let outcome = producer.commit().await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    let mut producer = log.producer(&id).await.expect("rotation");
    producer.begin().await.expect("begin");
    producer.begin().await.expect_err("open already");
    assert!(producer.must_rotate().is_some());
    let mut producer = log.producer(&id).await.expect("rotation");
    publish(&*log, &mut producer, vec![record(&topic, 0, "inside")]).await;
    assert_eq!(seen(&*log, &topic, 0, "inside").await, ["inside"]);
}

pub(super) async fn a_cancelled_commit_is_decided_by_the_next_producer(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let id = unique("producer");
    let mut producer = log.producer(&id).await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "either way")]).await;
    match producer.commit().now_or_never() {
        Some(outcome) => committed(outcome),
        None => {
            assert_eq!(producer.must_rotate(), Some(Rotation::Unknown));
            assert!(matches!(producer.commit().await, Commit::Unknown(_)));
        }
    }
    let mut next = log.producer(&id).await.expect("rotation");
    let decided = log.last_record(&topic, 0).await.expect("decided").is_some();
    publish(&*log, &mut next, vec![record(&topic, 0, "after")]).await;
    assert_eq!(seen(&*log, &topic, 0, "after").await.len(), 1 + usize::from(decided));
}
