//! Figures, counted at the broker, as ratios within one run: `cargo bench -- drain`, `latency` or `handler`.
//!
//! Everything runs on servers of its own; every measure is repeated in turns (A B A B ...), and the medians are printed.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a command for people; a failure ends it")]

use std::time::Duration;

use clap::{Parser, Subcommand};
use tidelock::{
    database::postgres::{Postgres, PostgresConfig},
    log::kafka::{Kafka, KafkaConfig},
};
use tidelock_lab::Lab;

mod drain;
mod handler;
mod latency;
mod limits;
#[path = "../tests/witness.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod witness;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    measure: Option<Measure>,
    /// How often each side is measured.
    #[arg(long, default_value_t = 3, global = true)]
    rounds: usize,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 200, global = true)]
    payload: usize,
    /// Cargo passes it.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand, Clone, Copy)]
enum Measure {
    /// The relay drains a backlog, against a transactional producer fed from memory.
    Drain {
        #[arg(long, default_value_t = 200_000)]
        rows: usize,
    },
    /// From the committing transaction to a read_committed reader, under an open-loop load.
    Latency {
        /// Messages per second.
        #[arg(long, default_value_t = 1_000)]
        rate: u32,
        #[arg(long, default_value_t = 30)]
        seconds: u32,
        /// Seconds of load before anything is counted.
        #[arg(long, default_value_t = 50)]
        warm_up: u32,
    },
    /// A processor with one insert per message, against one message per commit.
    Handler {
        #[arg(long, default_value_t = 100_000)]
        messages: usize,
    },
}

/// What all measures share.
struct Bench {
    lab: Lab,
    rounds: usize,
    payload: usize,
}

impl Bench {
    fn kafka(&self) -> Kafka {
        Kafka::new(KafkaConfig { brokers: self.lab.kafka_url(), ..KafkaConfig::default() }).unwrap()
    }

    async fn postgres(&self) -> Postgres {
        let config = PostgresConfig { url: self.lab.database_url().into(), ..PostgresConfig::default() };
        let postgres = Postgres::connect(config).await.unwrap();
        postgres.migrate().await.unwrap();
        postgres
    }
}

#[tokio::main]
async fn main() {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "tidelock=error".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let lab = tokio::task::spawn_blocking(|| Lab::builder().start()).await.unwrap().unwrap();
    let bench = Bench { lab, rounds: arguments.rounds, payload: arguments.payload };
    match arguments.measure.unwrap_or(Measure::Drain { rows: 200_000 }) {
        Measure::Drain { rows } => drain::run(&bench, rows).await,
        Measure::Latency { rate, seconds: counted, warm_up } => {
            let seconds = |count: u32| Duration::from_secs(count.into());
            latency::run(&bench, rate, seconds(warm_up), seconds(counted)).await
        }
        Measure::Handler { messages } => handler::run(&bench, messages).await,
    }
}

/// The middle one; the list is not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one side of a comparison.
fn report(name: &str, per_second: &[f64]) {
    let spread = |pick: fn(f64, f64) -> f64| per_second.iter().copied().reduce(pick).unwrap_or_default();
    println!(
        "{name:<46} {:>10.0}/s median  ({:.0} to {:.0})",
        median(per_second.to_vec()),
        spread(f64::min),
        spread(f64::max)
    );
}
