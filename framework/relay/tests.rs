//! The relay on a log that does as it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use tokio::{sync::mpsc, task::JoinHandle};

mod releases;

use super::*;
use crate::{
    database::{QuarantineEntry, sqlite::Sqlite},
    log::{
        Bounds, Commit, GroupMetadata, Handback, PartitionOffset, Producer, Received, Record, Refusal,
        Rotation, embedded::Embedded,
    },
    message::MessageId,
    outbox::Outgoing,
};

const PROGRESS: &str = "tidelock.r.progress";
const SHARD: &str = "relay r shard 0";

/// What goes wrong.
#[derive(Default)]
struct World {
    /// How a question for these topics fails.
    troubled: BTreeMap<&'static str, Kind>,
    /// These are not there.
    gone: BTreeSet<&'static str>,
    /// No producer can be had, and why.
    no_producer: Option<Kind>,
    /// Nothing is said to who wants a producer.
    stuck: bool,
    /// How long the answer takes to a question for a topic.
    takes: Duration,
    /// Every producer has one transaction.
    rotates: bool,
    /// Records of this topic are refused.
    refused: Option<&'static str>,
    /// Records of this topic are not acknowledged.
    late: Option<&'static str>,
    /// The topics that were asked for.
    asked: Vec<String>,
    /// The topics of what was committed.
    published: Vec<Arc<str>>,
    /// What the group has given last.
    assigned: Vec<Assignment>,
    /// Where the relay hears of its group.
    events: Option<mpsc::WeakUnboundedSender<ConsumerEvent>>,
}

/// The embedded log, but for what goes wrong.
#[derive(Clone)]
struct Told {
    log: Embedded,
    world: Arc<Mutex<World>>,
}

impl Told {
    fn new(world: World) -> Self {
        Self { log: Embedded::in_memory(), world: Arc::new(Mutex::new(world)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// As if the group said so.
    fn tell(&self, event: ConsumerEvent) {
        let events = self.world().events.as_ref().and_then(mpsc::WeakUnboundedSender::upgrade);
        events.unwrap().send(event).unwrap();
    }
}

struct ToldProducer {
    inner: Box<dyn Producer>,
    told: Told,
    sent: Vec<Arc<str>>,
    committed: bool,
}

#[async_trait]
impl Producer for ToldProducer {
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
        let World { late, refused, .. } = *self.told.world();
        if self.sent.iter().any(|topic| Some(&**topic) == late) {
            tokio::time::sleep(Duration::from_secs(15)).await;
            return Err(Error::new(Kind::Timeout, "too few replicas are in sync"));
        }
        let refused = self.sent.iter().enumerate().filter(|(_, topic)| Some(&***topic) == refused);
        let refusals: Vec<Refusal> =
            refused.map(|(index, _)| Refusal::new(index, "message size too large")).collect();
        if refusals.is_empty() { self.inner.acknowledged().await } else { Ok(refusals) }
    }

    async fn send_offsets(&mut self, offsets: &[PartitionOffset], group: GroupMetadata) -> Result<()> {
        self.inner.send_offsets(offsets, group).await
    }

    async fn commit(&mut self) -> Commit {
        let outcome = self.inner.commit().await;
        if matches!(outcome, Commit::Committed) {
            self.committed = true;
            self.told.world().published.append(&mut self.sent);
        }
        outcome
    }

    async fn abort(&mut self) {
        self.inner.abort().await;
    }

    fn must_rotate(&self) -> Option<Rotation> {
        let rotates = self.committed && self.told.world().rotates;
        self.inner.must_rotate().or(rotates.then_some(Rotation::SlowCommit))
    }
}

#[async_trait]
impl Log for Told {
    async fn check(&self) -> Result<()> {
        self.log.check().await
    }

    async fn topic(&self, spec: &TopicSpec) -> Result<i32> {
        let (trouble, takes) = {
            let mut world = self.world();
            world.asked.push(spec.name.clone());
            (world.troubled.get(&*spec.name).copied(), world.takes)
        };
        tokio::time::sleep(takes).await;
        match trouble {
            Some(kind) => Err(Error::new(kind, format!("something is wrong with {}", spec.name))),
            None => self.log.topic(spec).await,
        }
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        if self.world().stuck {
            std::future::pending::<()>().await;
        }
        if let Some(kind) = self.world().no_producer {
            return Err(Error::new(kind, "no coordinator"));
        }
        let inner = self.log.producer(transactional_id).await?;
        Ok(Box::new(ToldProducer { inner, told: self.clone(), sent: Vec::new(), committed: false }))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        let (consumer, mut events) = self.log.consumer(subscription).await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.world().events = Some(sender.downgrade());
        let told = self.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let ConsumerEvent::Assigned(partitions) = &event {
                    told.world().assigned.clone_from(partitions);
                }
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok((consumer, receiver.into()))
    }

    async fn last_record(&self, topic: &str, partition: i32) -> Result<Option<Received>> {
        self.log.last_record(topic, partition).await
    }

    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        self.log.bounds(topic, partition).await
    }

    async fn topic_id(&self, topic: &str) -> Result<Option<String>> {
        match self.world().gone.contains(topic) {
            true => Err(Error::new(Kind::Unavailable, "there is no such topic")),
            false => Ok(Some("the first one".to_owned())),
        }
    }
}

/// A relay with its database.
struct Stage {
    told: Told,
    database: Sqlite,
    health: Health,
    stop: CancellationToken,
    running: JoinHandle<Result<()>>,
}

impl Stage {
    /// With a row for each of these topics, committed before the start.
    async fn start(world: World, topics: &[&'static str]) -> Self {
        let told = Told::new(world);
        let database = Sqlite::in_memory().await.unwrap().inline();
        database.migrate().await.unwrap();
        enqueue(&database, topics).await;
        let (health, stop) = (Health::default(), CancellationToken::new());
        let log = Arc::new(told.clone());
        let relay = Relay::new(log, database.clone(), RelayConfig::new("r"), None, health.clone()).unwrap();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { relay.run(stop).await }
        });
        Self { told, database, health, stop, running }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.told.world()
    }

