//! `lab`: real Kafka and PostgreSQL for a terminal or for one command.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use clap::{Parser, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidelock_lab::{Builder, Lab, fetch, root};
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
#[command(name = "lab", about = "Runs real Kafka brokers and a real PostgreSQL server on this machine")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start both and keep them until Ctrl-C
    Up {
        /// How many brokers: 1 or 3
        #[arg(long, default_value_t = 1)]
        brokers: usize,
        /// Keep the data under this name for the next start
        #[arg(long)]
        name: Option<String>,
    },
    /// Start both, run a command, stop both, and exit as the command did
    Run {
        /// How many brokers: 1 or 3
        #[arg(long, default_value_t = 1)]
        brokers: usize,
        /// The command; {kafka} and {database} in its arguments become the addresses
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Fetch Kafka's jars and do nothing else
    Fetch,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Up { brokers, name } => up(Lab::builder().brokers(brokers), name).await,
        Task::Run { brokers, command } => run(brokers, &command).await,
        Task::Fetch => fetch(&root()).map_err(Failure::from).map(|jars| {
            println!("{}", jars.display());
            ExitCode::SUCCESS
        }),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("lab: {failure}");
        ExitCode::FAILURE
    })
}

async fn up(mut builder: Builder, name: Option<String>) -> Result<ExitCode, Failure> {
    let keeps = name.is_some();
    if let Some(name) = name {
        builder = builder.name(name);
    }
    let lab = builder.start()?;
    for (variable, value) in variables(&lab) {
        println!("export {variable}={value}");
    }
    let fate = if keeps { "kept" } else { "removed at the end" };
    eprintln!("data, configuration and logs in {} ({fate}); Ctrl-C stops both", lab.directory().display());
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if keeps {
        lab.stop()?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(brokers: usize, command: &[String]) -> Result<ExitCode, Failure> {
    let lab = Lab::builder().brokers(brokers).start()?;
    let fill =
        |text: &String| text.replace("{kafka}", &lab.kafka_url()).replace("{database}", &lab.database_url());
    let [program, args @ ..] = command else {
        return Err("no command".into());
    };
    // The terminal sends Ctrl-C to the command as well: it decides, and the servers outlive it.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = tokio::process::Command::new(fill(program))
        .args(args.iter().map(fill))
        .envs(variables(&lab))
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(exit_code(status?)),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
                }
            }
        }
    }
}

fn variables(lab: &Lab) -> [(&'static str, String); 2] {
    [("TIDELOCK_KAFKA_BROKERS", lab.kafka_url()), ("TIDELOCK_DATABASE_URL", lab.database_url())]
}

/// As a shell would pass it on.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
