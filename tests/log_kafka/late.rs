//! Requests that arrive late, inside the next transaction of the same producer: Kafka's transaction protocol V1 takes
//! them. Each is shown on a real broker with the rules left out, and harmless with them.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tidelock::{
    commit::Commit,
    database::sqlite::Sqlite,
    error::BoxError,
    event::Event,
    failpoint::{self, Variant},
    handler::{Context, Handler, Outcome},
    log::{
        Assignor, Cleanup, Log as _, PartitionOffset, Producer, TopicSpec,
        kafka::{Kafka, KafkaConfig},
    },
    message::{Key, Message},
    pipeline::Pipeline,
    processor::{Processor, ProcessorConfig},
    testing,
};
use tidelock_lab::{
    Lab,
    proxy::{Trap, request},
};

use super::{Member, committed, config, record, sent, topic, unique};
use crate::witness;

/// How long a request may stay unanswered.
const UNANSWERED: Duration = Duration::from_secs(2);
/// The request before `TxnOffsetCommit`.
const ADD_OFFSETS_TO_TXN: i16 = 25;
/// `INVALID_PRODUCER_EPOCH`
const OLD_EPOCH: i16 = 47;

/// One for all tests of this file. Its watchdog ends it with the process.
fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| Lab::builder().postgres(false).proxied(true).start().unwrap())
}

async fn proxied() -> Kafka {
    let lab = tokio::task::spawn_blocking(lab).await.unwrap();
    let config = KafkaConfig {
        brokers: lab.proxied_kafka_url(),
        socket_timeout: UNANSWERED,
        call_timeout: 2 * UNANSWERED,
        ..config()
    };
    Kafka::new(config).unwrap()
}

/// The first request of that producer and kind: it does not arrive for now, and the client sends it again.
struct Late {
    frame: Arc<Mutex<Option<Vec<u8>>>>,
    trap: Trap,
}

impl Late {
    fn of(id: &str, matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        let (id, frame) = (id.as_bytes().to_vec(), Arc::new(Mutex::new(None)));
        let kept = frame.clone();
        let trap = lab().kafka_proxy(0).cut_before_request(move |frame| {
            let found = matches(frame) && frame.windows(id.len()).any(|window| window == id);
            if found {
                kept.lock().unwrap().get_or_insert_with(|| frame.to_vec());
            }
            found
        });
        Self { frame, trap }
    }

    /// Now it arrives. Answers the error code that the broker has for it, which stands so many bytes before the end.
    async fn arrives(self, from_end: usize) -> i16 {
        assert!(self.trap.sprung(), "there was no such request");
        let frame = self.frame.lock().unwrap().take().unwrap();
        tokio::task::spawn_blocking(move || {
            let mut late = TcpStream::connect(lab().broker(0).address()).unwrap();
            late.write_all(&frame).unwrap();
            let mut length = [0; 4];
            late.read_exact(&mut length).unwrap();
            let mut answer = vec![0; u32::from_be_bytes(length) as usize];
            late.read_exact(&mut answer).unwrap();
            let code = &answer[answer.len() - from_end..][..2];
            i16::from_be_bytes(code.try_into().unwrap())
        })
        .await
        .unwrap()
    }
}

/// The producer of the next transaction: the same one, where nothing forbids it.
async fn next(kafka: &Kafka, producer: Box<dyn Producer>, left_out: bool) -> Box<dyn Producer> {
    assert_eq!(producer.must_rotate().is_none(), left_out, "{:?}", producer.must_rotate());
    match producer.must_rotate() {
        None => producer,
        Some(_) => kafka.producer(producer.transactional_id()).await.unwrap(),
    }
}

fn leave_out(left_out: bool) {
    failpoint::leave_out(if left_out { &[Variant::NoRotation] } else { &[] });
}

async fn texts(topic: &str) -> Vec<String> {
    let topic = topic.to_owned();
    let found = tokio::task::spawn_blocking(move || witness::committed(&lab().kafka_url(), &topic)).await;
    found.unwrap().into_iter().map(|record| String::from_utf8(record.payload).unwrap()).collect()
}

/// What came of it: what the broker said to the late request, and whether a promise was broken.
type Harm = (Option<i16>, bool);

/// A commit that arrives once more publishes half of the next transaction, which is then aborted.
async fn commit(left_out: bool) -> Harm {
    let kafka = proxied().await;
    let (topic, id) = (topic(&kafka, 2, Cleanup::Any).await, unique("late-commit"));
    leave_out(left_out);
    let mut producer = kafka.producer(&id).await.unwrap();
    let late = Late::of(&id, request::kafka_commit);
    sent(&mut *producer, vec![record(&topic, 0, "before")]).await;
    committed(producer.commit().await);

    let mut producer = next(&kafka, producer, left_out).await;
    sent(&mut *producer, vec![record(&topic, 0, "first half")]).await;
    let code = late.arrives(2).await;
    producer.send(vec![record(&topic, 1, "second half")]).await.unwrap();
    let _ = producer.acknowledged().await;
    producer.abort().await;
    (Some(code), texts(&topic).await != ["before"])
}

