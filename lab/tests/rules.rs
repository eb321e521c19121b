//! What becomes of a Kafka client's requests under the rules of a proxy, with a real broker behind it.

use std::error::Error;
use std::time::{Duration, Instant};

use tidelock_lab::Lab;
use tidelock_lab::proxy::Action;
use tidelock_lab::proxy::request::{
    self, ADD_PARTITIONS_TO_TXN, END_TXN, INIT_PRODUCER_ID, METADATA, Request,
};

use crate::wire::{NO_TOPIC, Wire, short};

type Outcome = Result<(), Box<dyn Error>>;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

fn of(key: i16, id: &'static str) -> impl Fn(&Request<'_>) -> bool + Send + Sync + 'static {
    move |request| request.is(key) && request.of(id)
}

fn metadata(request: &Request<'_>) -> bool {
    request.is(METADATA) && request.client == Some("lab")
}

#[test]
fn requests_vanish_come_twice_come_late_and_come_in_halves() -> Outcome {
    let lab = Lab::builder().postgres(false).proxied(true).start()?;
    let (proxy, address) = (lab.kafka_proxy(0), lab.kafka_proxy(0).address());
    let mut wire = Wire::connect(address)?;
    wire.create_topic("in", 1, 1)?;

    // Vanished: the connection stays, and the next answer is the next request's.
    let trap = proxy.trap(metadata, Action::Drop);
    wire.patience(SHORT)?;
    assert!(wire.call(METADATA, 1, &NO_TOPIC).is_err());
    assert!(trap.sprung());
    wire.patience(LONG)?;
    wire.call(METADATA, 1, &NO_TOPIC)?;

    // Twice: the broker takes both, the client sees one answer.
    let owner = wire.init_producer("twice")?;
    let trap = proxy.trap(of(ADD_PARTITIONS_TO_TXN, "twice"), Action::Duplicate(Duration::ZERO));
    assert_eq!(wire.add_partition("twice", &owner, "in")?, 0);
    let copy = trap.answer(LONG).ok_or("no answer to the copy")?;
    let error = short(&copy, copy.len() - 2);
    assert!(matches!(error, 0 | 51), "taken, or refused while the first is not through: {error}");
    wire.call(METADATA, 1, &NO_TOPIC)?;
    assert_eq!(wire.end("twice", &owner, true)?, 0);

    // Twice, the second time once the transaction is over: the same call of a later transaction.
    let trap = proxy.trap(of(INIT_PRODUCER_ID, "again"), Action::Duplicate(SHORT));
    let owner = wire.init_producer("again")?;
    assert_eq!(wire.add_partition("again", &owner, "in")?, 0);
    trap.answer(LONG).ok_or("no answer to the copy")?;
    let fenced = wire.end("again", &owner, true)?;
    assert!(matches!(fenced, 47 | 90), "a second InitProducerId fences the first one's owner, not {fenced}");

    // In halves.
    let trap = proxy.trap(metadata, Action::TearRequest);
    assert!(wire.call(METADATA, 1, &NO_TOPIC).is_err());
    assert!(trap.sprung());
    let mut wire = Wire::connect(address)?;
    let whole = wire.call(METADATA, 1, &NO_TOPIC)?.len() + 8;
    let _trap = proxy.trap(metadata, Action::TearAnswer);
    wire.send(METADATA, 1, &NO_TOPIC)?;
    let (half, end) = wire.rest();
    assert_eq!((half.len(), end.is_err()), (whole / 2, true), "half an answer and a reset");
    Ok(())
}

/// The hole that a client of the first transaction protocol must close by itself: the coordinator cannot tell the commit
/// of one transaction from that of the next.
#[test]
fn a_commit_that_comes_late_commits_the_next_transaction() -> Outcome {
    let lab = Lab::builder().postgres(false).proxied(true).start()?;
    let proxy = lab.kafka_proxy(0);
    let mut wire = Wire::connect(proxy.address())?;
    wire.create_topic("in", 1, 1)?;
    let owner = wire.init_producer("late")?;
    assert_eq!(wire.add_partition("late", &owner, "in")?, 0);
    let trap = proxy.trap(of(END_TXN, "late"), Action::Late(None));
    assert!(wire.end("late", &owner, true).is_err(), "the client is cut off");
    assert!(trap.sprung());

    let mut wire = Wire::connect(proxy.address())?;
    assert_eq!(wire.end("late", &owner, true)?, 0, "tried again");
    assert_eq!(wire.add_partition("late", &owner, "in")?, 0, "the next transaction");
    assert_eq!(trap.answer(Duration::ZERO), None);
    trap.release();
    let answer = trap.answer(LONG).ok_or("no answer to the late commit")?;
    assert_eq!(short(&answer, 12), 0, "accepted");
    assert_eq!(wire.end("late", &owner, false)?, 48, "the transaction to abort is committed");
    Ok(())
}

#[test]
fn a_rule_acts_as_often_as_its_dice_say_and_ends_with_its_guard() -> Outcome {
    let lab = Lab::builder().postgres(false).proxied(true).start()?;
    let proxy = lab.kafka_proxy(0);
    let mut wire = Wire::connect(proxy.address())?;
    let mut counts = Vec::new();
    for seed in [7, 7, 8] {
        let rule = proxy.rule(metadata, Action::Duplicate(Duration::ZERO), 0.3, seed);
        for _ in 0..100 {
            wire.call(METADATA, 1, &NO_TOPIC)?;
        }
        assert_eq!(rule.matched(), 100);
        assert!((15..45).contains(&rule.acted()), "{} of 100", rule.acted());
        let start = Instant::now();
        while rule.answered() < rule.acted() && start.elapsed() < LONG {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(rule.answered(), rule.acted(), "every copy is answered");
        counts.push(rule.acted());
    }
    assert_eq!(counts[0], counts[1], "one seed, one choice");

    let rule = proxy.rule(request::one_of([METADATA]), Action::Wait(SHORT), 1.0, 1);
    let start = Instant::now();
    wire.call(METADATA, 1, &NO_TOPIC)?;
    assert!(start.elapsed() >= SHORT);
    drop(rule);
    let start = Instant::now();
    wire.call(METADATA, 1, &NO_TOPIC)?;
    assert!(start.elapsed() < SHORT);

    let rule = proxy.rule(metadata, Action::Hold, 1.0, 1);
    wire.send(METADATA, 1, &NO_TOPIC)?;
    assert!(rule.wait(1, LONG));
    drop(rule);
    wire.answer()?;
    Ok(())
}
