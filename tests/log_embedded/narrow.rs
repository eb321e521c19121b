//! A log that cannot take much within the time of a transaction: what is there gets through in smaller parts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidelock::{
    database::sqlite::Sqlite,
    error::{Error, Kind, Result},
    log::{
        Bounds, Cleanup, Commit, Consumer, ConsumerEvents, GroupMetadata, Log, PartitionOffset, Producer,
        Received, Record, Refusal, Rotation, Subscription, TopicSpec, embedded::Embedded,
    },
    prelude::*,
};

use super::{
    pipeline::{Double, Number, by_key},
    topic,
};

/// No transaction of more records than this is ever acknowledged.
#[derive(Clone)]
pub(super) struct Narrow {
    log: Arc<dyn Log>,
    most: usize,
    late: Arc<AtomicUsize>,
    /// Of this topic everything is refused for good.
    refuses: Arc<Mutex<Option<&'static str>>>,
}

impl Narrow {
    pub(super) fn new(log: impl Log, most: usize) -> Self {
        Self { log: Arc::new(log), most, late: Arc::default(), refuses: Arc::default() }
    }

    pub(super) fn refuses(&self, topic: impl Into<Option<&'static str>>) {
        *self.refuses.lock().unwrap() = topic.into();
    }
}

struct NarrowProducer {
    inner: Box<dyn Producer>,
    log: Narrow,
    sent: Vec<Arc<str>>,
}

#[async_trait]
impl Producer for NarrowProducer {
    fn transactional_id(&self) -> &str {
        self.inner.transactional_id()
    }

    async fn begin(&mut self) -> Result<()> {
        self.sent.clear();
        self.inner.begin().await
    }

    async fn send(&mut self, records: Vec<Record>) -> Result<()> {
        self.sent.extend(records.iter().map(|record| record.topic.clone()));
        self.inner.send(records).await
    }

    async fn acknowledged(&mut self) -> Result<Vec<Refusal>> {
        let refused = *self.log.refuses.lock().unwrap();
        let refused = self.sent.iter().enumerate().filter(|(_, topic)| Some(&***topic) == refused);
        let refusals: Vec<Refusal> =
            refused.map(|(index, topic)| Refusal::new(index, topic.to_string())).collect();
        if !refusals.is_empty() {
            return Ok(refusals);
        }
        if self.sent.len() > self.log.most {
            self.log.late.fetch_add(1, Ordering::Relaxed);
            let what = format!("{} records were not acknowledged", self.sent.len());
            return Err(Error::new(Kind::Timeout, what));
        }
        self.inner.acknowledged().await
    }

    async fn send_offsets(&mut self, offsets: &[PartitionOffset], group: GroupMetadata) -> Result<()> {
        self.inner.send_offsets(offsets, group).await
    }

    async fn commit(&mut self) -> Commit {
        self.inner.commit().await
    }

    async fn abort(&mut self) {
        self.inner.abort().await;
    }

    fn must_rotate(&self) -> Option<Rotation> {
        self.inner.must_rotate()
    }
}

#[async_trait]
impl Log for Narrow {
    async fn check(&self) -> Result<()> {
        self.log.check().await
    }

    async fn topic(&self, spec: &TopicSpec) -> Result<i32> {
        self.log.topic(spec).await
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        let inner = self.log.producer(transactional_id).await?;
        Ok(Box::new(NarrowProducer { inner, log: self.clone(), sent: Vec::new() }))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        self.log.consumer(subscription).await
    }

    async fn last_record(&self, topic: &str, partition: i32) -> Result<Option<Received>> {
        self.log.last_record(topic, partition).await
    }

    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        self.log.bounds(topic, partition).await
    }

    async fn topic_id(&self, topic: &str) -> Result<Option<String>> {
        self.log.topic_id(topic).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_gets_through_it() {
    let log = Embedded::in_memory();
    let database = Sqlite::in_memory().await.unwrap();
    database.migrate().await.unwrap();
    topic(&log, Number::TOPIC, 6, Cleanup::Any).await;
    for n in 1..=300 {
        let mut business = database.outbox().begin().await.unwrap();
        business.enqueue(&Number { n }).unwrap();
        business.commit().await.unwrap();
    }
    // The position is a record, too.
    let narrow = Narrow::new(log.clone(), 10 + 1);
    let pipeline =
        Pipeline::builder(narrow.clone(), database).relay(RelayConfig::new("narrow")).build().unwrap();
    pipeline.start().await.unwrap();
    let found = tokio::time::timeout(Duration::from_secs(60), by_key(&log, Number::TOPIC, 300)).await;
    let expected = |key| (1..=300).filter(|n| n % 7 == key).collect();
    assert_eq!(
        found.expect("it is stuck"),
        (0..7).map(|key: i64| (key.to_string().into(), expected(key))).collect()
    );
    assert!(narrow.late.load(Ordering::Relaxed) > 0, "nothing was too much");
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_and_what_is_new_get_through_it() {
    let log = Embedded::in_memory();
    let database = Sqlite::in_memory().await.unwrap();
    database.migrate().await.unwrap();
    for name in [Number::TOPIC, Double::TOPIC] {
        topic(&log, name, 6, Cleanup::Any).await;
    }
    let enqueue = async |numbers: i64, doubles: i64| {
        let mut business = database.outbox().begin().await.unwrap();
        for n in 1..=numbers {
            business.enqueue(&Number { n }).unwrap();
        }
        for n in 1..=doubles {
            business.enqueue(&Double { n: 2 * n }).unwrap();
        }
        business.commit().await.unwrap();
    };
    let narrow = Narrow::new(log.clone(), 10 + 1);
    narrow.refuses(Number::TOPIC);
    let pipeline = Pipeline::builder(narrow.clone(), database.clone())
        .relay(RelayConfig::new("narrow"))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    enqueue(100, 0).await;
    let quarantined = async |count: usize| {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let entries = database.quarantine(200).await.unwrap();
            if entries.len() == count {
                return entries;
            }
            assert!(tokio::time::Instant::now() < until, "{} instead of {count}", entries.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let entries = quarantined(100).await;
    narrow.refuses(None);
    for entry in entries.iter().take(7) {
        database.release(entry.id).await.unwrap();
    }
    enqueue(0, 300).await;
    let (numbers, doubles) = tokio::time::timeout(Duration::from_secs(60), async {
        (by_key(&log, Number::TOPIC, 100).await, by_key(&log, Double::TOPIC, 300).await)
    })
    .await
    .expect("it is stuck");
    let expected = |of: std::ops::RangeInclusive<i64>, key, times| {
        of.filter(|n| n % 7 == key).map(|n| n * times).collect::<Vec<_>>()
    };
    assert_eq!(numbers, (0..7).map(|key: i64| (key.to_string().into(), expected(1..=100, key, 1))).collect());
    assert_eq!(doubles, (0..7).map(|key: i64| (key.to_string().into(), expected(1..=300, key, 2))).collect());
    assert!(narrow.late.load(Ordering::Relaxed) > 0, "nothing was too much");
    quarantined(0).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}
