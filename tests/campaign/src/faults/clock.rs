//! Class 11: wall clocks that jump. Not those of the brokers: a JVM does not bear the library that makes them.

use std::time::Duration;

use tidelock_campaign::Result;
use tidelock_lab::Clock;

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::{PIPELINES, World},
};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
/// Longer than a session (6 s) and the database's idle time-out (5 s): what counts time by the wall would run out.
const BETWEEN: Duration = Duration::from_secs(7);
/// A session, and a start.
const WITHIN: Option<Duration> = Some(Duration::from_secs(25));

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            class: Class::Clock,
            name: "database-clock".into(),
            doc: "the database's clock jumps a day ahead, then back to an hour ago".into(),
            must_hold: EXACTLY_ONCE,
            within: Some(Duration::from_secs(15)),
            lasts_ms: 5_000..=8_000,
            touches: &[Part::Database],
            inject: Box::new(|world, _| {
                world.lab.postgres().clock()?;
                world.owe("clock", |world| Ok(world.lab.postgres().clock()?.restore()?));
                jump(world, world.lab.postgres().clock()?)?;
                Ok(Ongoing::new("postgres", |world| world.pay("clock")))
            }),
        },
        Fault {
            class: Class::Clock,
            name: "pipeline-clock".into(),
            doc: "a pipeline is started again with a clock that jumps a day ahead, then back to an hour ago"
                .into(),
            must_hold: EXACTLY_ONCE,
            within: WITHIN,
            lasts_ms: 5_000..=8_000,
            touches: &[Part::Pipelines],
            inject: Box::new(|world, rng| {
                let name = PIPELINES[rng.usize(..2)];
                let clock = world.lab.new_clock(&world.scene())?;
                let variables = clock.variables();
                let variables = variables
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_string_lossy().into_owned()))
                    .collect();
                world.owe("clock", move |world| again(world, name, Vec::new()));
                again(world, name, variables)?;
                world.sleep(BETWEEN);
                jump(world, &clock)?;
                Ok(Ongoing::new(name, move |world| {
                    // The process looks at the clock's file for as long as it lives.
                    let undone = world.pay("clock");
                    drop(clock);
                    undone
                }))
            }),
        },
    ]
}

fn jump(world: &World, clock: &Clock) -> Result<()> {
    clock.forward(DAY)?;
    world.sleep(BETWEEN);
    clock.back(DAY + HOUR)?;
    Ok(())
}

/// Kills a pipeline and starts it with settings of its own.
fn again(world: &World, name: &str, settings: Vec<(String, String)>) -> Result<()> {
    let pid = world.crew.pid(name).ok();
    world.crew.kill(name)?;
    pid.into_iter().for_each(Clock::sweep);
    world.crew.equip(name, settings)?;
    world.crew.start(name)
}
