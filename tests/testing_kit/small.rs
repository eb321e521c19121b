//! The small tools.

use std::time::Duration;

use tidelock::{
    log::{
        Assignor, Log, Subscription,
        embedded::{Embedded, Operation},
    },
    testing::{End, Recording, Scripted, eventually, within},
};

use super::*;

#[tokio::test]
async fn a_scripted_handler_and_a_recording_log() {
    let log = Recording::new(Embedded::in_memory());
    let database = fresh().await.unwrap();
    let handler = Scripted::<Deposit>::new([Err("not yet".into()), Ok(Outcome::Skip)]);
    let pipeline = Pipeline::builder(log.clone(), database.clone())
        .relay(RelayConfig::new("bank"))
        .processor(Processor::new("bank").handle(handler.clone()))
        .build()
        .unwrap();
    let spec = |name: &str| tidelock::log::TopicSpec {
        name: name.to_owned(),
        partitions: Some(1),
        cleanup: tidelock::log::Cleanup::Any,
    };
    log.topic(&spec(Deposit::TOPIC)).await.unwrap();
    pipeline.start().await.unwrap();
    let mut transaction = database.outbox().begin().await.unwrap();
    for each in &deposits()[..2] {
        transaction.enqueue(each).unwrap();
    }
    transaction.commit().await.unwrap();
    let mut last = 0;
    eventually("both deposits are handled and committed", async || {
        last = handler.seen().len();
        let handled = |each: &tidelock::testing::Transaction| {
            each.end == End::Committed && each.offsets.iter().any(|place| &*place.topic == Deposit::TOPIC)
        };
        last >= 3 && log.transactions().iter().any(|each| handled(each) && each.offsets[0].offset >= 2)
    })
    .await;
    pipeline.stop(Duration::from_secs(5)).await.unwrap();
    let seen = handler.seen();
    assert_eq!(seen[0].event, deposits()[0]);
    assert_eq!((seen[0].attempt, seen[1].attempt), (1, 2));
    let sent: Vec<Deposit> = log
        .committed()
        .iter()
        .filter(|record| &*record.topic == Deposit::TOPIC)
        .map(|record| serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap())
        .collect();
    assert_eq!(sent, deposits()[..2]);
    let calls = log.calls();
    assert!(calls.contains(&(Operation::Join, "bank".to_owned())), "{calls:?}");
    assert!(calls.iter().any(|(operation, _)| *operation == Operation::SendOffsets), "{calls:?}");
    let subscription = Subscription {
        group: "other".to_owned(),
        topics: vec![Deposit::TOPIC.to_owned()],
        instance: None,
        assignor: Assignor::Eager,
    };
    log.consumer(&subscription).await.unwrap().0.close().await;
    assert_eq!(log.calls().last().unwrap(), &(Operation::Join, "other".to_owned()));
}

#[tokio::test]
async fn who_waits_in_vain_is_named() {
    let line = line!() + 1;
    let waiting = tokio::spawn(within(Duration::from_millis(20), "the tide turns", async || false));
    let panic = waiting.await.unwrap_err().into_panic();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(
        text.contains("not within 20ms: the tide turns, waited for at tests/testing_kit/small.rs"),
        "{text}"
    );
    assert!(text.contains(&format!("small.rs:{line}:")), "{text}");
}
