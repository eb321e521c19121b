//! Class 17: a process of the previous version beside one of this. Only with `--previous`.

use std::time::Duration;

use tidelock_campaign::Result;

use super::succession::Stage;
use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::{PIPELINES, World},
};

/// Of the framework's tables.
const VERSION: &str = "SELECT max(version)::bigint FROM tidelock.migration";
/// A session (6 s), and a start of each version.
const TAKEN_OVER: Duration = Duration::from_secs(25);

pub(super) fn faults() -> Vec<Fault> {
    vec![
        fault("previous-version", "a pipeline is killed, and the previous version takes its place", false),
        fault(
            "previous-version-killed",
            "the same, and the previous version is killed and started again under way",
            true,
        ),
        Fault {
            class: Class::Upgrade,
            name: "migrated-under-load".into(),
            doc: "beside the run: tables and processes of the previous version are upgraded while messages flow, the tables first"
                .into(),
            must_hold: "every verdict of the checker is 0; the run is not touched by it",
            within: Some(Duration::from_secs(15)),
            lasts_ms: 0..=500,
            touches: &[Part::Alone],
            inject: Box::new(|world, _| migrated(world)),
        },
    ]
}

fn fault(name: &str, doc: &str, killed: bool) -> Fault {
    Fault {
        class: Class::Upgrade,
        name: name.into(),
        doc: format!("{doc}; upgraded again when healed"),
        must_hold: EXACTLY_ONCE,
        within: Some(TAKEN_OVER),
        lasts_ms: 8_000..=15_000,
        touches: &[Part::Pipelines],
        inject: Box::new(move |world, rng| {
            let previous = world.previous.clone().ok_or("there is no previous version: give --previous")?;
            let name = PIPELINES[rng.usize(..2)];
            replace(world, name, Some(previous))?;
            if killed {
                world.sleep(Duration::from_millis(rng.u64(3_000..8_000)));
                world.crew.kill(name)?;
                world.sleep(Duration::from_millis(rng.u64(0..1_000)));
                world.crew.start(name)?;
            }
            Ok(Ongoing::new(name, move |world| replace(world, name, None)))
        }),
    }
}

fn migrated(world: &World) -> Result<Ongoing> {
    let previous = world.previous.clone().ok_or("there is no previous version: give --previous")?;
    let stage = Stage::bare(world, "migrated-under-load")?;
    stage.migrates(world, Some(previous.clone()))?;
    stage.db.prepare_run()?;
    let versions = || stage.db.number(VERSION);
    let (old, new) = (stage.scene.group.clone(), format!("{}-new", stage.scene.group));
    let before = versions()?;
    stage.works(world, &old, Some(previous))?;
    stage.flow(world)?;
    stage.writes(world)?;
    world.sleep(Duration::from_secs(1));
    stage.migrates(world, None)?;
    world.sleep(Duration::from_secs(2));
    stage.works(world, &new, None)?;
    // They share the partitions and the shards.
    world.sleep(Duration::from_secs(8));
    world.crew.dismiss_at_once(&old);
    world.sleep(Duration::from_secs(2));
    stage.stops_writing(world);
    stage.flow(world)?;
    stage.judge(world, false)?;
    let after = versions()?;
    if after != world.db.number(VERSION)? {
        world.crew.find("migrated-under-load", &format!("has left the tables at version {after}"));
    }
    let what = format!("{old} from version {before} to {after}");
    Ok(Ongoing::new(what, move |world| stage.strike(world)))
}

fn replace(world: &World, name: &str, program: Option<std::path::PathBuf>) -> Result<()> {
    world.crew.kill(name)?;
    world.crew.become_program(name, program)?;
    world.crew.start(name)
}
