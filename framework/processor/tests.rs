//! The membership of a processor, on a log that does as it is told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

mod owners;
mod topics;

use super::{
    committer::{MAX_OUTPUTS, Verdict},
    *,
};
use crate::{
    database::NoDatabase,
    error::BoxError,
    event::Event,
    handler::{Context, Outcome},
    log::{
        Bounds, Commit, ConsumerEvents, GroupMetadata, Handback, KnownTopics, PartitionOffset, Producer,
        Received, Record, Refusal, Rotation,
    },
    message::{Headers, Key, Message},
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// Nothing is ever committed, and no record is to blame.
    NeverCommits,
    /// The same, once.
    FirstNotCommitted,
    /// The same, with the second one.
    SecondNotCommitted,
    CommitterPanics,
    WorkerPanics,
    /// The first two questions after the start are answered as if there were no topic.
    LateTopic,
    NoTopic,
    /// The topic has another id from the second question on.
    Recreated,
    /// The question for the topic's id is answered once, and never again.
    NoId,
    /// The second transaction is not committed, and from then on the log does not tell the group's position.
    Unstable,
    /// The log never tells the group's position.
    NeverStable,
}

struct World {
    trouble: Trouble,
    events: Mutex<Option<mpsc::UnboundedSender<ConsumerEvent>>>,
    looks: AtomicUsize,
    starts: AtomicUsize,
    begins: AtomicUsize,
    /// How many partitions each transaction had.
    together: Mutex<Vec<usize>>,
    /// The offset that was sent last with each transaction.
    committed: Mutex<Vec<i64>>,
    topics: AtomicUsize,
    ids: AtomicUsize,
    /// Whose transactional ids were initialised.
    producers: Mutex<Vec<String>>,
}

/// Log, producer and consumer in one.
#[derive(Clone)]
struct Told(Arc<World>);

impl Told {
    fn new(trouble: Trouble) -> Self {
        Self(Arc::new(World {
            trouble,
            events: Mutex::default(),
            looks: AtomicUsize::new(0),
            starts: AtomicUsize::new(0),
            begins: AtomicUsize::new(0),
            together: Mutex::default(),
            committed: Mutex::default(),
            topics: AtomicUsize::new(0),
            ids: AtomicUsize::new(0),
            producers: Mutex::default(),
        }))
    }

    fn tell(&self, event: ConsumerEvent) {
        self.0.events.lock().unwrap().as_ref().unwrap().send(event).unwrap();
    }

    fn runner<D: Database>(&self, database: D, health: Health) -> Runner<D> {
        let processor = Processor::new("group").handle(Idle);
        let quick = ProcessorConfig {
            retry_first: Duration::from_millis(50),
            retry_most: Duration::from_millis(50),
            ..ProcessorConfig::default()
        };
        processor.into_runner(Arc::new(self.clone()), database, &quick, None, health)
    }
}

fn at() -> Assignment {
    Assignment { topic: "topic".into(), partition: 0, epoch: 1 }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: not within 5 s");
}

#[async_trait]
impl Log for Told {
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn topic(&self, _: &TopicSpec) -> Result<i32> {
        match (self.0.trouble, self.0.topics.fetch_add(1, Ordering::SeqCst)) {
            (Trouble::LateTopic, 1..3) | (Trouble::NoTopic, _) => {
                Err(Error::new(Kind::Config, "there is no such topic"))
            }
            _ => Ok(1),
        }
    }

    async fn producer(&self, id: &str) -> Result<Box<dyn Producer>> {
        self.0.producers.lock().unwrap().push(id.to_owned());
        Ok(Box::new(self.clone()))
    }

    async fn consumer(&self, _: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.events.lock().unwrap() = Some(sender);
        Ok((Arc::new(self.clone()), receiver.into()))
    }

    async fn last_record(&self, _: &str, _: i32) -> Result<Option<Received>> {
        Ok(None)
    }

    async fn topic_id(&self, _: &str) -> Result<Option<String>> {
        match (self.0.trouble, self.0.ids.fetch_add(1, Ordering::SeqCst)) {
            (Trouble::Recreated, 1..) => Ok(Some("second".to_owned())),
            (Trouble::NoId, 1..) => Err(Error::new(Kind::Timeout, "nobody answers")),
            _ => Ok(Some("first".to_owned())),
        }
    }

    async fn bounds(&self, _: &str, _: i32) -> Result<Bounds> {
        Ok(Bounds { start: 0, end: 0 })
    }
}

#[async_trait]
impl Producer for Told {
    fn transactional_id(&self) -> &str {
        "told"
    }

