//! The course of a run: begin, faults, end, verdict.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use serde_json::json;
use tidelock_campaign::{Result, tables};

use crate::{
    Cli,
    checker::Checker,
    crew::{MOST_MEMORY, SUBJECT},
    fault::{Fault, Ongoing},
    faults::GUESTS,
    history::now,
    plan::{self, Step},
    programs, stage, table,
    world::{PIPELINES, WRITER, World},
};

/// The most that is asked for, in messages a second; two cores bear less (RESULTS.md).
const MOST_RATE: f64 = 3000.0;
/// How long everything may take to flow again after a fault.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
/// How long everything may take to have flowed when nothing new comes.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);
/// How long the sessions of writers that are gone may go on.
const SESSIONS_END_WITHIN: Duration = Duration::from_secs(20);

/// What is known of one fault that was injected.
pub(crate) struct Injected {
    pub(crate) step: Step,
    pub(crate) what: String,
    pub(crate) came_about: bool,
    /// How long after its healing every partition had shown something newer, as the campaign itself saw it.
    pub(crate) recovery: Option<Duration>,
}

/// Runs it; true if nothing is wrong.
pub(crate) fn run(cli: &Cli, faults: &[Fault], steps: &[Step]) -> Result<bool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let of_signal = Arc::clone(&interrupted);
    let run = format!("c{}-{}", cli.seed, now());
    let directory = directory(cli, &run)?;
    let rate = cli.rate.unwrap_or_else(|| {
        let lasts = plan::about(steps).as_secs_f64().max(10.0);
        (cli.messages as f64 / lasts).clamp(50.0, MOST_RATE)
    });
    println!(
        "run {run}: {} faults under {rate:.0} messages a second; logs in {}",
        steps.len(),
        directory.display()
    );
    let checker = programs::program("tidelock-checker", "checker")?;
    let world = stage::set(cli, &checker, &directory, &run, steps, rate, interrupted)?;
    world.db.spawn(async move {
        tokio::signal::ctrl_c().await.ok();
        of_signal.store(true, Ordering::Relaxed);
    });
    let mut checker = Checker::watch(checker, &directory, &world.lab.kafka_url(), &run)?;
    let began = Instant::now();
    let mut injected = Vec::new();
    for step in steps {
        world.sleep(step.pause);
        if world.interrupted() {
            break;
        }
        let done = inject(&world, &faults[step.fault], step)?;
        println!("{}", table::line(&world, began.elapsed(), steps.len(), &done));
        injected.push(done);
    }
    finish(&world, cli, rate)?;
    let drained = drain(&world);
    stop_all(&world)?;
    checker.stop_watching()?;
    let report = checker.judge(world.db.url(), world.history.path())?;
    let findings = world.crew.findings();
    let memory = world.crew.memory();
    let clean = report.clean && findings.is_empty() && drained && !world.interrupted();
    world.history.note(
        "verdict",
        json!({
            "clean": clean, "records_in": world.pulse.records(tables::INPUT), "records_out": world.pulse.records(tables::OUTPUT),
            "drained": drained, "interrupted": world.interrupted(), "findings": findings,
            "memory_peak_bytes": memory, "memory_bound_bytes": MOST_MEMORY,
            "checker": report.verdicts.iter().map(|verdict| (verdict.class.clone(), json!(verdict.count)))
                .collect::<serde_json::Map<_, _>>(),
        }),
    )?;
    println!("{}", table::verdict(&injected, &report, world.pulse.records(tables::INPUT), began.elapsed()));
    println!("{}", table::memory(&memory));
    findings.iter().for_each(|finding| println!("finding: {finding}"));
    if !drained {
        println!("finding: not everything had come through {DRAINED_WITHIN:?} after the end");
    }
    if !report.clean {
        println!("{}", fs::read_to_string(directory.join("judge.txt"))?);
    }
    let verdict = match clean {
        true => "clean",
        false if world.interrupted() => "interrupted",
        false => "WRONG",
    };
    println!("{verdict}, seed {}", cli.seed);
    drop(world);
    if clean && !cli.keep {
        clear(&directory)?;
        println!("the history is in {}", directory.display());
    } else {
        println!("logs and history are in {}", directory.display());
    }
    Ok(clean)
}

/// Of a clean run, what happened and how it was judged is enough.
fn clear(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let kept = ["history.jsonl", "judge.txt"].iter().any(|name| path.ends_with(name));
        match path.is_dir() {
            true => fs::remove_dir_all(&path)?,
            false if !kept => fs::remove_file(&path)?,
            false => {}
        }
    }
    Ok(())
}

fn directory(cli: &Cli, run: &str) -> Result<PathBuf> {
    let below = cli.directory.clone().unwrap_or_else(|| {
        let exe = std::env::current_exe().unwrap_or_default();
        exe.ancestors().nth(2).unwrap_or(Path::new("target")).join("campaign")
    });
    let directory = below.join(run);
    fs::create_dir_all(&directory)?;
    Ok(directory.canonicalize()?)
}

