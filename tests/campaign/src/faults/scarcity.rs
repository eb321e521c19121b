//! Class 16: little CPU, little memory, a large backlog. Memory is watched during the whole run, by the crew.

use std::time::Duration;

use serde_json::json;
use tidelock_campaign::{
    Result,
    trouble::{Kind, Trouble},
};
use tidelock_lab::{CpuLimit, limit_memory, memory};

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Inject, Ongoing, Part},
    kafka::Role as Broker,
    role::Role,
    world::{PIPELINES, World},
};

/// Of a CPU.
const SHARE: f64 = 0.05;
const LASTS_MS: std::ops::RangeInclusive<u64> = 8_000..=15_000;
/// A writer that makes the backlog.
const HASTY: &str = "guest-hasty";
/// How long a pipeline may take until it has its clients and their buffers.
const WARM_AFTER: Duration = Duration::from_secs(8);
/// How fast a backlog is at least worked off, in messages a second.
const LEAST_RATE: u64 = 150;

pub(super) fn faults() -> Vec<Fault> {
    vec![
        limited("pipeline-starved", "a pipeline", &[Part::Pipelines], |world, choice| {
            let name = PIPELINES[choice % 2];
            Ok((name.to_owned(), CpuLimit::new(world.crew.pid(name)?, SHARE)?))
        }),
        limited(
            "broker-starved",
            "a broker that leads a partition of the input",
            &[Part::Brokers],
            |world, choice| {
                let at = world.broker(Broker::Data, i32::try_from(choice)?)?;
                let broker = world.lab.broker(at);
                Ok((broker.name().to_owned(), broker.limit_cpu(SHARE)?))
            },
        ),
        limited("database-starved", "the database server", &[Part::Database], |world, _| {
            let server = world.lab.postgres();
            Ok((server.name().to_owned(), server.limit_cpu(SHARE)?))
        }),
        alone(
            "backlog",
            "handlers take 200 ms longer until as many messages wait as --backlog says, then they are fast again",
            EXACTLY_ONCE,
            Box::new(|world, _| {
                let most = pile_up(world, "backlog", world.backlog)?;
                Ok(Ongoing::new(format!("{most} messages"), move |world| work_off(world, "backlog", most)))
            }),
        ),
        alone(
            "pipeline-cramped",
            "a pipeline may have 64 MiB more memory than the larger one has, and 5000 messages pile up and are worked off",
            "the pipeline lives; every verdict of the checker is 0, and everything flows again once it is healed",
            Box::new(|world, rng| {
                let name = PIPELINES[rng.usize(..2)];
                world.owe("pipeline-cramped", move |world| world.crew.restart(name));
                // One that has just been started has not everything yet.
                world.sleep(WARM_AFTER);
                cramp(world, name, 64 << 20)?;
                let most = pile_up(world, "pipeline-cramped", 5_000)?;
                Ok(Ongoing::new(format!("{name}, {most} messages"), move |world| {
                    work_off(world, "pipeline-cramped", most)?;
                    world.pay("pipeline-cramped")
                }))
            }),
        ),
        Fault {
            class: Class::Scarcity,
            name: "pipeline-out-of-memory".into(),
            doc: "a pipeline gets no memory beyond what the larger one has, nor threads, and is started again when healed"
                .into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: LASTS_MS,
            touches: &[Part::Pipelines],
            inject: Box::new(|world, rng| {
                let name = PIPELINES[rng.usize(..2)];
                world.crew.may_die(name)?;
                cramp(world, name, 0)?;
                Ok(Ongoing::new(name, move |world| {
                    let deaths = u32::from(!world.crew.runs(name));
                    world.history.note("came about", json!({ "what": "deaths", "times": deaths }))?;
                    world.crew.restart(name)
                }))
            }),
        },
    ]
}

fn alone(name: &str, doc: &str, must_hold: &'static str, inject: Inject) -> Fault {
    Fault {
        class: Class::Scarcity,
        name: name.into(),
        doc: doc.into(),
        must_hold,
        within: None,
        lasts_ms: 0..=1_000,
        touches: &[Part::Alone],
        inject,
    }
}

/// Makes the handlers slow until so many messages wait; answers how many do.
fn pile_up(world: &World, whom: &str, messages: u64) -> Result<u64> {
    world.trouble(Some(Trouble { kind: Kind::Crawl, share: 1.0 }))?;
    let hasty = Role::Writer { style: "plain", connections: 4, rate: 2000.0, keys: 500, hold_ms: 0 };
    world.crew.hire(HASTY, hasty)?;
    let limit = Duration::from_secs(60 + messages / LEAST_RATE);
    world.demand(whom, "the backlog", limit, || waiting(world).unwrap_or(0) >= messages);
    world.crew.dismiss(HASTY)?;
    Ok(waiting(world).unwrap_or(0))
}

/// Makes them fast again, and waits.
fn work_off(world: &World, whom: &str, messages: u64) -> Result<()> {
    world.trouble(None)?;
    let limit = Duration::from_secs(60 + messages / LEAST_RATE);
    world.demand(whom, "that it was worked off", limit, || waiting(world).unwrap_or(0) < 500);
    Ok(())
}

/// Lets a pipeline have so much more memory of its own than the larger one has, until it ends.
fn cramp(world: &World, name: &str, more: u64) -> Result<()> {
    let of = |name: &str| Some(memory(world.crew.pid(name).ok()?)?.data);
    let most = PIPELINES.iter().filter_map(|name| of(name)).max().ok_or("no pipeline runs")?;
    Ok(limit_memory(world.crew.pid(name)?, most + more)?)
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
