//! Class 8: the database server. Fail-over and restore need a second server.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::PgConnection;
use tidelock_campaign::{
    Result,
    trouble::{Kind, Trouble},
};
use tidelock_lab::{Server, proxy::request};

use super::wake;
use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Inject, Ongoing, Part},
    world::World,
};

/// Ends every session of a subject.
const SUBJECTS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
     WHERE starts_with(application_name, 'subject-')";
/// As the server's log says it.
const DEADLOCK: &str = "deadlock detected";
const SERIALIZATION: &str = "could not serialize access";
const WAIT: Duration = Duration::from_secs(10);

pub(super) fn faults() -> Vec<Fault> {
    let mut faults = vec![
        server("database-killed", "kill -9 of the server and all its backends", Server::kill),
        server(
            "postmaster-killed",
            "kill -9 of the server's first process alone: its backends find out by themselves",
            Server::kill_first,
        ),
        server(
            "database-stopped-hard",
            "immediate stop of the server: recovery at the next start",
            Server::stop_immediate,
        ),
        server(
            "database-restarted",
            "fast stop of the server: every transaction is rolled back",
            Server::stop,
        ),
        server("database-frozen", "SIGSTOP of the server and all its backends", Server::pause),
    ];
    faults.push(sql(
        "backends-terminated",
        "every session of a subject is ended, several times",
        0..=0,
        Box::new(|world, rng| {
            let times = rng.u32(1..=4);
            for _ in 0..times {
                world.db.number(SUBJECTS)?;
                world.sleep(Duration::from_millis(rng.u64(50..700)));
            }
            Ok(Ongoing::new(format!("{times} times"), |_| Ok(())))
        }),
    ));
    faults.push(sql(
        "commit-answers-lost",
        "COMMITs arrive, their answers do not",
        0..=0,
        Box::new(|world, rng| {
            let times = rng.u32(3..=12);
            let mut lost = 0;
            for _ in 0..times {
                let trap =
                    world.lab.postgres_proxy().cut_after_request(request::postgres_commit, Duration::ZERO);
                lost += u32::from(trap.wait(Duration::from_secs(2)));
                world.sleep(Duration::from_millis(rng.u64(0..200)));
            }
            Ok(Ongoing::new(format!("{lost} answers"), |_| Ok(())).only_if(lost > 0))
        }),
    ));
    faults.push(sql(
        "stopped-during-commit",
        "the server is stopped hard while a COMMIT waits before it",
        0..=1_000,
        Box::new(|world, rng| {
            let trap = world.lab.postgres_proxy().hold_request(request::postgres_commit);
            let held = trap.wait(WAIT);
            let stopped = std::thread::scope(|scope| {
                let stopping = scope.spawn(|| world.lab.postgres().stop_immediate());
                std::thread::sleep(Duration::from_millis(rng.u64(0..30)));
                trap.release();
                stopping.join().map_err(|_| "the stop panicked")
            });
            stopped??;
            Ok(Ongoing::new("postgres", |world| Ok(world.lab.postgres().start()?)).only_if(held))
        }),
    ));
    faults.push(sql(
        "too-many-connections",
        "all connections of the server are taken, and the subjects lose theirs",
        3_000..=8_000,
        Box::new(|world, _| {
            let taken = take_all(world)?;
            Ok(Ongoing::new(format!("{} connections", taken.len()), move |_| {
                drop(taken);
                Ok(())
            }))
        }),
    ));
    faults.push(sql(
        "lock-timeout",
        "locks are waited for no longer than 20 ms, while a rival holds some",
        3_000..=6_000,
        Box::new(|world, _| {
            set(world, "lock_timeout", "20ms")?;
            let mut rival = world.db.session()?;
            for statement in [
                "SET lock_timeout = 0",
                "BEGIN",
                "SELECT FROM campaign.counter ORDER BY key LIMIT 20 FOR UPDATE",
                "SELECT FROM tidelock.fence ORDER BY partition LIMIT 3 FOR UPDATE",
            ] {
                world.db.run_in(&mut rival, statement)?;
            }
            Ok(Ongoing::new("20 counters, 3 fences", move |world| {
                world.db.run_in(&mut rival, "ROLLBACK")?;
                reset(world, "lock_timeout")
            }))
        }),
    ));
    faults.push(sql(
        "statement-timeout",
        "the server ends every statement that takes longer than 10 ms",
        3_000..=6_000,
        Box::new(|world, _| {
            set(world, "statement_timeout", "10ms")?;
            Ok(Ongoing::new("10 ms", |world| reset(world, "statement_timeout")))
        }),
    ));
    faults.push(sql(
        "deadlocks",
        "handlers lock shared rows in any order, and a rival in the reverse",
        4_000..=8_000,
        Box::new(|world, _| {
            let before = said(world, DEADLOCK);
            world.trouble(Some(Trouble { kind: Kind::Meet, share: 0.3 }))?;
            let mut rival = world.db.session()?;
            let update = |bucket: i32| format!("UPDATE campaign.tally SET n = n + 1 WHERE bucket = {bucket}");
            let deadline = Instant::now() + WAIT;
            while said(world, DEADLOCK) == before && Instant::now() < deadline && !world.interrupted() {
                world.db.run_in(&mut rival, "BEGIN")?;
                for bucket in [2, 1, 0] {
                    // It may be the one that the server ends: then it was a deadlock.
                    world.db.run_in(&mut rival, update(bucket)).ok();
                    world.sleep(Duration::from_millis(300));
                }
                world.db.run_in(&mut rival, "ROLLBACK")?;
            }
            let came = said(world, DEADLOCK) > before;
            Ok(Ongoing::new("campaign.tally", move |world| {
                world.trouble(None)?;
                came_about(world, "deadlocks", DEADLOCK, before)
            })
            .only_if(came))
        }),
    ));
    for level in ["repeatable read", "serializable"] {
        let name = format!("isolation-{}", level.replace(' ', "-"));
        faults.push(sql(
            &name,
            &format!("every transaction is {level}, and handlers meet in shared rows"),
            4_000..=8_000,
            Box::new(move |world, _| {
                set(world, "default_transaction_isolation", level)?;
                let before = said(world, SERIALIZATION);
                world.trouble(Some(Trouble { kind: Kind::Meet, share: 0.02 }))?;
                Ok(Ongoing::new(level, move |world| {
                    world.trouble(None)?;
                    reset(world, "default_transaction_isolation")?;
                    came_about(world, "serialization failures", SERIALIZATION, before)
                }))
            }),
        ));
    }
    faults
}

