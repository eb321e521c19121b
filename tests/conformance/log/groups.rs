//! Partitions that move between members.

use std::{sync::Arc, time::Duration};

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, ConsumerEvent},
};

use super::{Limits, LogUnderTest, Member, next_of, sent, topic, unique, within};

pub(super) async fn an_eager_rebalance_waits_for_the_handback(under: &dyn LogUnderTest) {
    handed_back(under, Assignor::Eager).await;
}

pub(super) async fn a_cooperative_rebalance_waits_for_the_handback(under: &dyn LogUnderTest) {
    handed_back(under, Assignor::Cooperative).await;
}

async fn handed_back(under: &dyn LogUnderTest, assignor: Assignor) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 4, Cleanup::Any).await;
    let group = unique("group");
    let mut first = Member::join(&*log, &group, &topic, assignor).await;
    let before = first.assigned().await;
    assert_eq!(before.len(), 4);
    let mut second = Member::join(&*log, &group, &topic, assignor).await;
    let (revoked, lost, handback) = first.revoked().await;
    let expected = match assignor {
        Assignor::Eager => 4,
        Assignor::Cooperative => 2,
    };
    assert_eq!((revoked.len(), lost), (expected, false));
    second.quiet(2).await;
    // Whoever hands back can finish what it has begun.
    assert!(revoked.iter().all(|each| first.consumer.holds(each)));
    let proof = first.consumer.metadata(&revoked).expect("still a member, partitions still held");
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    producer.send_offsets(&next_of(&revoked[0], 1), proof).await.expect("still its partition");
    producer.abort().await;
    drop(handback);

    let gained = second.gained(2).await;
    second.consumer.metadata(&gained).expect("held");
    assert_eq!(first.consumer.metadata(&revoked).expect_err("handed back").kind(), Kind::Unassigned);
    assert!(revoked.iter().all(|each| !first.consumer.holds(each)));
    match assignor {
        Assignor::Eager => {
            let after = first.gained(2).await;
            for each in &after {
                let old = before.iter().find(|old| old.partition == each.partition).expect("held before");
                assert!(each.epoch > old.epoch);
            }
            first.consumer.metadata(&after).expect("held again");
        }
        Assignor::Cooperative => {
            let kept: Vec<_> = before.iter().filter(|each| !revoked.contains(each)).cloned().collect();
            first.consumer.metadata(&kept).expect("held all along");
        }
    }
    second.close().await;
    match assignor {
        Assignor::Eager => {
            drop(first.revoked().await);
            first.gained(4).await;
        }
        Assignor::Cooperative => {
            first.gained(2).await;
        }
    }
    first.close().await;
}

pub(super) async fn a_handback_that_does_not_come_is_not_waited_for_for_ever(under: &dyn LogUnderTest) {
    let limits = Limits {
        session_timeout: Duration::from_secs(6),
        max_poll_interval: Duration::from_secs(8),
        ..Limits::default()
    };
    let log = under.log(limits).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let group = unique("group");
    let mut first = Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
    assert_eq!(first.assigned().await.len(), 2);
    let mut second = Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
    let (revoked, lost, handback) = first.revoked().await;
    assert_eq!((revoked.len(), lost), (1, false));
    let started = tokio::time::Instant::now();
    second.gained(1).await;
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(!first.consumer.holds(&revoked[0]));
    drop(handback);
    second.close().await;
    first.close().await;
}

pub(super) async fn whoever_closes_is_asked_first(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Cooperative).await;
    let held = member.gained(2).await;
    let consumer = Arc::clone(&member.consumer);
    let closing = tokio::spawn(async move { consumer.close().await });
    let (revoked, lost, handback) = member.revoked().await;
    assert_eq!((revoked.len(), lost), (2, false));
    member.consumer.metadata(&held).expect("still held");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!closing.is_finished());
    drop(handback);
    within(30, closing).await.expect("closed");
    assert!(member.events.recv().await.is_none(), "nothing follows");
}

