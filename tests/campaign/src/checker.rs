//! The checker, as the program it is: nothing of it is linked into what it judges.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use tidelock_campaign::{Result, tables};

use crate::{role::Scene, world::World};

/// How long it may take to read to the end after it was told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(120);

/// What came of a judgement, as far as the campaign's table shows it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Report {
    pub(crate) clean: bool,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) faults: Vec<Recovery>,
}

/// One class of findings.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) class: String,
    pub(crate) count: u64,
}

/// How the system took one fault.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Recovery {
    pub(crate) id: u64,
    pub(crate) recovery_ms: Option<u64>,
}

impl Report {
    /// Recovery times by the number of the fault.
    pub(crate) fn recoveries(&self) -> BTreeMap<u64, Option<u64>> {
        self.faults.iter().map(|fault| (fault.id, fault.recovery_ms)).collect()
    }
}

/// The checker of one run.
pub(crate) struct Checker {
    program: PathBuf,
    directory: PathBuf,
    kafka: String,
    run: String,
    watch: Option<Child>,
}

impl Checker {
    /// Begins to watch.
    pub(crate) fn watch(program: PathBuf, directory: &Path, kafka: &str, run: &str) -> Result<Self> {
        let mut this = Self {
            program,
            directory: directory.to_owned(),
            kafka: kafka.to_owned(),
            run: run.to_owned(),
            watch: None,
        };
        let log = File::create(directory.join("watch.log"))?;
        let mut command = this.command("watch");
        command.args(["--topic", tables::INPUT, "--topic", tables::OUTPUT, "--group", tables::GROUP]);
        command
            .arg("--summary")
            .arg(this.file("watch.json"))
            .arg("--progress")
            .arg(this.file("progress.jsonl"));
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        this.watch = Some(command.spawn()?);
        Ok(this)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn command(&self, task: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(task).args(["--kafka", &self.kafka, "--run", &self.run]);
        command
    }

    /// Lets it read to the end.
    pub(crate) fn stop_watching(&mut self) -> Result<()> {
        let Some(mut child) = self.watch.take() else { return Ok(()) };
        drop(child.stdin.take());
        let deadline = Instant::now() + STOP_WITHIN;
        loop {
            if let Some(status) = child.try_wait()? {
                return match status.success() {
                    true => Ok(()),
                    false => Err(format!(
                        "checker watch ended with {status}, see {}",
                        self.file("watch.log").display()
                    )
                    .into()),
                };
            }
            if Instant::now() > deadline {
                kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL)?;
                child.wait()?;
                return Err(format!("checker watch did not end within {STOP_WITHIN:?}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Judges, and leaves what it printed in `judge.txt`.
    pub(crate) fn judge(&self, database: &str, history: &Path) -> Result<Report> {
        let json = self.file("judge.json");
        let mut command = self.command("judge");
        command.args(["--in", tables::INPUT, "--out", tables::OUTPUT, "--database", database]);
        command
            .arg("--watch")
            .arg(self.file("watch.json"))
            .arg("--progress")
            .arg(self.file("progress.jsonl"));
        command.arg("--history").arg(history).arg("--json").arg(&json);
        let output = command.stdin(Stdio::null()).output()?;
        fs::write(self.file("judge.txt"), [output.stdout.as_slice(), &output.stderr].concat())?;
        match output.status.code() {
            Some(0 | 1) => Ok(serde_json::from_slice(&fs::read(json)?)?),
            _ => Err(format!(
                "checker judge ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
            .into()),
        }
    }
}

/// By what a scene beside the run is judged.
pub(crate) struct Aside<'a> {
    pub(crate) database: &'a str,
    /// A query; none: the ledger of that database.
    pub(crate) ledger: Option<&'a str>,
    /// Whether the effects are compared too.
    pub(crate) effects: bool,
    /// Not everything needs to have come through.
    pub(crate) partly: bool,
}

/// What must be none also where not everything has come through.
const NEVER: [&str; 5] = ["duplicate", "reordered", "phantom", "corrupted", "backwards"];

/// Judges a scene beside the run, unless Ctrl-C came before its end; what is wrong is a finding.
pub(crate) fn judge_aside(world: &World, whom: &str, scene: &Scene, by: &Aside<'_>) -> Result<()> {
    if world.interrupted() {
        return Ok(());
    }
    let name = format!("{}.judge", scene.group);
    let json = world.directory.join(format!("{name}.json"));
    let mut command = Command::new(&world.checker);
    command.args(["judge", "--kafka", world.cluster.brokers(), "--run", &world.run, "--patience", "30s"]);
    command.args(["--in", &scene.input, "--out", &scene.output, "--database", by.database]);
    command.arg("--json").arg(&json);
    if let Some(ledger) = by.ledger {
        command.args(["--ledger", ledger]);
    }
    match by.effects {
        true => command.arg(format!("--effects=SELECT producer, seq, crc FROM {}", scene.effects)),
        false => command.arg("--no-effects"),
    };
    let output = command.stdin(Stdio::null()).output()?;
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    fs::write(world.directory.join(format!("{name}.txt")), &said)?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        return Err(format!("checker judge of {}: {}", scene.group, String::from_utf8_lossy(&said)).into());
    }
    let report: Report = serde_json::from_slice(&fs::read(json)?)?;
    let counts = |verdict: &&Verdict| verdict.count > 0 && (!by.partly || NEVER.contains(&&*verdict.class));
    let wrong: Vec<_> = report.verdicts.iter().filter(counts).collect();
    let wrong: Vec<_> = wrong.iter().map(|verdict| format!("{} {}", verdict.class, verdict.count)).collect();
    if !wrong.is_empty() {
        world.crew.find(whom, &format!("is judged wrong: {}, see {name}.txt", wrong.join(", ")));
    }
    Ok(())
}

impl Drop for Checker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.watch {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
