//! Rights are missing. To write to one topic: its messages go to the quarantine, and nobody else waits. Any other: what needs
//! it waits until it is given back.

use std::time::Duration;

use tidelock::{health::State, prelude::*};
use tidelock_lab::Right;

use super::{eventually, tell, with_rights};
use crate::witness::{self, Sent};

events! {
    Open: "denied.open", n => n;
    Shut: "denied.shut", n => n % 3;
    Passed: "denied.passed", n => n;
    Taken: "denied.taken", n => n;
    Besides: "denied.besides", n => n;
    Given: "denied.given", n => n;
}

/// Emits to a topic that it may write to, and to one that it may not.
struct Both;

#[async_trait]
impl Handler<Postgres> for Both {
    type Event = Open;

    async fn handle(
        &self,
        message: &Message<Open>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let n = message.event.n;
        context.emit(&Passed { n })?;
        context.emit(&Shut { n: 100 + n })?;
        Ok(Outcome::Done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_topic_wait_and_all_others_flow() {
    let (lab, stage) = with_rights("denied").await;
    for topic in [Open::TOPIC, Shut::TOPIC, Passed::TOPIC] {
        witness::create_topic(&stage.kafka_url, topic, 2, &[]).await;
    }
    tell(&lab, Right::Write(Shut::TOPIC), false).await;
    let mut business = stage.postgres.outbox().begin().await.unwrap();
    for n in 0..10 {
        business.enqueue(&Open { n }).unwrap();
        business.enqueue(&Shut { n }).unwrap();
    }
    business.commit().await.unwrap();
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .relay(RelayConfig::new(&stage.name))
        .processor(Processor::new(&stage.name).handle(Both))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    assert_eq!(stage.committed_at_least(Passed::TOPIC, 10).await.len(), 10);
    eventually("all that is refused waits", async || {
        stage.postgres.quarantine(100).await.unwrap().len() == 20
    })
    .await;
    let waiting = stage.postgres.quarantine(100).await.unwrap();
    assert!(waiting.iter().all(|entry| entry.topic == Shut::TOPIC), "{waiting:?}");
    assert!(waiting.iter().any(|entry| entry.reason.contains("right to write to topic \"denied.shut\"")));
    eventually("nobody is in trouble", async || pipeline.is_ready()).await;
    assert!(stage.committed(Shut::TOPIC).await.is_empty());

    tell(&lab, Right::Write(Shut::TOPIC), true).await;
    eventually("all are released", async || {
        for entry in stage.postgres.quarantine(100).await.unwrap() {
            if !entry.release_asked {
                // It may be on its way already.
                let _ = stage.postgres.release(entry.id).await;
            }
        }
        stage.postgres.quarantine(100).await.unwrap().is_empty()
    })
    .await;
    let mut found: Vec<i64> = stage
        .committed_at_least(Shut::TOPIC, 20)
        .await
        .iter()
        .map(|record| record.json()["n"].as_i64().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..10).chain(100..110).collect::<Vec<_>>());
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

macro_rules! handlers {
    ($($name:ident: $event:ident;)+) => {
        $(
            /// Emits what it is given.
            struct $name;

            #[async_trait]
            impl Handler<Postgres> for $name {
                type Event = $event;

                async fn handle(
                    &self,
                    message: &Message<$event>,
                    context: &mut Context<'_, Postgres>,
                ) -> Result<Outcome, BoxError> {
                    context.emit(&Given { n: message.event.n })?;
                    Ok(Outcome::Done)
                }
            }
        )+
    };
}

handlers! {
    One: Taken;
    Beside: Besides;
}

/// An operator who gives a right back need not start anything again.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_right_goes_on_when_it_is_back() {
    let (lab, stage) = with_rights("denied_for_a_while").await;
    for topic in [Taken::TOPIC, Besides::TOPIC, Given::TOPIC] {
        witness::create_topic(&stage.kafka_url, topic, 2, &[]).await;
    }
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .relay(RelayConfig::new(&stage.name))
        .processor(Processor::new(&stage.name).handle(One).handle(Beside))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    let progress: &str = format!("tidelock.{}.progress", stage.name).leak();
    // For how long, in seconds; the group's also for longer than its session.
    let rights = [
        (Right::Transact("tidelock."), 4),
        (Right::Write(progress), 4),
        (Right::Read(Taken::TOPIC), 8),
        (Right::Join(stage.name.clone().leak()), 4),
        (Right::Join(stage.name.clone().leak()), 14),
    ];
    let mut given = 0;
    for (right, seconds) in rights {
        eventually("nobody is in trouble", async || pipeline.is_ready()).await;
        tell(&lab, right, false).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut business = stage.postgres.outbox().begin().await.unwrap();
        for n in given..given + 20 {
            business.enqueue(&Taken { n }).unwrap();
        }
        business.commit().await.unwrap();
        given += 20;
        eventually("it shows", async || !pipeline.is_ready()).await;
        if right == Right::Read(Taken::TOPIC) {
            // Another topic of the same processor goes on.
            let others = [Sent { key: "k".into(), payload: "{\"n\":-1}".into(), headers: vec![] }];
            stage.write(Besides::TOPIC, others).await;
            stage.committed_at_least(Given::TOPIC, given as usize - 20 + 1).await;
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        // Whoever tries again is ready for a moment.
        eventually("it still shows", async || !pipeline.is_ready()).await;
        tell(&lab, right, true).await;
        let others = i64::from(given > 40);
        let found = stage.committed_at_least(Given::TOPIC, (given + others) as usize).await;
        let mut found: Vec<i64> = found.iter().map(|record| record.json()["n"].as_i64().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, (-others..given).collect::<Vec<_>>(), "{right:?}");
    }
    eventually("nobody is in trouble", async || pipeline.is_ready()).await;
    assert!(stage.postgres.quarantine(100).await.unwrap().is_empty());
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

/// A member hears once at most of a topic that it may not see, is given the others, and would say that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_be_seen_shows_while_others_go_on() {
    let (lab, stage) = with_rights("denied_to_see").await;
    for topic in [Taken::TOPIC, Besides::TOPIC, Given::TOPIC] {
        witness::create_topic(&stage.kafka_url, topic, 2, &[]).await;
    }
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .processor(Processor::new(&stage.name).handle(One).handle(Beside))
        .build()
        .unwrap();
    assert!(!pipeline.is_ready(), "before its start");
    pipeline.start().await.unwrap();
    eventually("at work", async || pipeline.is_ready()).await;
    let sent = |n: i64| [Sent { key: "k".into(), payload: format!("{{\"n\":{n}}}"), headers: vec![] }];
    let to_see = Right::See(Taken::TOPIC);
    tell(&lab, to_see, false).await;
    let entry = format!("processor {} topic {}", stage.name, Taken::TOPIC);
    eventually("it shows", async || {
        matches!(pipeline.health().get(&entry), Some(State::Recovering(text)) if text.contains(Taken::TOPIC))
    })
    .await;
    stage.write(Besides::TOPIC, sent(1)).await;
    stage.committed_at_least(Given::TOPIC, 1).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!pipeline.is_ready(), "it still cannot be seen: {:?}", pipeline.health());
    tell(&lab, to_see, true).await;
    stage.write(Taken::TOPIC, sent(2)).await;
    stage.committed_at_least(Given::TOPIC, 2).await;
    eventually("nobody is in trouble", async || pipeline.is_ready()).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
    assert!(!pipeline.is_ready(), "after its end");
}
