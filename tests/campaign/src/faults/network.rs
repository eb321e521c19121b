//! Class 7: the network, separately for Kafka and for the database.

use std::{any::Any, ops::RangeInclusive, time::Duration};

use fastrand::Rng;
use tidelock_lab::proxy::{Action, Proxy, request};

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::World,
};

/// What is done to the network before one server.
struct Act {
    name: &'static str,
    doc: &'static str,
    lasts_ms: RangeInclusive<u64>,
    /// The longest stand-still that is right.
    within: Option<Duration>,
    /// Answers what must be kept for as long as it shall last.
    begin: fn(&Proxy, &mut Rng) -> Kept,
}

type Kept = Option<Box<dyn Any + Send>>;

/// New connections work: who waits on an old one notices after its time-out, at the latest after 10 s, and then may
/// have to wait for an open transaction.
const NOTICED: Duration = Duration::from_secs(20);
const SHORT_MS: RangeInclusive<u64> = 200..=8_000;
const LONG_MS: RangeInclusive<u64> = 3_000..=25_000;

fn acts() -> Vec<Act> {
    let act = |name, doc, begin| Act { name, doc, lasts_ms: SHORT_MS, within: None, begin };
    let half_open = |name, doc, begin| Act { name, doc, lasts_ms: LONG_MS, within: Some(NOTICED), begin };
    vec![
        act("cut", "every connection reset, and every new one at once", |proxy, _| {
            proxy.cut();
            None
        }),
        act("reset", "every connection reset; new ones are welcome", |proxy, _| {
            proxy.reset_connections();
            None
        }),
        act("silent", "connections stay open and nothing arrives", |proxy, _| {
            proxy.blackhole();
            None
        }),
        act("deaf", "requests arrive and answers do not", |proxy, _| {
            proxy.drop_answers();
            None
        }),
        act("slow", "everything 1 to 500 ms later, in both directions", |proxy, rng| {
            proxy.delay(Duration::from_millis(rng.u64(1..=500)));
            None
        }),
        act("torn", "some connections reset in the middle of a request or of an answer", |proxy, rng| {
            let mut rule = |action, share| proxy.rule(request::any, action, share, rng.u64(..));
            Some(Box::new([rule(Action::TearRequest, TORN), rule(Action::TearAnswer, TORN)]))
        }),
        half_open("half-open", "servers see the end of every connection, and clients do not", |proxy, _| {
            proxy.lose_server_halves();
            None
        }),
        half_open(
            "half-closed",
            "clients see the end of every connection, and servers do not",
            |proxy, _| {
                proxy.lose_client_halves();
                None
            },
        ),
        act("jitter", "everything 1 to 500 ms later, each time anew", |proxy, rng| {
            proxy.jitter(Duration::from_millis(1), Duration::from_millis(500), rng.u64(..));
            None
        }),
        act("narrow", "1 KB a second in each direction", |proxy, _| {
            proxy.bandwidth(1_000);
            None
        }),
        act("flapping", "up for 0.2 to 2 s, down for 0.05 to 0.5 s, again and again", |proxy, rng| {
            let mut ms = |range| Duration::from_millis(rng.u64(range));
            Some(Box::new(proxy.flap(ms(200..=2_000), ms(50..=500))))
        }),
    ]
}

/// The share of requests that are torn, and of answers.
const TORN: f64 = 0.005;

pub(super) fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for Act { name, doc, lasts_ms, within, begin } in acts() {
        for (whom, text, network) in [
            ("kafka", "to all brokers", Part::KafkaNetwork),
            ("broker", "to one broker", Part::KafkaNetwork),
            ("database", "to the database", Part::DatabaseNetwork),
        ] {
            let (name, doc, lasts_ms) =
                (format!("{whom}-{name}"), format!("{text}: {doc}"), lasts_ms.clone());
            faults.push(fault(name, doc, network, lasts_ms, within, begin));
        }
    }
    faults
}

fn fault(
    name: String,
    doc: String,
    part: Part,
    lasts_ms: RangeInclusive<u64>,
    within: Option<Duration>,
    begin: fn(&Proxy, &mut Rng) -> Kept,
) -> Fault {
    let one = name.starts_with("broker-");
    Fault {
        class: Class::Network,
        name,
        doc,
        must_hold: EXACTLY_ONCE,
        within,
        lasts_ms,
        touches: if part == Part::KafkaNetwork { &[Part::KafkaNetwork] } else { &[Part::DatabaseNetwork] },
        inject: Box::new(move |world, rng| {
            let chosen = match part {
                Part::KafkaNetwork if one => vec![rng.usize(..world.lab.brokers().len())],
                Part::KafkaNetwork => (0..world.lab.brokers().len()).collect(),
                _ => Vec::new(),
            };
            let seed = rng.u64(..);
            let kept = each(world, &chosen, |proxy| begin(proxy, &mut Rng::with_seed(seed)));
            let names: Vec<_> = chosen.iter().map(|at| world.lab.broker(*at).name()).collect();
            let what = if names.is_empty() { "postgres".to_owned() } else { names.join(", ") };
            Ok(Ongoing::new(what, move |world| {
                drop(kept);
                each(world, &chosen, Proxy::restore);
                Ok(())
            }))
        }),
    }
}

/// The proxies before these brokers; before the database if there are none.
fn each<T>(world: &World, brokers: &[usize], act: impl Fn(&Proxy) -> T) -> Vec<T> {
    if brokers.is_empty() {
        return vec![act(world.lab.postgres_proxy())];
    }
    brokers.iter().map(|at| act(world.lab.kafka_proxy(*at))).collect()
}
