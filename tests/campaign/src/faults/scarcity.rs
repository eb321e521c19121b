//! Class 16: little CPU, a large backlog. Memory is watched during the whole run, by the crew.

use std::time::Duration;

use tidelock_campaign::{
    Result,
    trouble::{Kind, Trouble},
};
use tidelock_lab::CpuLimit;

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    kafka::Role as Broker,
    role::Role,
    world::{PIPELINES, World},
};

/// Of a CPU.
const SHARE: f64 = 0.05;
const LASTS_MS: std::ops::RangeInclusive<u64> = 8_000..=15_000;
/// A writer that makes the backlog.
const HASTY: &str = "guest-hasty";
/// How fast a backlog is at least worked off, in messages a second.
const LEAST_RATE: u64 = 150;

pub(super) fn faults() -> Vec<Fault> {
    vec![
        limited("pipeline-starved", "a pipeline", &[Part::Pipelines], |world, choice| {
            let name = PIPELINES[choice % 2];
            Ok((name.to_owned(), CpuLimit::new(world.crew.pid(name)?, SHARE)?))
        }),
        limited("broker-starved", "a broker that leads a partition of the input", &[Part::Brokers], |world, choice| {
            let at = world.cluster.broker(Broker::Data, i32::try_from(choice)?)?;
            let broker = world.lab.broker(at);
            Ok((broker.name().to_owned(), broker.limit_cpu(SHARE)?))
        }),
        limited("database-starved", "the database server", &[Part::Database], |world, _| {
            let server = world.lab.postgres();
            Ok((server.name().to_owned(), server.limit_cpu(SHARE)?))
        }),
        Fault {
            class: Class::Scarcity,
            name: "backlog".into(),
            doc: "handlers take 200 ms longer until as many messages wait as --backlog says, then they are fast again".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 0..=1_000,
            touches: &[Part::Alone],
            inject: Box::new(|world, _| {
                world.trouble(Some(Trouble { kind: Kind::Crawl, share: 1.0 }))?;
                let rate = 2000.0;
                let hasty = Role::Writer { style: "plain", connections: 4, rate, keys: 500, hold_ms: 0 };
                world.crew.hire(HASTY, hasty)?;
                let limit = Duration::from_secs(60 + world.backlog / LEAST_RATE);
                let waits = |world: &World| waiting(world).unwrap_or(0);
                world.demand("backlog", "the backlog", limit, || waits(world) >= world.backlog);
                world.crew.dismiss(HASTY)?;
                let most = waits(world);
                Ok(Ongoing::new(format!("{most} messages"), move |world| {
                    world.trouble(None)?;
                    let limit = Duration::from_secs(60 + most / LEAST_RATE);
                    world.demand("backlog", "that it was worked off", limit, || waits(world) < 500);
                    Ok(())
                }))
            }),
        },
    ]
}

type Limit = fn(&World, usize) -> Result<(String, CpuLimit)>;

fn limited(name: &str, whom: &str, touches: &'static [Part], limit: Limit) -> Fault {
    Fault {
        class: Class::Scarcity,
        name: name.into(),
        doc: format!("{whom} gets 5 % of a CPU"),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: LASTS_MS,
        touches,
        inject: Box::new(move |world, rng| {
            let (what, guard) = limit(world, rng.usize(0..1000))?;
            Ok(Ongoing::new(what, move |_| {
                drop(guard);
                Ok(())
            }))
        }),
    }
}

/// How many records of the input the group has before it.
fn waiting(world: &World) -> Result<u64> {
    let committed = world.cluster.committed()?;
    let last = world.pulse.last_offsets();
    let behind = |(committed, last): (&Option<i64>, &Option<i64>)| {
        last.map_or(0, |last| last + 1 - committed.unwrap_or(0)).max(0)
    };
    Ok(committed.iter().zip(&last).map(behind).sum::<i64>().unsigned_abs())
}
