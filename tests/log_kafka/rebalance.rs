//! Partitions that move between members.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, ConsumerEvent, kafka::Kafka},
};
use tidelock_lab::Lab;

use super::{Member, config, kafka, topic, unique};

#[tokio::test]
async fn an_eager_rebalance_waits_for_the_handback() {
    handed_back(Assignor::Eager).await;
}

#[tokio::test]
async fn a_cooperative_rebalance_waits_for_the_handback() {
    handed_back(Assignor::Cooperative).await;
}

async fn handed_back(assignor: Assignor) {
    let kafka = kafka();
    let topic = topic(&kafka, 4, Cleanup::Any).await;
    let group = unique("group");
    let mut first = Member::join(&kafka, &group, &topic, assignor).await;
    let before = first.assigned().await;
    assert_eq!(before.len(), 4);
    let mut second = Member::join(&kafka, &group, &topic, assignor).await;
    let (revoked, lost, handback) = first.revoked().await;
    assert!(!lost);
    let expected = match assignor {
        Assignor::Eager => 4,
        Assignor::Cooperative => 2,
    };
    assert_eq!(revoked.len(), expected);
    // A cooperative member is first told that it gets nothing yet.
    while let Ok(event) = tokio::time::timeout(Duration::from_millis(1_500), second.events.recv()).await {
        assert!(
            matches!(&event, Some(ConsumerEvent::Assigned(none)) if none.is_empty()),
            "{event:?} came before the handback"
        );
    }
    assert!(revoked.iter().all(|each| first.consumer.holds(each)));
    first.consumer.metadata(&revoked).expect("still a member, partitions still held");
    drop(handback);

    let mut gained = Vec::new();
    while gained.len() < 2 {
        gained.extend(second.assigned().await);
    }
    let gone = first.consumer.metadata(&revoked).expect_err("handed back");
    assert_eq!(gone.kind(), Kind::Unassigned);
    assert!(revoked.iter().all(|each| !first.consumer.holds(each)));
    if assignor == Assignor::Eager {
        let after = first.assigned().await;
        assert_eq!(after.len(), 2);
        for each in &after {
            let old = before.iter().find(|old| old.partition == each.partition).expect("held before");
            assert!(each.epoch > old.epoch);
        }
        first.consumer.metadata(&after).expect("held again");
    } else {
        let kept: Vec<_> = before.iter().filter(|each| !revoked.contains(each)).cloned().collect();
        first.consumer.metadata(&kept).expect("held all along");
    }
    second.consumer.metadata(&gained).expect("held");

    // Whoever leaves is asked first, too.
    let closing = tokio::spawn({
        let consumer = std::sync::Arc::clone(&second.consumer);
        async move { consumer.close().await }
    });
    let (revoked, lost, handback) = second.revoked().await;
    assert_eq!((revoked.len(), lost), (2, false));
    assert!(!closing.is_finished());
    drop(handback);
    closing.await.expect("closed");
    second.consumer.close().await;
    // Deaf ears do not keep a consumer from closing.
    first.close().await;
}

#[tokio::test]
async fn a_second_member_of_the_same_name_ends_the_first() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let (group, name) = (unique("group"), unique("instance"));
    let mut first = Member::named(&kafka, &group, &topic, Assignor::Cooperative, Some(&name)).await;
    let held = first.assigned().await;
    let mut second = Member::named(&kafka, &group, &topic, Assignor::Cooperative, Some(&name)).await;
    assert_eq!(second.assigned().await.len(), 1);
    match first.event().await {
        ConsumerEvent::Fatal(error) => assert_eq!(error.kind(), Kind::Fenced, "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(!first.consumer.holds(&held[0]));
    assert!(first.events.recv().await.is_none(), "nothing follows");
    first.consumer.close().await;
}

#[tokio::test]
async fn a_restarted_member_of_the_same_name_gets_its_partitions_back() {
    let kafka = kafka();
    let topic = topic(&kafka, 2, Cleanup::Any).await;
    let (group, name) = (unique("group"), unique("instance"));
    let mut first = Member::named(&kafka, &group, &topic, Assignor::Cooperative, Some(&name)).await;
    assert_eq!(first.assigned().await.len(), 2);
    first.close().await;
    let mut again = Member::named(&kafka, &group, &topic, Assignor::Cooperative, Some(&name)).await;
    assert_eq!(again.assigned().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_expelled_has_lost_its_partitions() {
    let lab = tokio::task::spawn_blocking(|| Lab::builder().postgres(false).start().expect("lab"))
        .await
        .expect("lab");
    let mut config = config();
    config.brokers = lab.kafka_url();
    config.session_timeout = Duration::from_secs(2);
    config.heartbeat_interval = Duration::from_millis(500);
    let kafka = Kafka::new(config).expect("settings are fine");
    let topic = topic(&kafka, 2, Cleanup::Any).await;
    let mut member = Member::join(&kafka, &unique("group"), &topic, Assignor::Cooperative).await;
    let held = member.assigned().await;
    lab.broker(0).pause().expect("pause");
    let (revoked, lost, handback) = member.revoked().await;
    assert!(lost);
    assert_eq!(revoked, held);
    assert!(!member.consumer.holds(&held[0]), "what is lost is not held while it is handed back");
    let gone = member.consumer.metadata(&held).expect_err("lost");
    assert_eq!(gone.kind(), Kind::Unassigned);
    drop(handback);
    lab.broker(0).resume().expect("resume");
    let again = member.assigned().await;
    assert_eq!(again.len(), 2);
    assert!(again[0].epoch > held[0].epoch);
    member.consumer.metadata(&again).expect("a member again");
}
