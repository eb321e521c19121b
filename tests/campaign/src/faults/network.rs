//! Class 7: the network, separately for Kafka and for the database.

use std::time::Duration;

use fastrand::Rng;
use tidelock_lab::proxy::Proxy;

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::World,
};

type Act = fn(&Proxy, &mut Rng);

/// What is done to a network: name, what it is, the act.
const ACTS: [(&str, &str, Act); 5] = [
    ("cut", "every connection reset, and every new one at once", |proxy, _| proxy.cut()),
    ("reset", "every connection reset; new ones are welcome", |proxy, _| proxy.reset_connections()),
    ("silent", "connections stay open and nothing arrives", |proxy, _| proxy.blackhole()),
    ("deaf", "requests arrive and answers do not", |proxy, _| proxy.drop_answers()),
    ("slow", "everything 1 to 500 ms later, in both directions", |proxy, rng| {
        proxy.delay(Duration::from_millis(rng.u64(1..=500)));
    }),
];

pub(super) fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, doc, act) in ACTS {
        faults.push(fault(
            format!("kafka-{name}"),
            format!("to all brokers: {doc}"),
            Part::KafkaNetwork,
            act,
        ));
        faults.push(fault(
            format!("broker-{name}"),
            format!("to one broker: {doc}"),
            Part::KafkaNetwork,
            act,
        ));
        faults.push(fault(
            format!("database-{name}"),
            format!("to the database: {doc}"),
            Part::DatabaseNetwork,
            act,
        ));
    }
    faults
}

fn fault(name: String, doc: String, part: Part, act: Act) -> Fault {
    let one = name.starts_with("broker-");
    Fault {
        class: Class::Network,
        name,
        doc,
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: 200..=8_000,
        touches: if part == Part::KafkaNetwork { &[Part::KafkaNetwork] } else { &[Part::DatabaseNetwork] },
        inject: Box::new(move |world, rng| {
            let chosen = match part {
                Part::KafkaNetwork if one => vec![rng.usize(..world.lab.brokers().len())],
                Part::KafkaNetwork => (0..world.lab.brokers().len()).collect(),
                _ => Vec::new(),
            };
            let seed = rng.u64(..);
            each(world, &chosen, |proxy| act(proxy, &mut Rng::with_seed(seed)));
            let names: Vec<_> = chosen.iter().map(|at| world.lab.broker(*at).name()).collect();
            let what = if names.is_empty() { "postgres".to_owned() } else { names.join(", ") };
            Ok(Ongoing::new(what, move |world| {
                each(world, &chosen, Proxy::restore);
                Ok(())
            }))
        }),
    }
}

/// The proxies before these brokers; before the database if there are none.
fn each(world: &World, brokers: &[usize], act: impl Fn(&Proxy)) {
    if brokers.is_empty() {
        act(world.lab.postgres_proxy());
    }
    brokers.iter().for_each(|at| act(world.lab.kafka_proxy(*at)));
}
