//! The process that dies: this test binary again, with a role.

use std::{
    io::Read,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child as Process, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tidelock::{
    database::postgres::Postgres,
    error::BoxError,
    event::Event,
    handler::{Context, Handler, Outcome},
    log::kafka::Kafka,
    message::{Key, Message},
    pipeline::Pipeline,
    processor::Processor,
    settings::Settings,
};

use super::scene::{input_topic, output_topic};

/// Which topics and which group: the name of the scene.
pub(crate) const SCENE: &str = "TIDELOCK_TEST_SCENE";
/// `relay`, `processor` or both.
pub(crate) const ROLES: &str = "TIDELOCK_TEST_ROLES";
/// The stable name of the instance, if it has one.
pub(crate) const INSTANCE: &str = "TIDELOCK_TEST_INSTANCE";

fn scene() -> &'static str {
    static SCENE_NAME: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var(SCENE).unwrap_or_default());
    &SCENE_NAME
}

fn leak(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

/// What goes in: the `n`-th message of its key.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) key: String,
    pub(crate) n: i64,
}

impl Event for Input {
    const TYPE: &'static str = "Input";
    const TOPIC: &'static str = "in";

    fn topic() -> &'static str {
        static NAME: std::sync::LazyLock<&'static str> =
            std::sync::LazyLock::new(|| leak(input_topic(scene())));
        &NAME
    }

    fn key(&self) -> Key {
        self.key.as_str().into()
    }
}

/// What comes out: `copy` counts from 0 for one input.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Output {
    pub(crate) key: String,
    pub(crate) n: i64,
    pub(crate) copy: i64,
}

impl Output {
    /// How many outputs an input has: 0, 1 or 2.
    pub(crate) fn copies(n: i64) -> i64 {
        match n {
            n if n % 5 == 0 => 0,
            n if n % 7 == 0 => 2,
            _ => 1,
        }
    }
}

impl Event for Output {
    const TYPE: &'static str = "Output";
    const TOPIC: &'static str = "out";

    fn topic() -> &'static str {
        static NAME: std::sync::LazyLock<&'static str> =
            std::sync::LazyLock::new(|| leak(output_topic(scene())));
        &NAME
    }

    fn key(&self) -> Key {
        self.key.as_str().into()
    }
}

/// Writes one row per execution that takes effect; nothing in the table would stop a second one.
struct Copier;

#[async_trait]
impl Handler<Postgres> for Copier {
    type Event = Input;

    async fn handle(
        &self,
        message: &Message<Input>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let Input { key, n } = &message.event;
        sqlx::query("INSERT INTO effect (key, n) VALUES ($1, $2)")
            .bind(key)
            .bind(n)
            .execute(&mut *context.connection())
            .await?;
        for copy in 0..Output::copies(*n) {
            context.emit(&Output { key: key.clone(), n: *n, copy })?;
        }
        Ok(Outcome::Done)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "not a test: the process that the crash tests kill"]
async fn child() {
    if std::env::var(SCENE).is_err() {
        return;
    }
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "tidelock=debug,info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let settings = Settings::from_env("TIDELOCK_").unwrap();
    let database = Postgres::connect(settings.database).await.unwrap();
    let kafka = Kafka::new(settings.kafka).unwrap();
    let roles = std::env::var(ROLES).unwrap();
    let mut builder = Pipeline::builder(kafka, database).processor_defaults(settings.processor);
    if let Ok(instance) = std::env::var(INSTANCE) {
        builder = builder.instance(instance);
    }
    if roles.contains("relay") {
        builder = builder.relay(settings.relay);
    }
    if roles.contains("processor") {
        builder = builder.processor(Processor::new(scene()).handle(Copier));
    }
    let pipeline = builder.build().unwrap();
    pipeline.start().await.unwrap();
    pipeline.ready().await;
    tracing::info!("ready");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

/// How to start a child.
pub(crate) struct Spec(Command, PathBuf);

impl Spec {
    pub(crate) fn new(scene: &str, roles: &str, log: PathBuf) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["crash::child::child", "--exact", "--ignored", "--nocapture"])
            .env(SCENE, scene)
            .env(ROLES, roles);
        Self(command, log)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.0.env(name, value.as_ref());
        self
    }

    /// `abort` there, at the `hit`-th time.
    pub(crate) fn dies_at(self, point: &str, hit: u32) -> Self {
        self.env("TIDELOCK_FAILPOINTS", format!("{point}={hit}:abort"))
    }

    /// Waits there, at the `hit`-th time, until [`Child::go_on`].
    pub(crate) fn waits_at(self, point: &str, hit: u32) -> Self {
        let dir = self.1.with_extension(point.replace('.', "-"));
        std::fs::create_dir_all(&dir).unwrap();
        let spec = format!("{point}={hit}:pause({})", dir.display());
        let mut waiting = self.env("TIDELOCK_FAILPOINTS", spec);
        waiting.1 = waiting.1.with_extension("waits.log");
        waiting.0.env("TIDELOCK_TEST_MARKER", dir.join(point));
        waiting
    }

    pub(crate) fn leaves_out(self, variant: &str) -> Self {
        self.env("TIDELOCK_VARIANTS", variant)
    }

    pub(crate) fn named(self, instance: &str) -> Self {
        self.env(INSTANCE, instance)
    }

    pub(crate) fn spawn(mut self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(&self.1).unwrap();
        let marker = self
            .0
            .get_envs()
            .find(|(name, _)| *name == "TIDELOCK_TEST_MARKER")
            .and_then(|(_, value)| value.map(PathBuf::from));
        let process =
            self.0.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Child { process, log: self.1, marker }
    }
}

/// A running child; killed when dropped.
pub(crate) struct Child {
    process: Process,
    log: PathBuf,
    marker: Option<PathBuf>,
}

impl Child {
    /// Waits until it died at its failpoint.
    #[track_caller]
    pub(crate) fn died(mut self) {
        let status = self.wait(Duration::from_secs(60), "die at its failpoint");
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}, see {}", self.log.display());
    }

    /// Waits until it stands at the point where it is to wait.
    #[track_caller]
    pub(crate) fn stands(&self) {
        let marker = self.marker.as_ref().expect("a child that waits somewhere");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !marker.exists() {
            assert!(
                Instant::now() < deadline,
                "it never came to {}, see {}",
                marker.display(),
                self.log.display()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets it go on from the point where it waits.
    pub(crate) fn go_on(&self) {
        std::fs::remove_file(self.marker.as_ref().expect("a child that waits somewhere")).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    /// Asks it to stop, and waits until it did so without complaint.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        drop(self.process.stdin.take());
        let status = self.wait(Duration::from_secs(40), "stop");
        assert!(status.success(), "{status}, see {}", self.log.display());
    }

    #[track_caller]
    fn wait(&mut self, limit: Duration, what: &str) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not {what}, see {}", self.log.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
