//! Class 12: members that join and leave. Eager or cooperative: as `--assignor` says for the whole run.

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    role::Role,
};

pub(super) fn faults() -> Vec<Fault> {
    let dynamic = |_: &str| None;
    let named = |name: &str| Some(name.to_owned());
    vec![
        fault("storm-dynamic", "a member without a name joins and leaves every 500 ms", 500, 1, dynamic),
        fault("storm-static", "a member with a name joins and leaves every 500 ms", 500, 1, named),
        fault("storm-of-three", "three members without a name join and leave every 700 ms", 700, 3, dynamic),
    ]
}

fn fault(
    name: &str,
    doc: &str,
    every_ms: u64,
    members: usize,
    instance: fn(&str) -> Option<String>,
) -> Fault {
    Fault {
        class: Class::Rebalance,
        name: name.into(),
        doc: doc.into(),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: 15_000..=30_000,
        touches: &[Part::Group],
        inject: Box::new(move |world, _| {
            let names: Vec<_> = (1..=members).map(|number| format!("storm-{number}")).collect();
            for name in &names {
                world.crew.hire_an_outlaw(name, Role::Storm { instance: instance(name), every_ms })?;
            }
            Ok(Ongoing::new(names.join(", "), move |world| {
                names.iter().try_for_each(|name| world.crew.dismiss(name))
            }))
        }),
    }
}
