//! A whole pipeline on the embedded log: the framework cannot tell it from Kafka.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tidelock::{
    database::NoDatabase,
    error::Kind,
    log::{
        Assignor, Cleanup, ConsumerEvent, Log, Record,
        embedded::{Call, Client, Embedded, Fault},
    },
    prelude::*,
};

use super::{Member, durable::Folder, publish, record, topic};

#[derive(Serialize, Deserialize)]
pub(super) struct Number {
    pub(super) n: i64,
}

impl Event for Number {
    const TYPE: &'static str = "Number";
    const TOPIC: &'static str = "numbers";

    fn key(&self) -> Key {
        (self.n % 7).into()
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Double {
    pub(super) n: i64,
}

impl Event for Double {
    const TYPE: &'static str = "Double";
    const TOPIC: &'static str = "doubles";

    fn key(&self) -> Key {
        (self.n / 2 % 7).into()
    }
}

pub(super) struct Doubler;

#[async_trait]
impl Handler<NoDatabase> for Doubler {
    type Event = Number;

    async fn handle(
        &self,
        message: &Message<Number>,
        context: &mut Context<'_, NoDatabase>,
    ) -> Result<Outcome, BoxError> {
        context.emit(&Double { n: message.event.n * 2 })?;
        if message.event.n % 10 == 0 && message.attempt == 1 {
            return Err("not yet".into());
        }
        Ok(Outcome::Done)
    }
}

async fn started(log: Client) -> Pipeline {
    let pipeline = Pipeline::builder(log, NoDatabase)
        .processor(Processor::new("doubler").handle(Doubler))
        .build()
        .expect("settings");
    pipeline.start().await.expect("started");
    pipeline
}

/// The numbers in `doubles` by key, once there are so many.
async fn doubles(log: &Embedded, count: usize) -> BTreeMap<Vec<u8>, Vec<i64>> {
    by_key(log, Double::TOPIC, count).await
}

/// The numbers in a topic by key, once there are so many.
pub(super) async fn by_key(log: &Embedded, topic: &str, count: usize) -> BTreeMap<Vec<u8>, Vec<i64>> {
    let mut reader = Member::join(log, "reader", topic, Assignor::Eager).await;
    for assignment in reader.assigned().await {
        reader.consumer.start(&assignment, 0).await.expect("start");
    }
    let (mut found, mut by_key) = (0, BTreeMap::<_, Vec<_>>::new());
    while found < count {
        let ConsumerEvent::Records { records, .. } = reader.event().await else { panic!("expected records") };
        for each in records {
            let number: Number = serde_json::from_slice(&each.payload.expect("payload")).expect("json");
            by_key.entry(each.key.expect("key").to_vec()).or_default().push(number.n);
            found += 1;
        }
    }
    let more = tokio::time::timeout(Duration::from_millis(500), reader.events.recv()).await;
    assert!(more.is_err(), "{more:?}");
    reader.close().await;
    by_key
}

fn number(n: i64) -> Record {
    let key = Number { n }.key();
    Record { partition: None, key: key.into(), ..record(Number::TOPIC, 0, format!("{{\"n\":{n}}}")) }
}

pub(super) async fn feed(log: &Embedded, numbers: std::ops::RangeInclusive<i64>) {
    let mut producer = log.producer("feeder").await.expect("producer");
    for n in numbers {
        publish(&mut *producer, vec![number(n)]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn expected(count: i64) -> BTreeMap<Vec<u8>, Vec<i64>> {
    let of = |key| (1..=count).filter(|n| n % 7 == key).map(|n| n * 2).collect();
    (0..7).map(|key: i64| (key.to_string().into_bytes(), of(key))).collect()
}

#[tokio::test(start_paused = true)]
async fn every_number_is_doubled_once_though_one_instance_dies_and_another_stands_still() {
    let random = std::sync::Mutex::new(fastrand::Rng::with_seed(7));
    let log = Embedded::in_memory().with_faults(move |call: &Call<'_>| {
        if !call.client.starts_with("service") {
            return Fault::None;
        }
        match random.lock().unwrap().u32(0..200) {
            0..4 => Fault::LoseAnswer,
            4..8 => Fault::LoseRequest,
            8..10 => Fault::AbortTransaction,
            10..20 => Fault::Delay(Duration::from_millis(500)),
            _ => Fault::None,
        }
    });
    topic(&log, Number::TOPIC, 3, Cleanup::Any).await;
    topic(&log, Double::TOPIC, 3, Cleanup::Any).await;
    let clients = [1, 2, 3].map(|number| log.client(&format!("service {number}")));
    let mut pipelines = Vec::new();
    for client in &clients {
        pipelines.push(started(client.clone()).await);
    }
    feed(&log, 1..=100).await;
    clients[0].kill();
    clients[1].freeze();
    feed(&log, 101..=300).await;
    clients[1].thaw();
    feed(&log, 301..=400).await;
    assert_eq!(doubles(&log, 400).await, expected(400));
    for (client, pipeline) in clients.iter().zip(pipelines).skip(1) {
        assert!(!client.is_killed());
        pipeline.stop(Duration::from_secs(20)).await.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_goes_on_where_it_was_when_the_file_is_opened_again() {
    let folder = Folder::new();
    for round in 0..3 {
        let log = folder.open().await;
        topic(&log, Number::TOPIC, 3, Cleanup::Any).await;
        topic(&log, Double::TOPIC, 3, Cleanup::Any).await;
        let pipelines = [started(log.client("one")).await, started(log.client("two")).await];
        let mut producer = log.producer("feeder").await.expect("producer");
        publish(&mut *producer, (round * 500 + 1..=(round + 1) * 500).map(number).collect()).await;
        let count = (round + 1) * 500;
        assert_eq!(doubles(&log, count as usize).await, expected(count));
        for pipeline in pipelines {
            pipeline.stop(Duration::from_secs(20)).await.expect("stopped");
        }
        log.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_pipeline_that_did_not_stop_in_time_is_not_ready() {
    let log = Embedded::in_memory();
    topic(&log, Number::TOPIC, 3, Cleanup::Any).await;
    let client = log.client("one");
    let pipeline = started(client.clone()).await;
    pipeline.ready().await;
    client.freeze();
    let failure = pipeline.stop(Duration::from_millis(100)).await.expect_err("it is frozen");
    assert_eq!(failure.kind(), Kind::Timeout);
    assert!(!pipeline.is_ready() && pipeline.health().is_empty(), "{:?}", pipeline.health());
}
