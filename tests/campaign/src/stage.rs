//! How a run begins: servers, tables, topics, subjects.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32},
    },
    time::Duration,
};

use serde_json::json;
use tidelock_campaign::{Result, tables};
use tidelock_lab::Lab;
use tokio::runtime::Runtime;

use crate::{
    Cli,
    class::Class,
    crew::Crew,
    database::Db,
    history::History,
    kafka::{Cluster, PARTITIONS, Pulse},
    machine,
    plan::Step,
    programs,
    role::Role,
    world::{PIPELINES, WRITER, World},
};

/// How long everything may take until it flows for the first time.
const FLOWS_WITHIN: Duration = Duration::from_secs(180);

/// The settings of every subject: short time-outs, and nothing that would hide a duplicate.
fn settings(lab: &Lab, cli: &Cli) -> Vec<(String, String)> {
    let assignor = cli.assignor();
    let set = [
        ("KAFKA_BROKERS", lab.proxied_kafka_url()),
        ("DATABASE_URL", lab.proxied_database_url()),
        ("DATABASE_IDLE_IN_TRANSACTION_TIMEOUT", "5s".into()),
        ("DATABASE_ANSWER_TIMEOUT", "10s".into()),
        ("DATABASE_CONNECT_TIMEOUT", "5s".into()),
        ("KAFKA_TOPIC_PARTITIONS", PARTITIONS.to_string()),
        ("KAFKA_REPLICATION_FACTOR", "3".into()),
        ("KAFKA_MIN_INSYNC_REPLICAS", "2".into()),
        ("KAFKA_SESSION_TIMEOUT", "6s".into()),
        ("KAFKA_HEARTBEAT_INTERVAL", "1s".into()),
        ("KAFKA_TRANSACTION_TIMEOUT", "10s".into()),
        ("KAFKA_SOCKET_TIMEOUT", "3s".into()),
        ("KAFKA_CALL_TIMEOUT", "12s".into()),
        ("RELAY_NAME", tables::GROUP.into()),
        ("RELAY_SHARDS", "2".into()),
        ("RELAY_DATABASE_TIMEOUT", "10s".into()),
        ("RELAY_ASSIGNOR", assignor.into()),
        ("PROCESSOR_ASSIGNOR", assignor.into()),
        // It would hide a duplicate.
        ("PROCESSOR_INBOX", "false".into()),
        ("VARIANTS", cli.leave_out.join(";")),
    ];
    set.into_iter().map(|(name, value)| (format!("TIDELOCK_{name}"), value)).collect()
}

/// Starts everything and waits until messages flow through every partition.
pub(crate) fn set(
    cli: &Cli,
    checker: &Path,
    directory: &Path,
    run: &str,
    steps: &[Step],
    rate: f64,
    interrupted: Arc<AtomicBool>,
) -> Result<World> {
    // Only then: a database with a clock of its own is not quite what people run.
    let clocks = steps.iter().any(|step| step.class == Class::Clock);
    let subject = programs::program("tidelock-campaign", "subject")?;
    let lab = Lab::builder().brokers(3).proxied(true).authorizer(true).movable_clock(clocks);
    // As brokers are unless they are told otherwise.
    let lab = lab.kafka_setting("auto.create.topics.enable", true);
    // A broker that comes back leads nothing until somebody looks, every five minutes unless told otherwise. With a fault every few
    // seconds one broker would soon lead everything, and it answers the requests of one connection one after the other.
    let lab = lab.kafka_setting("leader.imbalance.check.interval.seconds", 5);
    let lab = lab.java_option("-XX:TieredStopAtLevel=1");
    let lab = Arc::new(lab.postgres_setting("max_connections", 120).start()?);
    let runtime = Arc::new(Runtime::new()?);
    let db = Db::new(Arc::clone(&runtime), lab.database_url())?;
    db.prepare()?;
    let cluster = Cluster::new(lab.kafka_url())?;
    runtime.block_on(cluster.create_topics(&[tables::INPUT, tables::OUTPUT]))?;
    let pulse = Pulse::start(&lab.kafka_url())?;
    let history = Arc::new(History::create(&directory.join("history.jsonl"))?);
    let mut facts = machine::facts();
    facts["seed"] = json!(cli.seed);
    facts["messages"] = json!(cli.messages);
    facts["faults"] = json!(steps.len());
    facts["rate"] = json!(rate);
    facts["assignor"] = json!(cli.assignor());
    facts["left_out"] = json!(cli.leave_out);
    facts["run"] = json!(run);
    facts["postgres"] = json!(
        db.rows("SHOW server_version")?.first().and_then(|row| sqlx::Row::try_get::<String, _>(row, 0).ok())
    );
    history.note("start", facts)?;
    let crew = Crew::new(subject, directory, run, settings(&lab, cli), Arc::clone(&history));
    let directory = directory.to_owned();
    let world = World {
        lab,
        cluster,
        db,
        pulse,
        crew,
        history,
        run: run.to_owned(),
        directory,
        held: cli.held(),
        debts: Mutex::default(),
        sides: AtomicU32::new(0),
        interrupted,
        backlog: cli.backlog,
        previous: cli.previous.clone(),
        checker: checker.to_owned(),
    };
    for name in PIPELINES {
        world.crew.hire(name, Role::pipeline(name))?;
    }
    world.crew.hire(WRITER, Role::Writer { style: "plain", connections: 6, rate, keys: 300, hold_ms: 0 })?;
    if !world.until(FLOWS_WITHIN, || world.pulse.reached() > 0) && !world.interrupted() {
        return Err(format!(
            "nothing came through {} within {FLOWS_WITHIN:?}",
            world.pulse.behind(1).join(", ")
        )
        .into());
    }
    crate::run::look_behind(&world, "start", crate::history::now());
    Ok(world)
}