    async fn enqueue(&self, topic: &'static str) {
        enqueue(&self.database, &[topic]).await;
    }

    /// How often the topic was asked for.
    fn asked(&self, topic: &str) -> usize {
        self.world().asked.iter().filter(|asked| *asked == topic).count()
    }

    async fn published(&self, topic: &str, count: usize) {
        let published = || self.world().published.iter().filter(|each| &***each == topic).count();
        self.until("published", || published() >= count).await;
        assert_eq!(published(), count);
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..6_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: not within a minute, {:?}", self.health.report());
    }

    fn state(&self) -> Option<State> {
        self.health.report().remove(SHARD)
    }

    async fn ready(&self) {
        self.until("ready", || self.state() == Some(State::Ready)).await;
    }

    async fn recovering(&self, why: &str) {
        let recovering = || matches!(self.state(), Some(State::Recovering(text)) if text.contains(why));
        self.until(why, recovering).await;
    }

    /// Looks for a minute.
    async fn never_ready(&self) {
        for _ in 0..1_200 {
            assert_ne!(self.state(), Some(State::Ready));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn quarantined(&self, count: usize) -> Vec<QuarantineEntry> {
        for _ in 0..6_000 {
            let entries = self.database.quarantine(10).await.unwrap();
            if entries.len() == count {
                return entries;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} in the quarantine: not within a minute, {:?}", self.health.report());
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        assert!(self.health.report().is_empty(), "{:?}", self.health.report());
    }
}

/// A row for each of these topics, in one transaction.
async fn enqueue(database: &Sqlite, topics: &[&'static str]) {
    let mut business = database.outbox().begin().await.unwrap();
    for topic in topics {
        business.enqueue_message(Outgoing::raw(*topic, "k", None));
    }
    business.commit().await.unwrap();
}

fn of(entries: &[QuarantineEntry], topic: &str) -> MessageId {
    entries.iter().find(|entry| entry.topic == topic).unwrap().id
}

#[tokio::test(start_paused = true)]
async fn a_rotation_asks_for_no_topic_again() {
    let stage = Stage::start(World { rotates: true, ..World::default() }, &["orders"]).await;
    stage.published("orders", 1).await;
    stage.world().troubled.insert("orders", Kind::Config);
    for count in 2..5 {
        stage.enqueue("orders").await;
        stage.published("orders", count).await;
    }
    assert_eq!(stage.asked("orders"), 1);
    assert!(stage.world().published.iter().filter(|each| &***each == PROGRESS).count() >= 4);
    stage.end().await;
}

/// Without the right to see its settings, say.
#[tokio::test(start_paused = true)]
async fn a_failure_asks_only_whether_a_known_topic_is_still_there() {
    let stage = Stage::start(World::default(), &["orders"]).await;
    stage.published("orders", 1).await;
    let fail = async || {
        stage.world().late = Some("orders");
        stage.enqueue("orders").await;
        stage.recovering("in sync").await;
        stage.world().late = None;
    };
    stage.world().troubled.insert("orders", Kind::Config);
    fail().await;
    stage.published("orders", 2).await;
    assert_eq!(stage.asked("orders"), 1);
    // It is made anew.
    stage.world().troubled.clear();
    stage.world().gone.insert("orders");
    fail().await;
    stage.published("orders", 3).await;
    assert!(stage.asked("orders") > 1);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_may_not_be_looked_at_is_waited_for() {
    for kind in [Kind::Denied, Kind::Unavailable] {
        let world = World { troubled: [("shut", kind)].into(), ..World::default() };
        let stage = Stage::start(world, &["open", "shut", "open"]).await;
        stage.published("open", 1).await;
        stage.recovering("something is wrong with shut").await;
        stage.never_ready().await;
        stage.quarantined(0).await;
        stage.published("open", 1).await;
        stage.world().troubled.clear();
        stage.published("shut", 1).await;
        stage.published("open", 2).await;
        stage.ready().await;
        stage.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_remembered_until_somebody_says_that_its_reason_is_gone() {
    let told = Told::new(World { troubled: [("orders", Kind::Config)].into(), ..World::default() });
    let mut topics = KnownTopics::new(Arc::new(told.clone()));
    let refused = Some("something is wrong with orders".to_owned());
    assert_eq!(topics.refusal(&"orders".into()).await.unwrap(), refused);
    told.world().troubled.clear();
    assert_eq!(topics.refusal(&"orders".into()).await.unwrap(), refused);
    topics.ask_again();
    assert_eq!(topics.refusal(&"orders".into()).await.unwrap(), None);
}

/// All else that is published waits while the log is asked.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_took_long_to_learn_is_remembered_longer() {
    let takes = Duration::from_secs(10);
    let told = Told::new(World { troubled: [("orders", Kind::Config)].into(), takes, ..World::default() });
    let mut topics = KnownTopics::new(Arc::new(told));
    let orders = "orders".into();
    topics.refusal(&orders).await.unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        assert!(topics.refusal(&orders).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() <= Duration::from_secs(100 + 20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_known_topic_is_not_forgotten_for_one_question_without_an_answer() {
    let told = Told::new(World::default());
    let mut topics = KnownTopics::new(Arc::new(told.clone()));
    let orders = "orders".into();
    assert_eq!(topics.refusal(&orders).await.unwrap(), None);
    topics.doubt();
    told.world().troubled.insert("orders", Kind::Config);
    told.world().gone.insert("orders");
    let answers = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        told.world().gone.clear();
    };
    let (refusal, ()) = tokio::join!(topics.refusal(&orders), answers);
    assert_eq!(refusal.unwrap(), None);
}

/// Its members hear at most once that it is gone.
#[tokio::test(start_paused = true)]
async fn a_relay_whose_positions_cannot_be_seen_is_not_ready() {
    let stage = Stage::start(World::default(), &["orders"]).await;
    stage.published("orders", 1).await;
    stage.ready().await;
    assert!(stage.health.is_ready());
    stage.world().gone.insert(PROGRESS);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(!stage.health.is_ready(), "{:?}", stage.health.report());
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_on_the_board_of_a_shard_that_does_not_end() {
    let stage = Stage::start(World { stuck: true, ..World::default() }, &[]).await;
    stage.until("started", || stage.state() == Some(State::Starting)).await;
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_publishes_nothing_is_not_ready() {
    let stage = Stage::start(World { late: Some("orders"), ..World::default() }, &["orders"; 3]).await;
    stage.never_ready().await;
    stage.recovering("in sync").await;
    stage.world().late = None;
    stage.published("orders", 3).await;
    stage.ready().await;
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_has_nothing_to_publish_is_ready() {
    let stage = Stage::start(World { no_producer: Some(Kind::Unavailable), ..World::default() }, &[]).await;
    stage.recovering("no coordinator").await;
    stage.never_ready().await;
    stage.world().no_producer = None;
    stage.ready().await;
    stage.end().await;
}

/// Brokers that know something no more for a moment answer as if it were a mistake.
#[tokio::test(start_paused = true)]
async fn a_shard_that_a_setting_has_stopped_looks_again() {
    let world = World { no_producer: Some(Kind::Config), ..World::default() };
    let stage = Stage::start(world, &["orders"]).await;
    let failed = State::Failed("no coordinator".to_owned());
    stage.until("failed", || stage.state().as_ref() == Some(&failed)).await;
    stage.world().no_producer = None;
    stage.published("orders", 1).await;
    stage.ready().await;
    stage.end().await;
}

/// Whether it ever gets any again, the group says.
#[tokio::test(start_paused = true)]
async fn a_relay_whose_shards_were_all_taken_away_is_not_ready() {
    let stage = Stage::start(World::default(), &["orders"]).await;
    stage.published("orders", 1).await;
    stage.ready().await;
    assert!(stage.health.is_ready());
    let partitions = stage.world().assigned.clone();
    stage.told.tell(ConsumerEvent::Revoked { partitions, lost: false, handback: Handback::new(()) });
    let relay = || stage.health.report().remove("relay r");
    stage.until("recovering", || matches!(relay(), Some(State::Recovering(_)))).await;
    // Another instance has them all.
    stage.told.tell(ConsumerEvent::Assigned(Vec::new()));
    stage.until("ready", || stage.health.is_ready()).await;
    stage.end().await;
}

/// The limit of its topic may be raised again.
#[tokio::test(start_paused = true)]
async fn a_refused_position_is_tried_again() {
    let stage = Stage::start(World::default(), &["orders"]).await;
    stage.published("orders", 1).await;
    stage.world().refused = Some(PROGRESS);
    stage.enqueue("orders").await;
    stage.recovering("the position was refused: message size too large").await;
    stage.never_ready().await;
    stage.world().refused = None;
    stage.published("orders", 2).await;
    stage.ready().await;
    stage.end().await;
}