/// One fault from its beginning until everything flows again.
fn inject(world: &World, fault: &Fault, step: &Step) -> Result<Injected> {
    let begun = now();
    world.history.note_at(
        begun,
        "fault",
        json!({
            "id": step.number, "class": step.class.name(), "what": fault.name,
            "allows_progress": fault.within.is_some(), "within_ms": fault.within.map(|within| within.as_millis() as u64),
        }),
    )?;
    let ongoing = (fault.inject)(world, &mut Rng::with_seed(step.seed)).unwrap_or_else(|failure| {
        world.crew.find(&fault.name, &format!("could not be done: {failure}"));
        Ongoing::new(format!("not done: {failure}"), |_| Ok(())).only_if(false)
    });
    let (what, came_about) = (ongoing.what.clone(), ongoing.came_about);
    world.history.note("injected", json!({ "id": step.number, "what": what, "came_about": came_about }))?;
    world.sleep(step.lasts);
    if let Err(failure) = ongoing.heal(world) {
        world.crew.find(&fault.name, &format!("could not be healed: {failure}"));
    }
    let mended = world.mend();
    if !mended.is_empty() {
        world.history.note("mended", json!({ "id": step.number, "names": mended }))?;
    }
    let healed = now();
    world.history.note_at(healed, "healed", json!({ "id": step.number }))?;
    let from = Instant::now();
    let recovered = world.until(RECOVERED_WITHIN, || world.pulse.reached() >= healed);
    let recovery = recovered.then(|| from.elapsed());
    if !recovered && !world.interrupted() {
        let behind = world.pulse.behind(healed).join(", ");
        world.crew.find(&fault.name, &format!("is not got over after {RECOVERED_WITHIN:?}: {behind}"));
    }
    look_behind(world, &fault.name, healed);
    world.history.note(
        "recovered",
        json!({ "id": step.number, "after_ms": recovery.map(|after| after.as_millis() as u64) }),
    )?;
    Ok(Injected { step: step.clone(), what, came_about, recovery })
}

/// Every partition moves already when one of the relay's shards does: no row may stay behind in the outbox either.
pub(crate) fn look_behind(world: &World, after: &str, since: u64) {
    let old = format!(
        "SELECT count(*) FROM tidelock.outbox WHERE created_at < to_timestamp({}) AND NOT EXISTS \
         (SELECT FROM tidelock.quarantine WHERE quarantine.key IS NOT DISTINCT FROM outbox.key)",
        since as f64 / 1000.0
    );
    let passed = world.until(RECOVERED_WITHIN, || {
        let left = world.db.number(&*old).unwrap_or(-1);
        if left != 0 {
            world.sleep(Duration::from_millis(100));
        }
        left == 0
    });
    if !passed && !world.interrupted() {
        let left = world.db.number(old).map_or_else(|failure| failure.to_string(), |left| left.to_string());
        world.crew.find(after, &format!("left {left} messages in the outbox for {RECOVERED_WITHIN:?}"));
    }
}

/// Waits until enough was committed, and ends the load.
fn finish(world: &World, cli: &Cli, rate: f64) -> Result<()> {
    let limit = Duration::from_secs_f64(cli.messages as f64 / rate * 3.0 + 60.0);
    // What was seen in the input stands in the ledger; counting that would take long.
    let enough = || world.pulse.records(tables::INPUT) >= cli.messages;
    if !world.until(limit, enough) && !world.interrupted() {
        world.crew.find(WRITER, &format!("did not commit {} messages within {limit:?}", cli.messages));
    }
    world.crew.dismiss(WRITER)?;
    for guest in world.crew.names(GUESTS) {
        world.crew.dismiss(&guest)?;
    }
    // A session whose client is gone may still be about to commit.
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE application_name = '{SUBJECT}{WRITER}' OR starts_with(application_name, '{SUBJECT}{GUESTS}')"
    );
    world.until(SESSIONS_END_WITHIN, || world.db.number(&*sessions).is_ok_and(|left| left == 0));
    world.demand("what writers had left prepared", "that it was committed", SESSIONS_END_WITHIN, || {
        world.finish_prepared()
    });
    world.history.note("writers-done", json!({ "ledger": world.db.ledger()? }))
}

/// Waits until the outbox is empty and the group stands at the end; false if that took too long.
fn drain(world: &World) -> bool {
    let at_the_end = || {
        let empty = world.db.number("SELECT count(*) FROM tidelock.outbox").is_ok_and(|rows| rows == 0);
        let committed = world.cluster.committed().unwrap_or_default();
        let last = world.pulse.last_offsets();
        let reached = |(committed, last): (&Option<i64>, &Option<i64>)| match last {
            Some(last) => committed.is_some_and(|committed| committed > *last),
            None => true,
        };
        empty && committed.len() == last.len() && committed.iter().zip(&last).all(reached)
    };
    let deadline = Instant::now() + DRAINED_WITHIN;
    let mut before = None;
    // Twice in a row with the same number of records: nothing is on its way.
    while Instant::now() < deadline {
        let records = (world.pulse.records(tables::INPUT), world.pulse.records(tables::OUTPUT));
        let now = at_the_end().then_some(records);
        if now.is_some() && now == before {
            return true;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(700));
    }
    false
}

fn stop_all(world: &World) -> Result<()> {
    PIPELINES.iter().try_for_each(|name| world.crew.dismiss(name))
}
