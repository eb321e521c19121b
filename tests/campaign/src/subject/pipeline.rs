//! The role `pipeline`: relay and processor in one process.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use tidelock::{
    database::postgres::Postgres, health::State, log::kafka::Kafka, pipeline::Pipeline, processor::Processor,
};
use tidelock_campaign::{Result, tables};
use tracing::{error, info};

use crate::handler::{Copier, TOPICS};

/// How long a component may have given up until the process ends for it.
const GIVEN_UP: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);
const STOP_WITHIN: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(crate) struct Options {
    /// A stable name of the instance; none without
    #[arg(long)]
    instance: Option<String>,
    /// The directory of the run, where trouble is told
    #[arg(long)]
    directory: PathBuf,
    /// Leave the relay out
    #[arg(long)]
    no_relay: bool,
    #[command(flatten)]
    names: Names,
}

/// What belongs to the scene.
#[derive(Args, Clone)]
pub(crate) struct Names {
    /// The topic that is handled
    #[arg(long, default_value = tables::INPUT)]
    input: String,
    /// The topic that is emitted to
    #[arg(long, default_value = tables::OUTPUT)]
    output: String,
    /// The group
    #[arg(long, default_value = tables::GROUP)]
    group: String,
    /// The table of effects
    #[arg(long, default_value = tables::EFFECTS)]
    effects: String,
}

impl Default for Names {
    fn default() -> Self {
        let [input, output, group, effects] =
            [tables::INPUT, tables::OUTPUT, tables::GROUP, tables::EFFECTS].map(str::to_owned);
        Self { input, output, group, effects }
    }
}

/// The pipeline as every role builds it.
pub(crate) async fn build(
    directory: PathBuf,
    instance: Option<String>,
    relay: bool,
    names: Names,
) -> Result<Pipeline> {
    TOPICS.get_or_init(|| (names.input, names.output));
    let settings = crate::settings()?;
    let database = connect(&settings.database).await?;
    let mut builder = Pipeline::builder(Kafka::new(settings.kafka)?, database)
        .processor_defaults(settings.processor)
        .processor(Processor::new(names.group).handle(Copier::new(directory, &names.effects)));
    if relay {
        builder = builder.relay(settings.relay);
    }
    if let Some(instance) = instance {
        builder = builder.instance(instance);
    }
    Ok(builder.build()?)
}

/// A process that is started while the database is away waits for it, as a service that is restarted would.
pub(crate) async fn connect(config: &tidelock::database::postgres::PostgresConfig) -> Result<Postgres> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match Postgres::connect(config.clone()).await {
            Ok(database) => return Ok(database),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(error) => info!(%error, "no database yet"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let told = crate::told_to_stop();
    let pipeline = build(options.directory, options.instance, !options.no_relay, options.names).await?;
    serve(pipeline, &told, GIVEN_UP).await
}

/// Starts it, tells its health, and stops it when told; an error when a component has given up for so long.
pub(crate) async fn serve(pipeline: Pipeline, told: &AtomicBool, given_up_for: Duration) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while let Err(error) = pipeline.start().await {
        if Instant::now() > deadline || told.load(Ordering::Relaxed) {
            return Err(error.into());
        }
        info!(%error, "no brokers yet");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut failed_since: Option<Instant> = None;
    let mut last = pipeline.health();
    while !told.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
        let now = pipeline.health();
        if now != last {
            info!(health = ?now, "health");
            last = now;
        }
        let given_up = last.values().any(|state| matches!(state, State::Failed(_)));
        failed_since = given_up.then(|| failed_since.unwrap_or_else(Instant::now));
        if failed_since.is_some_and(|since| since.elapsed() > given_up_for) {
            error!(health = ?last, "given up");
            return Err(format!("a component has given up: {last:?}").into());
        }
    }
    pipeline.stop(STOP_WITHIN).await?;
    info!("stopped");
    Ok(())
}
