//! Class 12: members that join and leave. Eager or cooperative: as `--assignor` says for the whole run.

use std::time::Duration;

use tidelock_campaign::Result;

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Inject, Ongoing, Part},
    role::Role,
    world::World,
};

/// How often somebody joins and leaves in the long storm, and by how many members.
const TIMES: u32 = 200;
const MEMBERS: u32 = 4;
/// How long each of them stays, and stays away: one joins every 500 ms.
const EVERY_MS: u64 = 1_000;
/// A rebalance waits for every member, at the worst until the session (6 s) of one that went is over, and the next one begins.
const STANDS_STILL: Duration = Duration::from_secs(30);
/// To leave takes its time on a machine that has other work.
const LONG_STORM: Duration = Duration::from_secs(400);

pub(super) fn faults() -> Vec<Fault> {
    let dynamic = |_: &str| None;
    let named = |name: &str| Some(name.to_owned());
    vec![
        short("storm-dynamic", "a member without a name joins and leaves every 500 ms", 500, 1, dynamic),
        short("storm-static", "a member with a name joins and leaves every 500 ms", 500, 1, named),
        short("storm-of-three", "three members without a name join and leave every 700 ms", 700, 3, dynamic),
        Fault {
            // Whoever gets a partition is about to leave, for as long as it lasts: with eager members a generation has 250 ms.
            within: None,
            ..fault(
                "storm-of-200",
                format!("{TIMES} times somebody joins and leaves, every 500 ms, half of them under a name"),
                0..=1_000,
                Box::new(|world, _| long(world)),
            )
        },
    ]
}

fn fault(name: &str, doc: String, lasts_ms: std::ops::RangeInclusive<u64>, inject: Inject) -> Fault {
    Fault {
        class: Class::Rebalance,
        name: name.into(),
        doc,
        must_hold: EXACTLY_ONCE,
        within: Some(STANDS_STILL),
        lasts_ms,
        touches: &[Part::Group],
        inject,
    }
}

fn short(
    name: &str,
    doc: &str,
    every_ms: u64,
    members: usize,
    instance: fn(&str) -> Option<String>,
) -> Fault {
    let inject = move |world: &World| {
        let names: Vec<_> = (1..=members).map(|number| format!("storm-{number}")).collect();
        for name in &names {
            let role = Role::Storm { instance: instance(name), every_ms, times: u32::MAX };
            world.crew.hire_an_outlaw(name, role)?;
        }
        Ok(Ongoing::new(names.join(", "), move |world| {
            names.iter().try_for_each(|name| world.crew.dismiss(name))
        }))
    };
    fault(name, doc.to_owned(), 15_000..=30_000, Box::new(move |world, _| inject(world)))
}

/// Over when everybody has left for the last time.
fn long(world: &World) -> Result<Ongoing> {
    let names: Vec<_> = (1..=MEMBERS).map(|number| format!("long-storm-{number}")).collect();
    let before = left(world, &names);
    for (number, name) in names.iter().enumerate() {
        let instance = (number % 2 == 0).then(|| name.clone());
        let role = Role::Storm { instance, every_ms: EVERY_MS, times: TIMES / MEMBERS };
        world.crew.hire_an_outlaw(name, role)?;
        world.sleep(Duration::from_millis(2 * EVERY_MS / u64::from(MEMBERS)));
    }
    world.until(LONG_STORM, || names.iter().all(|name| !world.crew.runs(name)));
    let times = left(world, &names) - before;
    Ok(Ongoing::new(format!("{times} times"), move |world| {
        names.iter().for_each(|name| world.crew.dismiss_at_once(name));
        Ok(())
    })
    .only_if(times >= TIMES as usize))
}

/// How often these members say that they have left.
fn left(world: &World, names: &[String]) -> usize {
    names
        .iter()
        .map(|name| world.log_of(name).lines().filter(|line| line.contains("left round=")).count())
        .sum()
}
