//! Class 15: topics that come into being under way, rights taken away, quotas.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use tidelock_campaign::{Result, tables};
use tidelock_lab::Right;

use super::side::Side;
use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::{PIPELINES, World},
};

/// Records of a topic that many begin with at once, from each writer.
const RECORDS: u64 = 200;
const WRITERS: u64 = 4;
/// How long everything may take to come back from the quarantine.
const RELEASED_WITHIN: Duration = Duration::from_secs(60);
/// How long is waited for a refusal.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);
/// How long a broker may take to learn of its rules.
const LEARNT_WITHIN: Duration = Duration::from_millis(500);

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            class: Class::Admin,
            name: "topic-race".into(),
            doc: "five subjects of two groups and four producers begin with a topic that does not exist yet, on brokers that \
                  create what they are asked for"
                .into(),
            must_hold: "each group handles every record once, nobody gives up; the rest as ever",
            within: None,
            lasts_ms: 0..=2_000,
            touches: &[Part::Side],
            inject: Box::new(|world, _| race(world)),
        },
        denied("writes-denied-in", tables::INPUT),
        denied("writes-denied-out", tables::OUTPUT),
        revoked("reads-denied", "to read the input", Right::Read(tables::INPUT)),
        revoked("group-denied", "to be a member of the group", Right::Join(tables::GROUP)),
        revoked("transactions-denied", "to use the framework's transactional ids", Right::Transact("tidelock.")),
        revoked("positions-denied", "to write the relay's positions", Right::Write(tables::PROGRESS)),
        Fault {
            class: Class::Admin,
            name: "produce-throttled".into(),
            doc: "each client may write a few KB a second to each broker".into(),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 3_000..=10_000,
            touches: &[Part::Rules],
            inject: Box::new(|world, rng| {
                let rate = rng.u32(2_000..=8_000);
                world.owe(QUOTA, |world| Ok(world.lab.cluster().limit_produce(None)?));
                world.lab.cluster().limit_produce(Some(f64::from(rate)))?;
                Ok(Ongoing::new(format!("{rate} bytes a second"), |world| world.pay(QUOTA)))
            }),
        },
    ]
}

const QUOTA: &str = "the quota";

/// Everyone is sent off at once, and nobody has created the topic.
fn race(world: &World) -> Result<Ongoing> {
    let mut side = Side::new(world, "race");
    let (one, other) = (side.group.clone(), format!("{}b", side.group));
    side.hire(world, &one, 3)?;
    side.hire(world, &other, 2)?;
    let written: Result<()> = thread::scope(|scope| {
        let topic = &side.topic;
        let records = |number| number * RECORDS..(number + 1) * RECORDS;
        let writer = |number| move || world.cluster.write_at_once(topic, 1, records(number));
        let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(writer(number))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer panicked")?)
    });
    written?;
    Ok(Ongoing::new(side.topic.clone(), move |world| {
        let expected = i64::try_from(RECORDS * WRITERS)?;
        let mut seen = Vec::new();
        for group in [&one, &other] {
            let handled = side.wait_handled(world, group, 1, expected)?;
            if (handled.rows, handled.records) != (expected, expected) {
                world.crew.find(group, &format!("handled of {expected} records {handled:?}"));
            }
            seen.push(format!("{handled:?}"));
        }
        let failed = side.failed(world, SystemTime::UNIX_EPOCH).map(|said| said.text);
        if let Some(failed) = &failed {
            world.crew.find(&side.topic, &format!("was given up by a reader: {failed}"));
        }
        world.history.note("side", json!({ "topic": side.topic, "groups": seen, "said": failed }))?;
        side.end(world)
    })
    .after_others())
}

/// What Kafka refuses goes to the quarantine, and is released when healed.
fn denied(name: &'static str, topic: &'static str) -> Fault {
    Fault {
        class: Class::Admin,
        name: name.into(),
        doc: format!(
            "the right to write to {topic} is taken away; given back, what was refused is released from the quarantine"
        ),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: 1_000..=5_000,
        touches: &[Part::Rules],
        inject: Box::new(move |world, _| {
            let before = deny(world, name, topic)?;
            let refused = || quarantined(world, before).is_ok_and(|rows| rows > 0);
            let was = world.until(REFUSED_WITHIN, refused);
            Ok(Ongoing::new(topic, move |world| world.pay(name)).only_if(was))
        }),
    }
}

/// What cannot be done meanwhile is done when healed, by the same processes.
fn revoked(name: &'static str, what: &str, right: Right<'static>) -> Fault {
    Fault {
        class: Class::Admin,
        name: name.into(),
        doc: format!("the right {what} is taken away, and given back when healed"),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: 2_000..=8_000,
        touches: &[Part::Rules],
        inject: Box::new(move |world, _| {
            world.owe(name, move |world| Ok(world.lab.cluster().allow(right)?));
            let before = refusals(world);
            world.lab.cluster().deny(right)?;
            let was = world.until(REFUSED_WITHIN, || {
                world.sleep(Duration::from_millis(200));
                refusals(world) > before
            });
            Ok(Ongoing::new(format!("{right:?}"), move |world| world.pay(name)).only_if(was))
        }),
    }
}

/// How often the pipelines say that a right is missing.
fn refusals(world: &World) -> usize {
    PIPELINES.iter().map(|name| world.log_of(name).matches("uthorization failed").count()).sum()
}

/// Takes the right to write away, and owes it back together with what comes into the quarantine; answers which entry was
/// the last one before: scenes leave there what is refused for good.
pub(super) fn deny(world: &World, debt: &'static str, topic: &'static str) -> Result<i64> {
    let before = world.db.number("SELECT coalesce(max(entry), 0) FROM tidelock.quarantine")?;
    world.owe(debt, move |world| {
        world.lab.cluster().allow(Right::Write(topic))?;
        thread::sleep(LEARNT_WITHIN);
        let released = release(world, before)?;
        world.history.note("released", json!({ "topic": topic, "quarantined": released }))
    });
    world.lab.cluster().deny(Right::Write(topic))?;
    Ok(before)
}

fn quarantined(world: &World, before: i64) -> Result<i64> {
    world.db.number(format!("SELECT count(*) FROM tidelock.quarantine WHERE entry > {before}"))
}

/// Releases whatever came into the quarantine since, until nothing does; answers how many messages there were.
fn release(world: &World, before: i64) -> Result<usize> {
    let framework = world.db.framework()?;
    let deadline = Instant::now() + RELEASED_WITHIN;
    let (mut seen, mut empty) = (HashSet::new(), 0);
    // A transaction that was refused may still be about to tell so.
    while empty < 5 {
        if Instant::now() > deadline {
            let left = quarantined(world, before)?;
            return Err(
                format!("{left} messages are still in the quarantine after {RELEASED_WITHIN:?}").into()
            );
        }
        let mut entries = world.db.block_on(framework.quarantine(1_000))?;
        entries.retain(|entry| entry.entry > before);
        let mut asked = HashSet::new();
        for entry in entries {
            seen.insert(entry.id.to_string());
            let under_key = (entry.topic, entry.key.as_bytes().map(<[u8]>::to_vec));
            // One call is for a whole key.
            if !entry.release_asked && (under_key.1.is_none() || asked.insert(under_key)) {
                // It may be on its way already.
                world.db.block_on(framework.release(entry.id)).ok();
            }
        }
        empty = if quarantined(world, before)? == 0 { empty + 1 } else { 0 };
        thread::sleep(Duration::from_millis(200));
    }
    Ok(seen.len())
}
