//! Class 3: a second instance with the same identity.

use tidelock_campaign::Result;

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    role::Role,
    world::{PIPELINES, World},
};

const TWIN: &str = "twin";

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            class: Class::Twin,
            name: "twin-stopped".into(),
            doc: "a second pipeline with the name of a running one, asked to stop when healed".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 3_000..=10_000,
            touches: &[Part::Pipelines, Part::Group],
            inject: Box::new(|world, rng| {
                begin(world, PIPELINES[rng.usize(..2)], |world| world.crew.dismiss(TWIN))
            }),
        },
        Fault {
            class: Class::Twin,
            name: "twin-killed".into(),
            doc: "a second pipeline with the name of a running one, killed when healed".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 3_000..=10_000,
            touches: &[Part::Pipelines, Part::Group],
            inject: Box::new(|world, rng| {
                begin(world, PIPELINES[rng.usize(..2)], |world| {
                    world.crew.dismiss_at_once(TWIN);
                    Ok(())
                })
            }),
        },
    ]
}

fn begin(world: &World, of: &str, heal: fn(&World) -> Result<()>) -> Result<Ongoing> {
    world.crew.hire_an_outlaw(TWIN, Role::pipeline(of))?;
    Ok(Ongoing::new(of, heal))
}