pub(super) async fn a_closed_member_holds_nothing(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.gained(1).await;
    let Member { consumer, events } = member;
    drop(events);
    within(30, consumer.close()).await;
    within(30, consumer.close()).await;
    assert!(!consumer.holds(&held[0]));
    assert_eq!(consumer.start(&held[0], 0).await.expect_err("closed").kind(), Kind::Unassigned);
    assert_eq!(consumer.committed(&held[0]).await.expect_err("closed").kind(), Kind::Unassigned);
    assert_eq!(consumer.pause(&held[0]).expect_err("closed").kind(), Kind::Unassigned);
    assert_eq!(consumer.resume(&held[0]).expect_err("closed").kind(), Kind::Unassigned);
    assert_eq!(consumer.metadata(&[]).expect_err("closed").kind(), Kind::Unassigned);
}

pub(super) async fn a_dropped_member_leaves_its_partitions_to_others(under: &dyn LogUnderTest) {
    let limits = Limits { session_timeout: Duration::from_secs(60), ..Limits::default() };
    let log = under.log(limits).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let group = unique("group");
    // More than once: whether a member that leaves says so to the group was a matter of chance.
    for _ in 0..20 {
        let mut member = Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
        within(30, member.gained(2)).await;
        drop(member);
    }
}

pub(super) async fn a_second_member_of_the_same_name_ends_the_first(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let (group, name) = (unique("group"), unique("instance"));
    let mut first = Member::named(&*log, &group, &topic, Assignor::Cooperative, Some(&name)).await;
    let held = first.assigned().await;
    let proof = first.consumer.metadata(&held).expect("member");
    let mut second = Member::named(&*log, &group, &topic, Assignor::Cooperative, Some(&name)).await;
    second.gained(1).await;
    match first.event().await {
        ConsumerEvent::Fatal(error) => assert_eq!(error.kind(), Kind::Fenced, "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(!first.consumer.holds(&held[0]));
    assert!(first.events.recv().await.is_none(), "nothing follows");
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    // The generation is the same, the member is not.
    let refused = producer.send_offsets(&next_of(&held[0], 1), proof).await.expect_err("fenced");
    assert_eq!(refused.kind(), Kind::Fenced, "{refused}");
    first.consumer.close().await;
    second.close().await;
}

pub(super) async fn a_restarted_member_of_the_same_name_disturbs_nobody(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let (group, name) = (unique("group"), unique("instance"));
    let mut first = Member::named(&*log, &group, &topic, Assignor::Cooperative, Some(&name)).await;
    assert_eq!(first.assigned().await.len(), 2);
    let mut other = Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
    drop(first.revoked().await);
    other.gained(1).await;
    first.close().await;
    let mut again = Member::named(&*log, &group, &topic, Assignor::Cooperative, Some(&name)).await;
    again.gained(1).await;
    other.quiet(4).await;
    // Until it stays away for too long.
    again.close().await;
    other.gained(1).await;
    other.close().await;
}

pub(super) async fn a_member_that_assigns_otherwise_gets_nothing(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let group = unique("group");
    let mut first = Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
    let held = first.gained(2).await;
    let mut other = Member::join(&*log, &group, &topic, Assignor::Eager).await;
    other.left_out(4).await;
    first.quiet(1).await;
    first.consumer.metadata(&held).expect("undisturbed");
    other.close().await;
    first.close().await;
}

pub(super) async fn members_share_evenly_and_each_partition_has_one_owner(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 6, Cleanup::Any).await;
    let group = unique("group");
    let mut consumers = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let Member { consumer, mut events } =
            Member::join(&*log, &group, &topic, Assignor::Cooperative).await;
        consumers.push(consumer);
        tasks.push(tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(event) = tokio::time::timeout(Duration::from_secs(12), events.recv()).await {
                match event {
                    Some(ConsumerEvent::Assigned(more)) => held.extend(more),
                    Some(ConsumerEvent::Revoked { partitions, lost, .. }) => {
                        assert!(!lost);
                        held.retain(|each| !partitions.contains(each));
                    }
                    other => panic!("{other:?}"),
                }
            }
            (held, events)
        }));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut all = Vec::new();
    for (task, consumer) in tasks.into_iter().zip(&consumers) {
        let (held, _events) = task.await.expect("counted");
        assert_eq!(held.len(), 2, "{held:?}");
        assert!(held.iter().all(|each| consumer.holds(each)));
        all.extend(held.into_iter().map(|each| each.partition));
    }
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
}
