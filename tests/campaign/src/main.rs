//! `campaign`: a seeded schedule of faults against real processes on real Kafka and PostgreSQL, and a verdict.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod checker;
mod class;
mod crew;
mod database;
mod fault;
mod faults;
mod history;
mod kafka;
mod machine;
mod plan;
mod programs;
mod role;
mod run;
mod stage;
mod table;
mod world;

use std::{
    fmt::Display,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use tidelock::failpoint::Variant;

use class::Class;
use fault::Fault;
use plan::Step;

/// Something is wrong with what was seen.
const WRONG: u8 = 1;
/// The campaign itself could not be run.
const FAILED: u8 = 2;

#[derive(Parser, Debug, Clone)]
#[command(
    name = "campaign",
    about = "Faults by the seed against real processes on real servers, and a verdict"
)]
pub(crate) struct Cli {
    /// Which schedule
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many messages are committed at least
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// How many faults
    #[arg(long, default_value_t = 40)]
    faults: usize,
    /// Every fault once, instead of so many
    #[arg(long, conflicts_with = "faults")]
    each: bool,
    /// Only faults of these classes, by name or number, with commas between them
    #[arg(long = "class", value_delimiter = ',')]
    classes: Vec<Class>,
    /// Only faults whose name contains this, those beyond the promise included; may be given several times
    #[arg(long = "only")]
    only: Vec<String>,
    /// Messages a second. Without it: so many that the messages last as long as the faults, at most 3000
    #[arg(long)]
    rate: Option<f64>,
    /// How partitions move between members
    #[arg(long, value_enum, default_value_t = Assignor::BySeed)]
    assignor: Assignor,
    /// For how long a transaction is held open where that is the fault, in seconds
    #[arg(long, default_value_t = 60)]
    held: u64,
    /// How many messages a slow consumer is let fall behind
    #[arg(long, default_value_t = 5_000)]
    backlog: u64,
    /// A `subject` of an older commit, see previous.sh; without it class upgrade is not chosen
    #[arg(long)]
    previous: Option<PathBuf>,
    /// Leave a rule of the protocol out, by its name (`no-compare`), to see whether it is noticed; may be given several times
    #[arg(long, value_parser = rule)]
    leave_out: Vec<String>,
    /// Where logs and history go; a directory of the run's own below it. Default: target/campaign
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Keep the logs of a clean run too
    #[arg(long)]
    keep: bool,
    /// Print all faults, and do nothing
    #[arg(long)]
    list: bool,
    /// Print the schedule, and do nothing
    #[arg(long)]
    plan: bool,
}

fn rule(name: &str) -> Result<String, String> {
    let names: Vec<_> = Variant::ALL.iter().map(|rule| rule.name()).collect();
    match names.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("there is no such rule, only {}", names.join(", "))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Assignor {
    /// Eager with an odd seed, cooperative with an even one
    BySeed,
    Eager,
    Cooperative,
}

impl Cli {
    fn held(&self) -> Duration {
        Duration::from_secs(self.held)
    }

    /// Those whose names contain what `--only` asks for; all that are promised without it.
    fn faults(&self) -> Vec<Fault> {
        let mut faults = faults::all();
        if self.list || !self.only.is_empty() {
            faults.extend(faults::beyond());
        }
        if !self.only.is_empty() {
            faults.retain(|fault| self.only.iter().any(|part| fault.name.contains(part)));
        }
        faults
    }

    /// The schedule; one without a fault where some were asked for is an error, lest a slip of the pen passes for a proof.
    fn steps(&self, faults: &[Fault]) -> Result<Vec<Step>, String> {
        let matches = |only: &str| faults.iter().any(|fault| fault.name.contains(only));
        if let Some(only) = self.only.iter().find(|only| !matches(only)) {
            return Err(format!("no fault's name contains --only {only:?} (see --list)"));
        }
        let steps = match self.each {
            true => plan::each(faults, self.seed, &self.classes),
            false => plan::plan(faults, self.seed, self.faults, &self.classes),
        };
        if steps.is_empty() && (self.each || self.faults > 0) {
            let classes: Vec<_> = self.classes.iter().map(|class| class.name()).collect();
            return Err(format!(
                "no fault is chosen by --class {:?} and --only {:?}",
                classes.join(","),
                self.only
            ));
        }
        Ok(steps)
    }

    fn assignor(&self) -> &'static str {
        match self.assignor {
            Assignor::Eager => "eager",
            Assignor::Cooperative => "cooperative",
            Assignor::BySeed if self.seed % 2 == 1 => "eager",
            Assignor::BySeed => "cooperative",
        }
    }
}

/// A line for a reader that may have seen enough (`head`, a pager).
fn tell(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut faults = cli.faults();
    // They cannot be done, not even as part of a composition, which leaves out what is not possible.
    let before = faults.len();
    if cli.previous.is_none() && !cli.list {
        faults.retain(|fault| fault.class != Class::Upgrade);
    }
    if faults.len() < before {
        println!("class {} is left out: there is no --previous", Class::Upgrade.name());
    }
    if cli.list {
        faults.retain(|fault| plan::chosen(fault.class, &cli.classes));
        for class in Class::ALL.iter().filter(|class| faults.iter().any(|fault| fault.class == **class)) {
            tell(format_args!("{:2}  {:12} {}", class.number(), class.name(), class.doc()));
        }
        tell(table::faults(&faults));
        return ExitCode::SUCCESS;
    }
    let steps = match cli.steps(&faults) {
        Ok(steps) => steps,
        Err(failure) => {
            eprintln!("campaign: {failure}");
            return ExitCode::from(FAILED);
        }
    };
    if cli.plan {
        steps.iter().for_each(tell);
        tell(format_args!("about {} s", plan::about(&steps).as_secs()));
        return ExitCode::SUCCESS;
    }
    match run::run(&cli, &faults, &steps) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(WRONG),
        Err(failure) => {
            eprintln!("campaign: {failure}");
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_without_the_faults_that_were_asked_for_is_refused() {
        let cli = |args: &[&str]| Cli::parse_from([&["campaign"], args].concat());
        let error = cli(&["--only", "no-such"]).steps(&[]).map(drop).unwrap_err();
        assert!(error.contains("no-such"), "{error}");
        let none = cli(&["--only", "R4", "--class", "clock"]);
        let error = none.steps(&none.faults()).map(drop).unwrap_err();
        assert!(error.contains("clock") && error.contains("R4"), "{error}");
        assert!(cli(&["--faults", "0"]).steps(&[]).unwrap().is_empty());
        let class = cli(&["--class", "paused,killed", "--faults", "2"]);
        assert_eq!(class.steps(&faults::all()).unwrap().len(), 2);
    }
}