/// How often the server's log says so.
fn said(world: &World, what: &str) -> usize {
    let log = fs::read(world.lab.postgres().log()).unwrap_or_default();
    String::from_utf8_lossy(&log).matches(what).count()
}

/// Notes how often that came about.
fn came_about(world: &World, what: &str, log: &str, before: usize) -> Result<()> {
    world
        .history
        .note("came about", json!({ "what": what, "times": said(world, log).saturating_sub(before) }))
}

fn sql(name: &str, doc: &str, lasts_ms: std::ops::RangeInclusive<u64>, inject: Inject) -> Fault {
    Fault {
        class: Class::Database,
        name: name.into(),
        doc: doc.into(),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms,
        touches: &[Part::Database, Part::Handler],
        inject,
    }
}

fn server(name: &str, doc: &str, act: fn(&Server) -> tidelock_lab::Result<()>) -> Fault {
    Fault {
        class: Class::Database,
        name: name.into(),
        doc: doc.into(),
        must_hold: EXACTLY_ONCE,
        within: None,
        lasts_ms: 0..=5_000,
        touches: &[Part::Database],
        inject: Box::new(move |world, _| {
            act(world.lab.postgres())?;
            Ok(Ongoing::new("postgres", |world| wake(world.lab.postgres())))
        }),
    }
}

/// A setting for every session from now on; those there are end.
fn set(world: &World, name: &str, value: &str) -> Result<()> {
    world.db.run(format!("ALTER DATABASE postgres SET {name} = '{value}'"))?;
    world.db.number(SUBJECTS)?;
    Ok(())
}

fn reset(world: &World, name: &str) -> Result<()> {
    let mut session = world.db.session()?;
    world.db.run_in(&mut session, "SET statement_timeout = 0")?;
    world.db.run_in(&mut session, format!("ALTER DATABASE postgres RESET {name}"))?;
    world.db.run_in(&mut session, SUBJECTS)?;
    Ok(())
}

/// Ends the subjects' sessions and takes every connection there is.
fn take_all(world: &World) -> Result<Vec<PgConnection>> {
    let mut taken = Vec::new();
    for _ in 0..3 {
        world.db.number(SUBJECTS).ok();
        while let Ok(session) = world.db.session() {
            taken.push(session);
            if taken.len() > 1000 {
                return Err("the server takes more than 1000 connections".into());
            }
        }
    }
    Ok(taken)
}
