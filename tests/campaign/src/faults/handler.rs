//! Class 13: handlers that panic, hang and fail.

use std::time::Duration;

use tidelock_campaign::trouble::{Kind, Trouble};

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
};

pub(super) fn faults() -> Vec<Fault> {
    vec![
        fault("handler-panics", "the handler panics on 0.1 % of the messages", Kind::Panic, 0.001),
        fault(
            "handler-fails",
            "the handler returns an error on 0.1 % of the messages, after its effect",
            Kind::Fail,
            0.001,
        ),
        fault("handler-hangs", "the handler hangs for up to 3 s on 0.1 % of the messages", Kind::Hang, 0.001),
        fault("handler-fails-often", "the handler returns an error on 5 % of the messages", Kind::Fail, 0.05),
        fault("handler-slow", "the handler takes 2 ms longer", Kind::Slow, 1.0),
    ]
}

fn fault(name: &str, doc: &str, kind: Kind, share: f64) -> Fault {
    let text = name.to_owned();
    Fault {
        class: Class::Handler,
        name: name.into(),
        doc: doc.into(),
        must_hold: EXACTLY_ONCE,
        within: (share < 0.01).then_some(Duration::from_secs(15)),
        lasts_ms: 3_000..=8_000,
        touches: &[Part::Handler],
        inject: Box::new(move |world, _| {
            world.trouble(Some(Trouble { kind, share }))?;
            Ok(Ongoing::new(text.clone(), |world| world.trouble(None)))
        }),
    }
}
