//! `subject`: a process that embeds tidelock, for `campaign` to torment. Ends cleanly when its standard input closes.
#![allow(clippy::print_stderr, reason = "a program says why it ends")]

mod book;
mod forms;
mod handler;
mod pipeline;
mod side;
mod storm;
mod styles;
mod writer;

use std::{
    io::Read,
    process::ExitCode,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

use clap::{Parser, Subcommand};
use tidelock::settings::Settings;
use tidelock_campaign::Result;

#[derive(Parser)]
#[command(name = "subject", about = "A process that embeds tidelock, for the campaign to torment")]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Relay and processor
    Pipeline(pipeline::Options),
    /// A processor of a topic that a fault has for itself
    Side(side::Options),
    /// Business transactions
    Writer(writer::Options),
    /// Messages of hostile sizes and forms
    Forms(forms::Options),
    /// A member of the processor's group that joins and leaves
    Storm(storm::Options),
    /// Creates or upgrades the framework's tables
    Migrate,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "tidelock=info,subject=info,warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let done = match Cli::parse().role {
        Role::Pipeline(options) => pipeline::run(options).await,
        Role::Side(options) => side::run(options).await,
        Role::Writer(options) => writer::run(options).await,
        Role::Forms(options) => forms::run(options).await,
        Role::Storm(options) => storm::run(options).await,
        Role::Migrate => migrate().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("subject: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn migrate() -> Result<()> {
    Ok(pipeline::connect(&settings()?.database).await?.migrate().await?)
}

/// The settings in the environment, under the prefix `TIDELOCK_`.
fn settings() -> Result<Settings> {
    Ok(Settings::from_env("TIDELOCK_")?)
}

/// True once standard input has closed: whoever started this process wants it to end, or is gone.
fn told_to_stop() -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(false));
    let of_thread = Arc::clone(&told);
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        of_thread.store(true, Ordering::Relaxed);
    });
    told
}
