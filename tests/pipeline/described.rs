//! Topics that may not be looked at: what goes to them waits, and does not go to the quarantine. What is known is not looked
//! at again.

use std::time::Duration;

use tidelock::{
    error::Kind,
    health::State,
    log::{Cleanup, Log as _, TopicSpec},
    outbox::Outgoing,
    prelude::*,
};
use tidelock_lab::Right;

use super::{Stage, eventually, tell, with_rights};
use crate::witness::{self, Sent};

const TOPIC: &str = "described.orders";

events! {
    Ask: "described.asks", _n => "k";
    Order: TOPIC, _n => "k";
}

/// Emits an order for each ask.
struct Take;

#[async_trait]
impl Handler<Postgres> for Take {
    type Event = Ask;

    async fn handle(
        &self,
        message: &Message<Ask>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        context.emit(&Order { n: message.event.n })?;
        Ok(Outcome::Done)
    }
}

async fn enqueue(stage: &Stage, n: i64) {
    let mut business = stage.postgres.outbox().begin().await.unwrap();
    business.enqueue(&Order { n }).unwrap();
    business.commit().await.unwrap();
}

async fn published(stage: &Stage, count: usize) {
    let found = stage.committed_at_least(TOPIC, count).await;
    let found: Vec<i64> = found.iter().map(|record| record.json()["n"].as_i64().unwrap()).collect();
    assert_eq!(found, (1..=count as i64).collect::<Vec<_>>());
    assert!(stage.postgres.quarantine(10).await.unwrap().is_empty());
}

/// A relay that looks at settings.
async fn strict(stage: &Stage) -> Pipeline {
    let kafka = stage.kafka_with(|config| config.min_insync_replicas = Some(1));
    let relay = RelayConfig::new(&stage.name);
    let pipeline = Pipeline::builder(kafka, stage.postgres.clone()).relay(relay).build().unwrap();
    pipeline.start().await.unwrap();
    pipeline
}

async fn recovering(pipeline: &Pipeline, why: &str) {
    eventually(why, async || {
        let mut states = pipeline.health().into_values();
        states.any(|state| matches!(state, State::Recovering(text) if text.contains(why)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_settings_may_not_be_seen_is_waited_for() {
    let (lab, stage) = with_rights("described").await;
    let progress: &str = format!("tidelock.{}.progress", stage.name).leak();
    let limit = async |bytes: Option<&'static str>| {
        let lab = lab.clone();
        let set = move || lab.cluster().set_topic(progress, "max.message.bytes", bytes);
        tokio::task::spawn_blocking(set).await.unwrap().unwrap();
    };
    witness::create_topic(&stage.kafka_url, TOPIC, 1, &[]).await;
    tell(&lab, Right::SeeSettings(TOPIC), false).await;
    enqueue(&stage, 1).await;
    let pipeline = strict(&stage).await;
    recovering(&pipeline, "\"described.orders\" does not tell its settings, DescribeConfigs").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!pipeline.is_ready(), "{:?}", pipeline.health());
    published(&stage, 0).await;
    tell(&lab, Right::SeeSettings(TOPIC), true).await;
    published(&stage, 1).await;
    eventually("nobody is in trouble", async || pipeline.is_ready()).await;

    // What is known is not looked at again, whatever fails.
    tell(&lab, Right::SeeSettings(TOPIC), false).await;
    tell(&lab, Right::Write(progress), false).await;
    enqueue(&stage, 2).await;
    recovering(&pipeline, "right to write").await;
    tell(&lab, Right::Write(progress), true).await;
    published(&stage, 2).await;

    // A position that is too large waits for the limit; the end of a transaction, of 78 bytes, is not.
    limit(Some("100")).await;
    enqueue(&stage, 3).await;
    recovering(&pipeline, "the position was refused").await;
    limit(None).await;
    published(&stage, 3).await;
    eventually("nobody is in trouble", async || pipeline.is_ready()).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();

    // Who asks for no setting need not see any.
    let relay = RelayConfig::new(&stage.name);
    let easy = Pipeline::builder(stage.kafka(), stage.postgres.clone()).relay(relay).build().unwrap();
    enqueue(&stage, 4).await;
    easy.start().await.unwrap();
    published(&stage, 4).await;
    easy.stop(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_wait_as_well() {
    let (lab, stage) = with_rights("described_outputs").await;
    for topic in [Ask::TOPIC, TOPIC] {
        witness::create_topic(&stage.kafka_url, topic, 1, &[]).await;
    }
    tell(&lab, Right::SeeSettings(TOPIC), false).await;
    let kafka = stage.kafka_with(|config| config.min_insync_replicas = Some(1));
    let processor = Processor::new(&stage.name).handle(Take);
    let pipeline = Pipeline::builder(kafka, stage.postgres.clone()).processor(processor).build().unwrap();
    pipeline.start().await.unwrap();
    let asks = (1..4).map(|n| Sent { key: "k".into(), payload: format!("{{\"n\":{n}}}"), headers: vec![] });
    stage.write(Ask::TOPIC, asks).await;
    recovering(&pipeline, "DescribeConfigs must be allowed").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    published(&stage, 0).await;
    tell(&lab, Right::SeeSettings(TOPIC), true).await;
    published(&stage, 3).await;
    eventually("nobody is in trouble", async || pipeline.is_ready()).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

/// It is made again; what was refused meanwhile comes with a release.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_is_asked_for_again() {
    let stage = Stage::new("described_anew").await;
    let topic = format!("{}.orders", stage.name);
    let write = async |n: i64| {
        let mut business = stage.postgres.outbox().begin().await.unwrap();
        let payload = format!("{{\"n\":{n}}}").into();
        business.enqueue_message(Outgoing::raw(topic.clone(), "k", Some(payload)));
        business.commit().await.unwrap();
    };
    write(1).await;
    let pipeline = strict(&stage).await;
    stage.committed_at_least(&topic, 1).await;
    witness::delete_topic(&stage.kafka_url, &topic).await;
    for n in 2..5 {
        write(n).await;
    }
    let exists = async || {
        for entry in stage.postgres.quarantine(10).await.unwrap() {
            // It may be on its way already.
            let _ = stage.postgres.release(entry.id).await;
        }
        stage
            .count(
                "SELECT (SELECT count(*) FROM tidelock.outbox) + (SELECT count(*) FROM tidelock.quarantine)",
            )
            .await
            == 0
    };
    eventually("all are published", exists).await;
    let found = stage.committed_at_least(&topic, 3).await;
    let found: Vec<i64> = found.iter().map(|record| record.json()["n"].as_i64().unwrap()).collect();
    assert_eq!(found, [2, 3, 4]);
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn a_topic_with_too_few_replicas_in_sync_is_a_mistake_in_the_settings() {
    let stage = Stage::new("described_weak").await;
    let name = format!("{}.orders", stage.name);
    witness::create_topic(&stage.kafka_url, &name, 1, &[]).await;
    let kafka = stage.kafka_with(|config| config.min_insync_replicas = Some(2));
    let ask = async |partitions: Option<i32>| {
        let spec = TopicSpec { name: name.clone(), partitions, cleanup: Cleanup::Any };
        let error = kafka.topic(&spec).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("topic {name:?} has min.insync.replicas=1, config expects 2 or more")
        );
        error.kind()
    };
    assert_eq!(ask(None).await, Kind::Config);
    assert_eq!(ask(Some(1)).await, Kind::Config);
}
