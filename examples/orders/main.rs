//! The order pipeline: order -> inventory -> payment -> shipping, with compensation. See README.md beside this file.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program, not a library")]

#[cfg(all(test, feature = "testing"))]
mod crash_points;
mod events;
mod http;
mod inventory;
mod load;
mod options;
mod orders;
mod payment;
mod roles;
mod shipping;
mod shop;
mod verify;
mod verify_topics;

use std::{io::IsTerminal as _, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use tidelock::{
    database::sqlite::Sqlite,
    log::{Log, embedded::Embedded},
    prelude::*,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use options::Options;
use shop::Shop;
use verify_topics::Topics;

/// How long a stop may take until what is left is dropped, which loses nothing.
const STOP_WITHIN: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // A load has a progress bar to show.
    let usual = if options.load.is_some() { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    match run(options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("orders: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether everything was as it should be.
async fn run(options: Options) -> Result<bool, BoxError> {
    let settings = options.settings()?;
    let data = options.data();
    println!("on {}", options.form()?);
    let (log_file, tables) = (data.join("log.db"), data.join("orders.db"));
    if options.verify_only {
        let wanted = [(options.kafka.is_none(), &log_file), (options.database.is_none(), &tables)];
        if let Some((_, file)) = wanted.iter().find(|(own, file)| *own && !file.exists()) {
            return Err(format!("nothing to verify: there is no {}", file.display()).into());
        }
    }
    std::fs::create_dir_all(&data).map_err(|error| format!("folder {}: {error}", data.display()))?;
    let (log, topics): (Arc<dyn Log>, Topics) = match &options.kafka {
        Some(brokers) => (Arc::new(Kafka::new(settings.kafka.clone())?), Topics::Kafka(brokers.clone())),
        None => {
            let log = Embedded::open(log_file).await?;
            (Arc::new(log.clone()), Topics::Embedded(log))
        }
    };
    match &options.database {
        Some(_) => {
            let database = Postgres::connect(settings.database.clone()).await?;
            run_on(options, settings, log, topics, database).await
        }
        None => {
            let database = Sqlite::open(tables).await?;
            run_on(options, settings, log, topics, database).await
        }
    }
}

async fn run_on<D: Shop>(
    options: Options,
    settings: Settings,
    log: Arc<dyn Log>,
    topics: Topics,
    database: D,
) -> Result<bool, BoxError> {
    if options.verify_only {
        return verify::run(&database, &topics).await;
    }
    let services = options.services();
    database.prepare(&services).await?;
    let pipeline = Arc::new(roles::pipeline(settings, log, &database, &services, options.instance.clone())?);
    pipeline.start().await?;
    if let Some(listen) = options.listen() {
        http::serve(listen, database.clone(), pipeline.clone(), &services).await?;
    }
    let work = async {
        match options.load {
            Some(orders) => load::run(&options, orders, &database, &pipeline, &topics).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        stopped = asked_to_stop() => stopped.map(|()| options.load.is_none()),
    };
    pipeline.stop(STOP_WITHIN).await?;
    outcome
}

async fn asked_to_stop() -> Result<(), BoxError> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
    }
    tracing::info!("asked to stop");
    Ok(())
}
