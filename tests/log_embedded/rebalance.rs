//! Partitions that move between members.

use std::time::Duration;

use tidelock::log::{Assignor, Cleanup, ConsumerEvent, embedded::Embedded};

use super::{Member, topic};

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
