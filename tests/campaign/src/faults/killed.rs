//! Class 1: kill -9 of each process, at random and at every crash point.

use std::time::Duration;

use fastrand::Rng;
use tidelock::failpoint::Point;
use tidelock_campaign::{Result, tables};
use tidelock_lab::Right;

use super::admin;
use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    role::Role,
    world::{PIPELINES, WRITER, World},
};

/// How long a process may take to come to its crash point.
pub(super) const COMES_WITHIN: Duration = Duration::from_secs(15);
/// A member that makes the group share anew.
const NEWCOMER: &str = "newcomer";
const REFUSED: &str = "what was refused at P9";

pub(super) fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault {
            class: Class::Killed,
            name: "pipeline-killed".into(),
            doc: "kill -9 of a pipeline, at any moment; started again when healed".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 0..=2500,
            touches: &[Part::Pipelines],
            inject: Box::new(|world, rng| killed(world, &[PIPELINES[rng.usize(..2)]])),
        },
        Fault {
            class: Class::Killed,
            name: "pipelines-killed".into(),
            doc: "kill -9 of both pipelines, one right after the other".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 0..=2500,
            touches: &[Part::Pipelines],
            inject: Box::new(|world, _| killed(world, &PIPELINES)),
        },
        Fault {
            class: Class::Killed,
            name: "pipeline-away".into(),
            doc: "kill -9 of a pipeline, which stays away for longer than its session: the other one takes over".into(),
            must_hold: EXACTLY_ONCE,
            within: Some(Duration::from_secs(20)),
            lasts_ms: 10_000..=14_000,
            touches: &[Part::Pipelines],
            inject: Box::new(|world, rng| killed(world, &[PIPELINES[rng.usize(..2)]])),
        },
        Fault {
            class: Class::Killed,
            name: "writer-killed".into(),
            doc: "kill -9 of the writer with its transactions open".into(),
            must_hold: EXACTLY_ONCE,
            within: Some(Duration::from_secs(5)),
            lasts_ms: 0..=1000,
            touches: &[Part::Writer],
            inject: Box::new(|world, _| killed(world, &[WRITER])),
        },
    ];
    faults.extend(Point::ALL.iter().map(|point| dies_at(*point)));
    faults
}

fn killed(world: &World, names: &[&'static str]) -> Result<Ongoing> {
    names.iter().try_for_each(|name| world.crew.kill(name))?;
    let names = names.to_vec();
    Ok(Ongoing::new(names.join(", "), move |world| names.iter().try_for_each(|name| world.crew.start(name))))
}

pub(super) fn touched(point: Point) -> &'static [Part] {
    match point {
        Point::P9 => &[Part::Pipelines, Part::Group, Part::Rules],
        _ => &[Part::Pipelines, Part::Group],
    }
}

fn dies_at(point: Point) -> Fault {
    Fault {
        class: Class::Killed,
        name: format!("dies-at-{}", point.name()),
        doc: format!("a pipeline dies of itself at crash point {}", point.name()),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: 0..=1500,
        touches: touched(point),
        inject: Box::new(move |world, rng| {
            let name = PIPELINES[rng.usize(..2)];
            let hit = provoke(world, name, point, rng)?;
            world.crew.start_doomed(name, &format!("{}={hit}:abort", point.name()))?;
            let died = brought_about(world, point, || !world.crew.runs(name))?;
            Ok(Ongoing::new(format!("{name} at {}", point.name()), move |world| {
                world.crew.dismiss_if_there(NEWCOMER);
                world.crew.restart(name)?;
                settle(world, point)
            })
            .only_if(died))
        }),
    }
}

/// Puts back what was taken to bring a crash point about.
pub(super) fn settle(world: &World, point: Point) -> Result<()> {
    if point == Point::P9 { world.pay(REFUSED) } else { Ok(()) }
}

/// What must come first for a crash point to be reached; answers at which hit.
pub(super) fn provoke(world: &World, name: &'static str, point: Point, rng: &mut Rng) -> Result<u32> {
    match point {
        // Reached once for each revocation, each take-over, or each refusal.
        Point::P7 | Point::P9 => Ok(1),
        Point::P8 => {
            let first = [Point::P3Begin, Point::P3Offsets, Point::P3Commit][rng.usize(..3)];
            world.crew.start_doomed(name, &format!("{}={}:abort", first.name(), rng.u32(1..=5)))?;
            world.until(COMES_WITHIN, || !world.crew.runs(name));
            Ok(1)
        }
        _ => Ok(rng.u32(1..=20)),
    }
}

/// Waits until it was reached; makes the group share anew, or outputs be refused, where that is what is waited for. Whoever
/// heals it then [settles](settle) it.
pub(super) fn brought_about(world: &World, point: Point, mut reached: impl FnMut() -> bool) -> Result<bool> {
    match point {
        Point::P7 => {}
        Point::P9 => {
            admin::deny(world, REFUSED, tables::OUTPUT)?;
            let reached = world.until(COMES_WITHIN, reached);
            // What is sent again is accepted.
            world.lab.cluster().allow(Right::Write(tables::OUTPUT))?;
            return Ok(reached);
        }
        _ => return Ok(world.until(COMES_WITHIN, reached)),
    }
    for _ in 0..4 {
        // It must have joined, or nothing can be taken away from it.
        if world.until(Duration::from_secs(3), &mut reached) {
            return Ok(true);
        }
        let role = Role::Pipeline { instance: None, relay: false };
        world.crew.hire_an_outlaw(NEWCOMER, role)?;
        let done = world.until(Duration::from_secs(3), &mut reached);
        world.crew.dismiss_if_there(NEWCOMER);
        if done {
            return Ok(true);
        }
    }
    Ok(false)
}