    async fn begin(&mut self) -> Result<()> {
        self.0.begins.fetch_add(1, Ordering::SeqCst);
        assert_ne!(self.0.trouble, Trouble::CommitterPanics, "in a transaction");
        Ok(())
    }

    async fn send(&mut self, _: Vec<Record>) -> Result<()> {
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<Vec<Refusal>> {
        Ok(Vec::new())
    }

    async fn send_offsets(&mut self, offsets: &[PartitionOffset], _: GroupMetadata) -> Result<()> {
        self.0.together.lock().unwrap().push(offsets.len());
        self.0.committed.lock().unwrap().extend(offsets.last().map(|last| last.offset));
        Ok(())
    }

    async fn commit(&mut self) -> Commit {
        match self.0.trouble {
            Trouble::NeverCommits => Commit::Aborted(Error::new(Kind::Config, "not authorised")),
            Trouble::SecondNotCommitted | Trouble::Unstable if self.0.begins.load(Ordering::SeqCst) == 2 => {
                Commit::Aborted(Error::new(Kind::Timeout, "too slow"))
            }
            Trouble::FirstNotCommitted if self.0.begins.load(Ordering::SeqCst) == 1 => {
                Commit::Aborted(Error::new(Kind::Timeout, "too much at once"))
            }
            _ => Commit::Committed,
        }
    }

    async fn abort(&mut self) {}

    fn must_rotate(&self) -> Option<Rotation> {
        None
    }
}

#[async_trait]
impl Consumer for Told {
    fn holds(&self, _: &Assignment) -> bool {
        true
    }

    async fn committed(&self, _: &Assignment) -> Result<Option<i64>> {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        assert_ne!(self.0.trouble, Trouble::WorkerPanics, "in a worker");
        let kept_back = match self.0.trouble {
            Trouble::Unstable => self.0.begins.load(Ordering::SeqCst) >= 2,
            trouble => trouble == Trouble::NeverStable,
        };
        if kept_back {
            tokio::time::sleep(Duration::from_millis(10)).await;
            return Err(Error::new(Kind::Timeout, "the position is not stable"));
        }
        Ok(None)
    }

    async fn start(&self, _: &Assignment, _: i64) -> Result<u64> {
        self.0.starts.fetch_add(1, Ordering::SeqCst);
        Ok(1)
    }

    fn pause(&self, _: &Assignment) -> Result<()> {
        Ok(())
    }

    fn resume(&self, _: &Assignment) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, _: &[Assignment]) -> Result<GroupMetadata> {
        Ok(GroupMetadata(Box::new(())))
    }

    async fn close(&self) {
        *self.0.events.lock().unwrap() = None;
    }
}

/// A number, or nothing.
#[derive(serde::Serialize, serde::Deserialize)]
struct Nothing(Option<u32>);

impl Event for Nothing {
    const TYPE: &'static str = "Nothing";
    const TOPIC: &'static str = "topic";

    fn key(&self) -> Key {
        Key::NONE
    }
}

/// Does nothing. The first time that it is given a number, it waits for what never comes.
struct Idle;

#[async_trait]
impl<D: Database> Handler<D> for Idle {
    type Event = Nothing;

    async fn handle(&self, message: &Message<Nothing>, _: &mut Context<'_, D>) -> Result<Outcome, BoxError> {
        if message.event.0.is_some() && message.attempt == 1 {
            std::future::pending::<()>().await;
        }
        Ok(Outcome::Done)
    }
}

/// A member of its own that holds a partition.
struct Member {
    told: Told,
    health: Health,
    stop: CancellationToken,
    running: JoinHandle<Result<()>>,
}

impl Member {
    /// It has begun to read.
    async fn reading(trouble: Trouble) -> Self {
        let member = Self::start(trouble).await;
        until("started", || member.starts() == 1).await;
        member
    }

    async fn start(trouble: Trouble) -> Self {
        Self::over(NoDatabase, trouble).await
    }

    async fn over(database: impl Database, trouble: Trouble) -> Self {
        let (told, stop, health) = (Told::new(trouble), CancellationToken::new(), Health::default());
        let (runner, stopped) = (told.runner(database, health.clone()), stop.clone());
        let running = tokio::spawn(async move { runner.run(stopped).await });
        until("joined", || told.0.events.lock().unwrap().is_some()).await;
        told.tell(ConsumerEvent::Assigned(vec![at()]));
        Self { told, health, stop, running }
    }

    fn tell(&self, event: ConsumerEvent) {
        self.told.tell(event);
    }

    /// How often it began to read.
    fn starts(&self) -> usize {
        self.told.0.starts.load(Ordering::SeqCst)
    }

