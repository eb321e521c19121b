//! Class 2: asleep for longer than every time-out, at every crash point, and then everything at once.

use std::time::Duration;

use nix::sys::signal::Signal;
use tidelock::failpoint::Point;
use tidelock_campaign::Result;

use super::killed::{brought_about, provoke, settle, touched};
use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::{PIPELINES, WRITER, World},
};

/// Longer than session (6 s), transaction (10 s) and the broker's sweep (1 s).
const LONG_MS: std::ops::RangeInclusive<u64> = 12_000..=15_000;
/// Until the other one has taken everything over.
const TAKEN_OVER: Duration = Duration::from_secs(20);

pub(super) fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault {
            class: Class::Paused,
            name: "pipeline-asleep".into(),
            doc: "SIGSTOP of a pipeline at any moment, for longer than every time-out".into(),
            must_hold: EXACTLY_ONCE,
            within: Some(TAKEN_OVER),
            lasts_ms: LONG_MS,
            touches: &[Part::Pipelines],
            inject: Box::new(|world, rng| asleep(world, PIPELINES[rng.usize(..2)])),
        },
        Fault {
            class: Class::Paused,
            name: "pipeline-nods-off".into(),
            doc: "SIGSTOP of a pipeline at any moment, for less than its session".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 1_000..=5_000,
            touches: &[Part::Pipelines],
            inject: Box::new(|world, rng| asleep(world, PIPELINES[rng.usize(..2)])),
        },
        Fault {
            class: Class::Paused,
            name: "writer-asleep".into(),
            doc: "SIGSTOP of the writer with its transactions and locks open".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: LONG_MS,
            touches: &[Part::Writer],
            inject: Box::new(|world, _| asleep(world, WRITER)),
        },
    ];
    faults.extend(Point::ALL.iter().map(|point| sleeps_at(*point)));
    faults
}

fn asleep(world: &World, name: &'static str) -> Result<Ongoing> {
    world.crew.signal(name, Signal::SIGSTOP)?;
    Ok(Ongoing::new(name, move |world| world.crew.signal(name, Signal::SIGCONT)))
}

fn sleeps_at(point: Point) -> Fault {
    Fault {
        class: Class::Paused,
        name: format!("sleeps-at-{}", point.name()),
        doc: format!(
            "a pipeline falls asleep at crash point {}, for longer than every time-out",
            point.name()
        ),
        must_hold: EXACTLY_ONCE,
        within: Some(TAKEN_OVER + super::killed::COMES_WITHIN),
        lasts_ms: LONG_MS,
        touches: touched(point),
        inject: Box::new(move |world, rng| {
            let name = PIPELINES[rng.usize(..2)];
            let hit = provoke(world, name, point, rng)?;
            let marker = world.directory.join(point.name());
            let failpoint = format!("{}={hit}:pause({})", point.name(), world.directory.display());
            world.crew.start_to_wait(name, &failpoint)?;
            let stands = brought_about(world, point, || marker.exists())?;
            world.crew.signal(name, Signal::SIGSTOP)?;
            Ok(Ongoing::new(format!("{name} at {}", point.name()), move |world| {
                if !stands {
                    // It would stand there later.
                    world.crew.restart(name)?;
                    return settle(world, point);
                }
                std::fs::remove_file(&marker)?;
                world.crew.signal(name, Signal::SIGCONT)?;
                settle(world, point)
            })
            .only_if(stands))
        }),
    }
}
