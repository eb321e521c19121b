//! The request arrives, its answer does not: COMMIT at the database, EndTxn and TxnOffsetCommit at the broker.

use std::time::Duration;

use tidelock_lab::{
    Lab,
    proxy::{
        Trap,
        request::{kafka_commit, kafka_key, postgres_commit},
    },
};

use super::scene::Scene;

const TXN_OFFSET_COMMIT: i16 = 28;
const ADD_OFFSETS_TO_TXN: i16 = 25;
const ADD_PARTITIONS_TO_TXN: i16 = 24;
const SOON: Duration = Duration::from_millis(1);

/// A lab of its own, whose servers stand behind proxies.
async fn lab() -> Lab {
    tokio::task::spawn_blocking(|| Lab::builder().proxied(true).start()).await.unwrap().unwrap()
}

async fn scene(lab: &Lab, test: &str) -> Scene {
    Scene::on(test, lab.kafka_url(), lab.database_url()).await
}

/// Arms a trap after the processor is at work, feeds it, and judges.
async fn processor_loses(lab: &Lab, test: &str, arm: impl Fn(&Lab) -> Trap) {
    let scene = scene(lab, test).await;
    scene.topics().await;
    scene.feed(1, 10).await;
    let proxied = scene
        .child("processor")
        .env("TIDELOCK_KAFKA_BROKERS", lab.proxied_kafka_url())
        .env("TIDELOCK_DATABASE_URL", format!("{}{}", base(&lab.proxied_database_url()), scene.name))
        .spawn();
    scene.processed(10).await.1.assert_clean(test);
    for round in 1..=3 {
        let trap = arm(lab);
        scene.feed(round * 10 + 1, round * 10 + 10).await;
        let trap =
            tokio::task::spawn_blocking(move || (trap.wait(Duration::from_secs(20)), trap)).await.unwrap();
        assert!(trap.0, "{test}: the request never came");
        let (effects, outputs) = scene.processed(round * 10 + 10).await;
        effects.assert_clean(test);
        outputs.assert_clean(test);
    }
    proxied.stop();
    let (effects, outputs) = scene.judge_processed(40).await;
    effects.assert_clean(test);
    outputs.assert_clean(test);
}

fn base(url: &str) -> &str {
    &url[..=url.rfind('/').unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_broker_and_the_database_are_lost() {
    let lab = lab().await;
    processor_loses(&lab, "lost_p2", |lab| lab.postgres_proxy().cut_after_request(postgres_commit, SOON))
        .await;
    processor_loses(&lab, "lost_before_p2", |lab| lab.postgres_proxy().cut_before_request(postgres_commit))
        .await;
    processor_loses(&lab, "lost_p4", |lab| lab.kafka_proxy(0).cut_after_request(kafka_commit, SOON)).await;
    processor_loses(&lab, "lost_before_p4", |lab| lab.kafka_proxy(0).cut_before_request(kafka_commit)).await;
    for (name, key) in
        [("offsets", TXN_OFFSET_COMMIT), ("add_offsets", ADD_OFFSETS_TO_TXN), ("add", ADD_PARTITIONS_TO_TXN)]
    {
        processor_loses(&lab, &format!("lost_{name}"), move |lab| {
            lab.kafka_proxy(0).cut_after_request(kafka_key(key), SOON)
        })
        .await;
    }
    relay_loses_r5(&lab).await;
}

/// R5: EndTxn sent, connection cut.
async fn relay_loses_r5(lab: &Lab) {
    let scene = scene(lab, "lost_r5").await;
    let relay = scene.child("relay").env("TIDELOCK_KAFKA_BROKERS", lab.proxied_kafka_url()).spawn();
    scene.enqueue(50).await;
    scene.published().await.assert_clean("R5");
    for _ in 0..3 {
        let trap = lab.kafka_proxy(0).cut_after_request(kafka_commit, SOON);
        scene.enqueue(50).await;
        scene.published().await.assert_clean("R5");
        assert!(trap.sprung(), "the relay never committed");
    }
    relay.stop();
    scene.judge_published().await.assert_clean("R5");
}