    /// How many transactions it began, the one after its start included.
    fn begins(&self) -> usize {
        self.told.0.begins.load(Ordering::SeqCst)
    }

    fn state(&self) -> Option<State> {
        self.health.report().remove("processor group topic[0]")
    }

    async fn seen(&self, holds: impl Fn(&State) -> bool) {
        until("seen", || self.state().as_ref().is_some_and(&holds)).await;
    }

    /// Its topic is another one, and health says so.
    async fn sees_another_topic(&self) {
        let says = |text: &str| text.contains("second") && text.contains("first");
        self.seen(|state| matches!(state, State::Failed(text) if says(text))).await;
    }

    async fn end(self) -> Health {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        self.health
    }
}

/// What the first worker submitted may still wait at the committer: a second one would submit it again.
#[tokio::test]
async fn a_partition_that_cannot_be_read_gets_no_second_worker_under_its_assignment() {
    let member = Member::reading(Trouble::None).await;
    member.tell(ConsumerEvent::Failed(at(), Error::new(Kind::Unavailable, "past its queue")));
    until("asked to join again", || member.starts() == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(member.told.0.looks.load(Ordering::SeqCst), 1, "a second worker took over");
    assert_eq!(member.state(), Some(State::Recovering("past its queue".to_owned())));
    // Whoever has the partition next says how it is.
    member.tell(ConsumerEvent::Fatal(Error::new(Kind::Fenced, "by another member")));
    assert_eq!(member.running.await.unwrap().unwrap_err().kind(), Kind::Fenced);
    assert!(member.health.report().is_empty(), "{:?}", member.health.report());
}

#[tokio::test]
async fn a_panic_of_a_worker_or_of_the_committer_ends_the_membership() {
    for (trouble, who) in [
        (Trouble::WorkerPanics, "processor group topic[0] panicked: "),
        (Trouble::CommitterPanics, "the committer of processor group panicked: "),
    ] {
        let Member { running, health, .. } = Member::start(trouble).await;
        let ended = tokio::time::timeout(Duration::from_secs(5), running).await;
        let error = ended.expect("nobody noticed").unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(error.to_string().contains(who), "{error}");
        assert!(health.report().is_empty(), "{:?}", health.report());
    }
}

/// A stop whose deadline passes drops the component: a member that is left over would hold partitions and serve none.
#[tokio::test]
async fn nothing_is_left_of_a_member_that_is_dropped() {
    let Member { told, running, .. } = Member::reading(Trouble::None).await;
    assert!(Arc::strong_count(&told.0) > 1);
    running.abort();
    until("everything is dropped", || Arc::strong_count(&told.0) == 1).await;
}

#[tokio::test]
async fn transactions_that_fail_for_good_are_tried_again_slowly_and_seen() {
    let member = Member::start(Trouble::NeverCommits).await;
    member.seen(|state| matches!(state, State::Recovering(text) if text.contains("not authorised"))).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let times = member.begins();
    assert!((2..20).contains(&times), "{times} transactions in 0.3 s");
    member.end().await;
}

/// What is too much for the time of a transaction must not be tried together for ever.
#[tokio::test]
async fn after_a_transaction_that_failed_fewer_partitions_go_together() {
    let told = Told::new(Trouble::FirstNotCommitted);
    let log: Arc<dyn Log> = Arc::new(told.clone());
    let (committer, cycle) =
        Cycle::start(log, "id".into(), "group".into(), false, Health::default(), CancellationToken::new())
            .await
            .unwrap();
    let submit = |count: i32| -> Vec<_> {
        let at = |partition| Assignment { topic: "topic".into(), partition, epoch: 1 };
        (0..count).map(|partition| committer.submit(&at(partition), 1, Vec::new())).collect()
    };
    let first = submit(10);
    let running = tokio::spawn(cycle.run(Arc::new(told.clone())));
    for verdict in first {
        assert!(matches!(verdict.await.unwrap(), Verdict::Look(..)));
    }
    for verdict in submit(8) {
        assert!(matches!(verdict.await.unwrap(), Verdict::Committed));
    }
    assert_eq!(*told.0.together.lock().unwrap(), [10, 1, 2, 4, 1]);
    running.abort();
}

/// Whoever made the first one fail by initialising this producer's id may have claimed the others meanwhile.
#[tokio::test]
async fn what_waits_behind_a_transaction_that_failed_is_not_sent_as_it_is() {
    for claimable in [true, false] {
        let told = Told::new(Trouble::FirstNotCommitted);
        let log: Arc<dyn Log> = Arc::new(told.clone());
        let (committer, cycle) = Cycle::start(
            log,
            "id".into(),
            "group".into(),
            claimable,
            Health::default(),
            CancellationToken::new(),
        )
        .await
        .unwrap();
        let at = |partition| Assignment { topic: "topic".into(), partition, epoch: 1 };
        let output = Record {
            topic: "topic".into(),
            partition: None,
            key: None,
            payload: None,
            headers: Headers::new(),
            time_ms: None,
        };
        let first = committer.submit(&at(0), 1, vec![output; MAX_OUTPUTS]);
        let others: Vec<_> =
            (1..4).map(|partition| committer.submit(&at(partition), 1, Vec::new())).collect();
        let running = tokio::spawn(cycle.run(Arc::new(told.clone())));
        assert!(matches!(first.await.unwrap(), Verdict::Look(..)));
        for verdict in others {
            let verdict = verdict.await.unwrap();
            assert_eq!(matches!(verdict, Verdict::Look(..)), claimable);
            assert_eq!(matches!(verdict, Verdict::Committed), !claimable);
        }
        running.abort();
    }
}

fn record(offset: i64) -> ConsumerEvent {
    with_payload(offset, "null")
}

fn with_payload(offset: i64, payload: &'static str) -> ConsumerEvent {
    let record = Received {
        topic: "topic".into(),
        partition: 0,
        offset,
        key: None,
        payload: Some(payload.into()),
        headers: Headers::default(),
        time_ms: 0,
    };
    ConsumerEvent::Records { assignment: at(), flow: 1, records: vec![record] }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_fails_again_and_again_shows_in_health() {
    let member = Member::start(Trouble::None).await;
    until("ready", || member.health.is_ready()).await;
    member.tell(with_payload(7, "not what it should be"));
    member
        .seen(|state| matches!(state, State::Retrying(text) if text.contains("offset 7 failed 3 times")))
        .await;
    member.end().await;
}

/// A query of it may wait for a host that is gone without a word.
#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_end_is_given_up() {
    let member = Member::reading(Trouble::None).await;
    member.tell(with_payload(0, "1"));
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(member.begins(), 1, "the first start");
    tokio::time::sleep(Duration::from_secs(2)).await;
    until("handled", || member.begins() == 2).await;
    member.end().await;
}

/// Who passes over the record that cannot be read must not pass over those before it.
#[tokio::test(start_paused = true)]
async fn what_came_before_a_record_that_cannot_be_read_is_handled() {
    let member = Member::reading(Trouble::None).await;
    // The first one takes 5 minutes.
    member.tell(with_payload(0, "1"));
    member.tell(record(1));
    member.tell(ConsumerEvent::Failed(at(), Error::new(Kind::Corrupt, "offset 2 cannot be read")));
    tokio::time::sleep(Duration::from_secs(310)).await;
    member.seen(|state| *state == State::Failed("offset 2 cannot be read".to_owned())).await;
    let committed = member.told.0.committed.lock().unwrap().clone();
    assert_eq!(committed.last(), Some(&2), "{committed:?}");
    assert_eq!(member.starts(), 1, "the member joined again");
    member.end().await;
}

/// What came before a record that cannot be read is had again only by joining again, which all of the group notice.
#[tokio::test(start_paused = true)]
async fn a_member_that_fails_before_a_record_that_cannot_be_read_does_not_join_again_at_once() {
    let member = Member::reading(Trouble::SecondNotCommitted).await;
    member.tell(record(0));
    member.tell(ConsumerEvent::Failed(at(), Error::new(Kind::Corrupt, "offset 1 cannot be read")));
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(member.starts(), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(member.starts(), 2);
    member.end().await;
}

/// Whether it ever gets any again, the group says.
#[tokio::test]
async fn a_member_whose_partitions_were_all_taken_away_is_not_ready() {
    let member = Member::reading(Trouble::None).await;
    until("ready", || member.health.is_ready()).await;
    member.tell(ConsumerEvent::Revoked { partitions: vec![at()], lost: false, handback: Handback::new(()) });
    let group = || member.health.report().remove("processor group");
    until("seen", || matches!(group(), Some(State::Recovering(_)))).await;
    // Other members have them all.
    member.tell(ConsumerEvent::Assigned(Vec::new()));
    until("ready", || member.health.is_ready()).await;
    member.end().await;
}

/// There is nobody else whose transaction could be ended.
#[tokio::test]
async fn a_position_that_the_log_keeps_back_shows_in_health() {
    let member = Member::reading(Trouble::Unstable).await;
    member.tell(record(0));
    member.seen(|state| matches!(state, State::Recovering(text) if text.contains("not stable"))).await;
    assert!(member.told.0.looks.load(Ordering::SeqCst) < 20, "without a pause");
    member.end().await;
}
