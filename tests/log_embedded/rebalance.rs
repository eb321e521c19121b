//! Partitions that move between members.

use std::{sync::Arc, time::Duration};

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, ConsumerEvent, Log, embedded::Embedded},
};

use super::{Member, next_of, sent, topic};

#[tokio::test(start_paused = true)]
async fn an_eager_rebalance_waits_for_the_handback() {
    handed_back(Assignor::Eager).await;
}

#[tokio::test(start_paused = true)]
async fn a_cooperative_rebalance_waits_for_the_handback() {
    handed_back(Assignor::Cooperative).await;
}

async fn handed_back(assignor: Assignor) {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 4, Cleanup::Any).await;
    let mut first = Member::join(&log, "group", &topic, assignor).await;
    let before = first.assigned().await;
    assert_eq!(before.len(), 4);
    let mut second = Member::join(&log, "group", &topic, assignor).await;
    let (revoked, lost, handback) = first.revoked().await;
    assert!(!lost);
    let expected = match assignor {
        Assignor::Eager => 4,
        Assignor::Cooperative => 2,
    };
    assert_eq!(revoked.len(), expected);
    // A cooperative member is first told that it gets nothing yet.
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(20), second.events.recv()).await {
        assert!(
            matches!(&event, Some(ConsumerEvent::Assigned(none)) if none.is_empty()),
            "{event:?} came before the handback"
        );
    }
    assert!(revoked.iter().all(|each| first.consumer.holds(each)));
    let proof = first.consumer.metadata(&revoked).expect("still a member, partitions still held");
    let mut producer = log.producer("id").await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    producer.send_offsets(&next_of(&revoked[0], 1), proof).await.expect("still its partition");
    producer.abort().await;
    drop(handback);

    let mut gained = Vec::new();
    while gained.len() < 2 {
        gained.extend(second.assigned().await);
    }
    let gone = first.consumer.metadata(&revoked).expect_err("handed back");
    assert_eq!(gone.kind(), Kind::Unassigned);
    assert!(revoked.iter().all(|each| !first.consumer.holds(each)));
    let after = first.assigned().await;
    if assignor == Assignor::Eager {
        assert_eq!(after.len(), 2);
        for each in &after {
            let old = before.iter().find(|old| old.partition == each.partition).expect("held before");
            assert!(each.epoch > old.epoch);
        }
        first.consumer.metadata(&after).expect("held again");
    } else {
        assert!(after.is_empty());
        let kept: Vec<_> = before.iter().filter(|each| !revoked.contains(each)).cloned().collect();
        first.consumer.metadata(&kept).expect("held all along");
    }
    second.consumer.metadata(&gained).expect("held");

    // Whoever leaves is asked first, too.
    let closing = tokio::spawn({
        let consumer = Arc::clone(&second.consumer);
        async move { consumer.close().await }
    });
    let (revoked, lost, handback) = second.revoked().await;
    assert_eq!((revoked.len(), lost), (2, false));
    assert!(!closing.is_finished());
    drop(handback);
    closing.await.expect("closed");
    second.consumer.close().await;
    assert!(second.events.recv().await.is_none(), "nothing follows");
    if assignor == Assignor::Eager {
        drop(first.revoked().await);
        assert_eq!(first.assigned().await.len(), 4);
    } else {
        assert_eq!(first.assigned().await.len(), 2);
    }
    // Deaf ears do not keep a consumer from closing.
    first.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_handback_that_does_not_come_is_not_waited_for_for_ever() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 2, Cleanup::Any).await;
    let mut first = Member::join(&log, "group", &topic, Assignor::Cooperative).await;
    assert_eq!(first.assigned().await.len(), 2);
    let mut second = Member::join(&log, "group", &topic, Assignor::Cooperative).await;
    assert!(second.assigned().await.is_empty());
    let (revoked, _, handback) = first.revoked().await;
    let started = tokio::time::Instant::now();
    assert_eq!(second.assigned().await.len(), 1);
    assert_eq!(started.elapsed().as_secs(), 30);
    assert!(!first.consumer.holds(&revoked[0]));
    drop(handback);
}

#[tokio::test(start_paused = true)]
async fn a_second_member_of_the_same_name_ends_the_first() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut first = Member::named(&log, "group", &topic, Assignor::Cooperative, Some("name")).await;
    let held = first.assigned().await;
    let proof = first.consumer.metadata(&held).expect("member");
    let mut second = Member::named(&log, "group", &topic, Assignor::Cooperative, Some("name")).await;
    assert_eq!(second.assigned().await.len(), 1);
    match first.event().await {
        ConsumerEvent::Fatal(error) => assert_eq!(error.kind(), Kind::Fenced, "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(!first.consumer.holds(&held[0]));
    assert!(first.events.recv().await.is_none(), "nothing follows");
    let mut producer = log.producer("id").await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    // The generation is the same, the member is not.
    let refused = producer.send_offsets(&next_of(&held[0], 1), proof).await.expect_err("fenced");
    assert_eq!(refused.kind(), Kind::Fenced);
    first.consumer.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_member_of_the_same_name_gets_its_partitions_back() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 2, Cleanup::Any).await;
    let mut first = Member::named(&log, "group", &topic, Assignor::Cooperative, Some("name")).await;
    let mut other = Member::join(&log, "group", &topic, Assignor::Cooperative).await;
    assert_eq!(first.assigned().await.len(), 2);
    drop(first.revoked().await);
    assert!(other.assigned().await.is_empty());
    assert_eq!(other.assigned().await.len(), 1);
    assert!(first.assigned().await.is_empty());
    first.close().await;
    let mut again = Member::named(&log, "group", &topic, Assignor::Cooperative, Some("name")).await;
    assert_eq!(again.assigned().await.len(), 1);
    let quiet = tokio::time::timeout(Duration::from_secs(60), other.events.recv()).await;
    assert!(quiet.is_err(), "nobody else was disturbed: {quiet:?}");
    // Until it stays away for too long.
    again.close().await;
    assert_eq!(other.assigned().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_dropped_without_close_leaves_by_time_out() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 2, Cleanup::Any).await;
    let mut first = Member::join(&log, "group", &topic, Assignor::Cooperative).await;
    assert_eq!(first.assigned().await.len(), 2);
    drop(first);
    let started = tokio::time::Instant::now();
    let mut second = Member::join(&log, "group", &topic, Assignor::Cooperative).await;
    assert_eq!(second.assigned().await.len(), 2);
    assert!((7..=10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn many_members_share_evenly_and_each_partition_has_one_owner() {
    let log = Embedded::in_memory();
    let topic = topic(&log, "t", 12, Cleanup::Any).await;
    let mut members = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let Member { consumer, mut events } =
            Member::join(&log, "group", &topic, Assignor::Cooperative).await;
        members.push(consumer);
        tasks.push(tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(event) = tokio::time::timeout(Duration::from_secs(30), events.recv()).await {
                match event {
                    Some(ConsumerEvent::Assigned(more)) => held.extend(more),
                    Some(ConsumerEvent::Revoked { partitions, lost, .. }) => {
                        assert!(!lost);
                        held.retain(|each| !partitions.contains(each));
                    }
                    other => panic!("{other:?}"),
                }
            }
            held
        }));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut all = Vec::new();
    for task in tasks {
        let held = task.await.expect("counted");
        assert!((2..=3).contains(&held.len()), "{held:?}");
        all.extend(held.into_iter().map(|each| each.partition));
    }
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..12), "{all:?}");
}
