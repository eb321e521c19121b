//! Class 5: brokers killed, restarted, restarted in turn, frozen.

use std::{ops::RangeInclusive, time::Duration};

use tidelock_lab::Server;

use super::wake;
use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    kafka::Role,
};

/// A dead broker's session (3 s), the election, the clients' way to the new leader.
const ELECTED: Duration = Duration::from_secs(15);

const ROLES: [(Role, &str); 3] =
    [(Role::Data, "data-leader"), (Role::Transactions, "transaction-leader"), (Role::Group, "group-leader")];

pub(super) fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for (role, name) in ROLES {
        let mut add = |verb: &str, doc: &str, lasts_ms, act: Act| {
            let (name, doc) = (format!("{name}-{verb}"), format!("{doc}: {}", duty(role)));
            faults.push(one(role, name, doc, lasts_ms, act));
        };
        add("killed", "kill -9 of a broker, which starts again when healed", 500..=6_000, Server::kill);
        add("restarted", "a broker stopped cleanly, which starts again when healed", 0..=3_000, Server::stop);
        add("frozen", "SIGSTOP of a broker, for longer than its session", 4_000..=9_000, Server::pause);
    }
    faults.push(Fault {
        class: Class::Brokers,
        name: "rolling-restart".into(),
        doc: "every broker stopped cleanly and started again, one after the other".into(),
        must_hold: EXACTLY_ONCE,
        within: Some(ELECTED),
        lasts_ms: 0..=0,
        touches: &[Part::Brokers],
        inject: Box::new(|world, _| {
            for broker in world.lab.brokers() {
                broker.stop()?;
                broker.start()?;
                world.sleep(Duration::from_secs(3));
            }
            Ok(Ongoing::new("kafka-1 to kafka-3", |_| Ok(())))
        }),
    });
    faults.push(Fault {
        class: Class::Brokers,
        name: "all-brokers-killed".into(),
        doc: "kill -9 of all brokers at once".into(),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: 0..=2_000,
        touches: &[Part::Brokers],
        inject: Box::new(|world, _| {
            world.lab.brokers().iter().try_for_each(Server::kill)?;
            Ok(Ongoing::new("kafka-1 to kafka-3", |world| {
                world.lab.brokers().iter().try_for_each(Server::launch)?;
                Ok(world.lab.brokers().iter().try_for_each(Server::wait_ready)?)
            }))
        }),
    });
    faults
}

type Act = fn(&Server) -> tidelock_lab::Result<()>;

pub(super) fn duty(role: Role) -> &'static str {
    match role {
        Role::Data => "one that leads a partition of the input",
        Role::Transactions => "the one that coordinates a relay's or processor's transactions",
        Role::Group => "the one that coordinates the group",
    }
}

fn one(role: Role, name: String, doc: String, lasts_ms: RangeInclusive<u64>, act: Act) -> Fault {
    Fault {
        class: Class::Brokers,
        name,
        doc,
        must_hold: EXACTLY_ONCE,
        within: Some(ELECTED),
        lasts_ms,
        touches: &[Part::Brokers],
        inject: Box::new(move |world, rng| {
            let at = world.broker(role, rng.i32(0..1000))?;
            act(world.lab.broker(at))?;
            Ok(Ongoing::new(world.lab.broker(at).name(), move |world| wake(world.lab.broker(at))))
        }),
    }
}