/// A commit that arrives once more publishes half of the next transaction, which is aborted and sent again: how often a
/// processor without an inbox, and one with an inbox, handles that half.
async fn handled() -> [usize; 2] {
    let kafka = proxied().await;
    let spec = TopicSpec { name: Half::TOPIC.to_owned(), partitions: Some(2), cleanup: Cleanup::Any };
    kafka.topic(&spec).await.unwrap();
    let id = unique("late-commit-handled");
    leave_out(true);
    let mut producer = kafka.producer(&id).await.unwrap();
    let late = Late::of(&id, request::kafka_commit);
    sent(&mut *producer, vec![record(Half::TOPIC, 0, "\"before\"")]).await;
    committed(producer.commit().await);
    let half = |partition| {
        let mut half = record(Half::TOPIC, partition, format!("\"{id} {partition}\""));
        half.headers.push("ce_id", format!("{id} {partition}"));
        half
    };
    sent(&mut *producer, vec![half(0)]).await;
    assert_eq!(late.arrives(2).await, 0);
    producer.abort().await;
    leave_out(false);
    let mut producer = kafka.producer(&id).await.unwrap();
    sent(&mut *producer, vec![half(0), half(1)]).await;
    committed(producer.commit().await);

    let mut handled = [0; 2];
    for inbox in [false, true] {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let config = ProcessorConfig { inbox, ..ProcessorConfig::default() };
        let processor = Processor::new(unique("group")).handle(Watch(seen.clone())).config(config);
        let database = Sqlite::in_memory().await.unwrap();
        database.migrate().await.unwrap();
        let pipeline = Pipeline::builder(kafka.clone(), database).processor(processor).build().unwrap();
        pipeline.start().await.unwrap();
        let times = |partition: u8| {
            let text = format!("{id} {partition}");
            seen.lock().unwrap().iter().filter(|seen| **seen == text).count()
        };
        // Without an inbox both copies come; with one, nothing is left to wait for but that no second one does.
        let copies = if inbox { 1 } else { 2 };
        let both = async || times(1) == 1 && times(0) >= copies;
        testing::within(Duration::from_secs(60), "both halves are handled", both).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        handled[usize::from(inbox)] = times(0);
        pipeline.stop(Duration::from_secs(10)).await.unwrap();
    }
    handled
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Half(String);

impl Event for Half {
    const TYPE: &'static str = "Half";
    const TOPIC: &'static str = "late-commit-handled";

    fn key(&self) -> Key {
        Key::NONE
    }
}

struct Watch(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Handler<Sqlite> for Watch {
    type Event = Half;

    async fn handle(
        &self,
        message: &Message<Half>,
        _: &mut Context<'_, Sqlite>,
    ) -> Result<Outcome, BoxError> {
        self.0.lock().unwrap().push(message.event.0.clone());
        Ok(Outcome::Done)
    }
}

/// What is left to the inbox where a late commit was not noticed.
#[tokio::test]
async fn the_inbox_drops_what_a_late_commit_has_published_twice() {
    assert_eq!(handled().await, [2, 1]);
}

/// An abort that arrives once more drops the first half of the next transaction; its second half, to another partition,
/// is committed, and every call says OK.
async fn abort(left_out: bool) -> Harm {
    let kafka = proxied().await;
    let (topic, id) = (topic(&kafka, 2, Cleanup::Any).await, unique("late-abort"));
    leave_out(left_out);
    let mut producer = kafka.producer(&id).await.unwrap();
    let late = Late::of(&id, request::kafka_abort);
    sent(&mut *producer, vec![record(&topic, 0, "aborted")]).await;
    producer.abort().await;

    let mut producer = next(&kafka, producer, left_out).await;
    sent(&mut *producer, vec![record(&topic, 0, "first half")]).await;
    let code = late.arrives(2).await;
    producer.send(vec![record(&topic, 1, "second half")]).await.unwrap();
    assert!(producer.acknowledged().await.unwrap().is_empty());
    committed(producer.commit().await);
    (Some(code), texts(&topic).await != ["first half", "second half"])
}

/// An offset that arrives once more takes the place of the next transaction's.
async fn offset(left_out: bool) -> Harm {
    let kafka = proxied().await;
    let (topic, id, group) = (topic(&kafka, 1, Cleanup::Any).await, unique("late-offset"), unique("group"));
    leave_out(left_out);
    let mut member = Member::join(&kafka, &group, &topic, Assignor::Cooperative).await;
    let held = member.gained(1).await;
    let at = |offset| [PartitionOffset { topic: topic.as_str().into(), partition: 0, offset }];
    let mut producer = kafka.producer(&id).await.unwrap();
    let late = Late::of(&id, request::kafka_key(request::TXN_OFFSET_COMMIT));
    producer.begin().await.unwrap();
    producer.send_offsets(&at(5), member.consumer.metadata(&held).unwrap()).await.unwrap();
    committed(producer.commit().await);

    let mut producer = next(&kafka, producer, left_out).await;
    producer.begin().await.unwrap();
    producer.send_offsets(&at(10), member.consumer.metadata(&held).unwrap()).await.unwrap();
    // Three empty lists of tagged fields follow it.
    let code = late.arrives(2 + 3).await;
    committed(producer.commit().await);
    let stands = member.consumer.committed(&held[0]).await.unwrap();
    member.close().await;
    (Some(code), stands != Some(10))
}

/// A commit after offsets that failed answers OK, with the offsets missing.
async fn failed_offsets(left_out: bool) -> Harm {
    let kafka = proxied().await;
    let (topic, id, group) =
        (topic(&kafka, 1, Cleanup::Any).await, unique("failed-offsets"), unique("group"));
    leave_out(left_out);
    let mut member = Member::join(&kafka, &group, &topic, Assignor::Cooperative).await;
    let held = member.gained(1).await;
    let mut producer = kafka.producer(&id).await.unwrap();
    sent(&mut *producer, vec![record(&topic, 0, "output")]).await;
    let hold = || {
        let id = id.as_bytes().to_vec();
        lab().kafka_proxy(0).hold_request(move |frame| {
            request::kafka_key(ADD_OFFSETS_TO_TXN)(frame)
                && frame.windows(id.len()).any(|window| window == id)
        })
    };
    // It is sent again, on a new connection, until the call gives up.
    let held_back: Vec<Trap> = (0..10).map(|_| hold()).collect();
    let offsets = [PartitionOffset { topic: topic.as_str().into(), partition: 0, offset: 7 }];
    producer.send_offsets(&offsets, member.consumer.metadata(&held).unwrap()).await.expect_err("it is held");
    let outcome = producer.commit().await;
    lab().kafka_proxy(0).reset_connections();
    drop(held_back);
    if !matches!(outcome, Commit::Committed) {
        drop(kafka.producer(&id).await.unwrap());
    }
    let stands = member.consumer.committed(&held[0]).await.unwrap();
    member.close().await;
    (None, texts(&topic).await.len() != usize::from(stands.is_some()))
}

macro_rules! rules {
    ($($what:ident: $on:ident, $off:ident;)+) => {
        $(
            #[tokio::test]
            async fn $on() {
                let (code, harm) = $what(false).await;
                assert!(!harm, "the broker said {code:?}");
                assert!(code.is_none_or(|code| code == OLD_EPOCH), "{code:?}");
            }

            #[tokio::test]
            async fn $off() {
                let (code, harm) = $what(true).await;
                assert!(harm, "the rule was left out and nobody noticed; the broker said {code:?}");
                assert!(code.is_none_or(|code| code == 0), "{code:?}");
            }
        )+

        /// The table of DESIGN.md, "What can still happen".
        #[tokio::test]
        #[ignore = "a command: repeats each TIDELOCK_TEST_TIMES times, with the rules and without"]
        async fn figures() {
            let times: u32 = std::env::var("TIDELOCK_TEST_TIMES").map_or(20, |times| times.parse().unwrap());
            $(
                for left_out in [true, false] {
                    let mut harmed = 0;
                    for _ in 0..times {
                        harmed += u32::from($what(left_out).await.1);
                    }
                    let rules = if left_out { "without" } else { "with" };
                    println!("late::{}, {rules} the rules: harm in {harmed} of {times}", stringify!($what));
                }
            )+
            let mut twice = [0; 2];
            for _ in 0..times {
                let handled = handled().await;
                (0..2).for_each(|inbox| twice[inbox] += u32::from(handled[inbox] > 1));
            }
            println!("late::handled, without the rules: twice in {} of {times}, with an inbox in {}", twice[0], twice[1]);
        }
    };
}

rules! {
    commit: a_late_commit_is_refused, a_late_commit_publishes_half_of_the_next_transaction_without_rotation;
    abort: a_late_abort_is_refused, a_late_abort_drops_half_of_the_next_transaction_without_rotation;
    offset: a_late_offset_is_refused, a_late_offset_goes_back_without_rotation;
    failed_offsets: offsets_that_failed_forbid_the_commit, a_commit_after_offsets_that_failed_leaves_them_out_without_the_rule;
}
