//! Class 10: full disks, by a limit to the size of a server's files.

use std::time::Duration;

use tidelock_campaign::{Result, tables};
use tidelock_lab::Server;

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    kafka::Role,
    world::World,
};

/// A dead broker's session (3 s), the election, the clients' way to the new leader.
const ELECTED: Duration = Duration::from_secs(15);
/// More than a segment of WAL, so that WAL is written.
const TABLES: u64 = 17 << 20;
/// Less than a segment of WAL, so that none is.
const WAL: u64 = 4 << 20;
/// Less than every log.
const LOGS: u64 = 1 << 10;
/// Less than the indexes of a new segment (10 MB each), more than the logs of a small run.
const SEGMENTS: u64 = 9 << 20;
const SEGMENT: &str = "segment.bytes";

const ROLES: [(Role, &str); 3] =
    [(Role::Data, "data-leader"), (Role::Transactions, "transaction-leader"), (Role::Group, "group-leader")];

/// Tables, and the insert of some 20 MB that is rolled back: the file is then larger than the limit.
const GROWN: [(&str, &str); 2] = [
    (
        "tidelock.outbox",
        "INSERT INTO tidelock.outbox (topic, payload) SELECT 'never', \
         (SELECT string_agg(sha256((row * 100 + part)::text::bytea), '') FROM generate_series(1, 58) part) \
         FROM generate_series(1, 11000) row",
    ),
    ("campaign.effect", "INSERT INTO campaign.effect SELECT 0, 0, 0, 0 FROM generate_series(1, 380000)"),
];

pub(super) fn faults() -> Vec<Fault> {
    let mut faults: Vec<Fault> = GROWN
        .iter()
        .map(|(table, insert)| {
            let name = table.rsplit('.').next().unwrap_or_default();
            database(
                &format!("disk-full-{name}"),
                &format!("{table} cannot grow any more: every statement that needs a new page fails"),
                3_000..=8_000,
                Box::new(move |world| {
                    let mut session = world.db.session()?;
                    for statement in ["BEGIN", insert, "ROLLBACK"] {
                        world.db.run_in(&mut session, statement)?;
                    }
                    limit(world, world.lab.postgres(), TABLES)
                }),
            )
        })
        .collect();
    faults.push(database(
        "disk-full-wal",
        "the database can write no WAL any more: it panics, recovers, and gives up",
        2_000..=5_000,
        Box::new(|world| limit(world, world.lab.postgres(), WAL)),
    ));
    for (role, name) in ROLES {
        faults.push(Fault {
            class: Class::Disk,
            name: format!("disk-full-{name}"),
            doc: format!("a broker can append to no log any more, and halts: {}", super::brokers::duty(role)),
            must_hold: EXACTLY_ONCE,
            within: Some(ELECTED),
            lasts_ms: 3_000..=8_000,
            touches: &[Part::Brokers],
            inject: Box::new(move |world, rng| {
                let at = world.broker(role, rng.i32(0..1000))?;
                let server = world.lab.broker(at);
                limit(world, server, LOGS)?;
                let halted = world.until(Duration::from_secs(3), || server.pid().is_none());
                let lives = if halted { "" } else { ", which lives on so far" };
                Ok(Ongoing::new(format!("{}{lives}", server.name()), move |world| {
                    unlimited(world, world.lab.broker(at))
                }))
            }),
        });
    }
    faults.push(Fault {
        class: Class::Disk,
        name: "disk-full-at-a-new-segment".into(),
        doc: "a broker that leads a partition of the input can begin no new segment".into(),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: 5_000..=10_000,
        touches: &[Part::Alone],
        inject: Box::new(|world, rng| {
            let at = world.broker(Role::Data, rng.i32(0..1000))?;
            limit(world, world.lab.broker(at), SEGMENTS)?;
            world.owe(SEGMENT, |world| Ok(world.lab.cluster().set_topic(tables::INPUT, SEGMENT, None)?));
            world.lab.cluster().set_topic(tables::INPUT, SEGMENT, Some("1048576"))?;
            Ok(Ongoing::new(world.lab.broker(at).name(), move |world| {
                let halted = world.lab.broker(at).pid().is_none();
                world.history.note("disk", serde_json::json!({ "broker": at, "halted": halted }))?;
                unlimited(world, world.lab.broker(at))?;
                world.pay(SEGMENT)
            }))
        }),
    });
    faults
}

type Act = Box<dyn Fn(&World) -> Result<()> + Send + Sync>;

fn database(name: &str, doc: &str, lasts_ms: std::ops::RangeInclusive<u64>, act: Act) -> Fault {
    Fault {
        class: Class::Disk,
        name: name.into(),
        doc: doc.into(),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms,
        touches: &[Part::Database],
        inject: Box::new(move |world, _| {
            act(world)?;
            Ok(Ongoing::new("postgres", |world| unlimited(world, world.lab.postgres())))
        }),
    }
}

/// Limits a server's files; lifted at the latest when the world is mended.
fn limit(world: &World, server: &Server, bytes: u64) -> Result<()> {
    let name = server.name().to_owned();
    world.owe(owed(server), move |world| {
        let limited = world.lab.servers().find(|server| server.name() == name);
        limited.map_or(Ok(()), lift)
    });
    Ok(server.limit_file_size(Some(bytes))?)
}

fn owed(server: &Server) -> String {
    format!("limit of {}", server.name())
}

fn unlimited(world: &World, server: &Server) -> Result<()> {
    world.pay(&owed(server))
}

/// The limit dies with the process.
fn lift(server: &Server) -> Result<()> {
    if server.pid().is_some()
        && let Err(failure) = server.limit_file_size(None)
        && server.pid().is_some()
    {
        return Err(failure.into());
    }
    Ok(server.start()?)
}
