//! The role `storm`: a member of the processor's group that joins and leaves, again and again.

use std::{
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use clap::Args;
use tidelock_campaign::Result;
use tracing::info;

use crate::pipeline::{self, Names};

#[derive(Args)]
pub(crate) struct Options {
    /// The directory of the run
    #[arg(long)]
    directory: PathBuf,
    /// Joins under a stable name; without it every join is a new member
    #[arg(long)]
    instance: Option<String>,
    /// How long it stays, and how long it stays away, in ms
    #[arg(long, default_value_t = 500)]
    every: u64,
    /// How often it joins
    #[arg(long)]
    times: u32,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let told = crate::told_to_stop();
    let every = Duration::from_millis(options.every);
    for round in 0..options.times {
        if told.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let (directory, instance) = (options.directory.clone(), options.instance.clone());
        let pipeline = pipeline::build(directory, instance, false, Names::default()).await?;
        pipeline.start().await?;
        tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
        let stopping = Instant::now();
        pipeline.stop(Duration::from_secs(20)).await?;
        info!(round, stopped_ms = stopping.elapsed().as_millis() as u64, "left");
        tokio::time::sleep(every.saturating_sub(stopping.elapsed())).await;
    }
    Ok(())
}
