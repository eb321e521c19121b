//! Partitions that move between members.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, kafka::Kafka},
};
use tidelock_lab::Lab;

use super::{Member, config, topic, unique};

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
