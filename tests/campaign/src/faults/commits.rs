//! Class 9: commits out of order, long transactions, rolled-back ids, savepoints, two phases.

use std::time::Duration;

use tidelock_campaign::Result;

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    role::Role,
    world::World,
};

/// What the names of these writers begin with.
pub(crate) const GUESTS: &str = "guest-";
/// Nothing is broken: everything goes on as fast as ever.
const NO_STOP: Option<Duration> = Some(Duration::from_secs(5));

pub(super) fn faults() -> Vec<Fault> {
    vec![
        simple("rolled-back-ids", "half of the business transactions are rolled back", "rolled-back"),
        simple("savepoints", "parts of business transactions are rolled back to a savepoint", "savepoints"),
        simple(
            "crossed-commits",
            "five transactions at a time commit in the reverse order of their ids",
            "crossed",
        ),
        simple("prepared", "business transactions in two phases, some rolled back in the second", "prepared"),
        Fault {
            class: Class::Commits,
            name: "held-open".into(),
            doc: "a business transaction stays open for as long as --held says, beyond the end of the fault"
                .into(),
            must_hold: EXACTLY_ONCE,
            within: NO_STOP,
            lasts_ms: 1_000..=5_000,
            touches: &[Part::Writers],
            inject: Box::new(|world, _| {
                // One at a time is enough, and it is dismissed at the end of the run.
                let name = format!("{GUESTS}held");
                if !world.crew.runs(&name) {
                    world.crew.dismiss_if_there(&name);
                    world.crew.hire(&name, guest(world, "held"))?;
                }
                Ok(Ongoing::new(name, |_| Ok(())))
            }),
        },
        Fault {
            class: Class::Commits,
            name: "prepared-over-a-crash".into(),
            doc: "the database is stopped hard while transactions are prepared".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 2_000..=4_000,
            touches: &[Part::Writers, Part::Database],
            inject: Box::new(|world, _| {
                let name = hire(world, "prepared")?;
                world.until(Duration::from_secs(5), || {
                    world.db.number("SELECT count(*) FROM pg_prepared_xacts").is_ok_and(|left| left > 0)
                });
                world.lab.postgres().stop_immediate()?;
                world.lab.postgres().start()?;
                Ok(Ongoing::new(name.clone(), move |world| world.crew.dismiss(&name)))
            }),
        },
    ]
}

fn simple(name: &str, doc: &str, style: &'static str) -> Fault {
    Fault {
        class: Class::Commits,
        name: name.into(),
        doc: doc.into(),
        must_hold: EXACTLY_ONCE,
        within: NO_STOP,
        lasts_ms: 3_000..=8_000,
        touches: &[Part::Writers],
        inject: Box::new(move |world, _| {
            let name = hire(world, style)?;
            Ok(Ongoing::new(name.clone(), move |world| world.crew.dismiss(&name)))
        }),
    }
}

fn guest(world: &World, style: &'static str) -> Role {
    let hold_ms = if style == "held" { world.held.as_millis() as u64 } else { 1500 };
    Role::Writer { style, connections: 4, rate: 100.0, keys: 50, hold_ms }
}

fn hire(world: &World, style: &'static str) -> Result<String> {
    let name = format!("{GUESTS}{style}");
    world.crew.hire(&name, guest(world, style))?;
    Ok(name)
}
