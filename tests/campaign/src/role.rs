//! What a subject is to be, as its command line.

use std::path::Path;

/// What a subject is to be.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    /// Relay and processor.
    Pipeline { instance: Option<String>, relay: bool },
    /// Relay and processor of another scene.
    Aside { scene: Scene, relay: bool },
    /// Business transactions of another scene.
    AsideWriter { scene: Scene, rate: f64 },
    /// Hostile messages: so many, then it ends.
    Forms { kind: &'static str, count: u64 },
    /// Business transactions.
    Writer { style: &'static str, connections: u32, rate: f64, keys: u32, hold_ms: u64 },
    /// Creates or upgrades the framework's tables, and ends.
    Migrate,
    /// A processor of another topic, in another group.
    Side { topic: String, group: String },
    /// Joins and leaves the group.
    Storm { instance: Option<String>, every_ms: u64, times: u32 },
}

/// The names of a scene beside the run.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) group: String,
    /// The table that the handler writes to.
    pub(crate) effects: &'static str,
}

impl Scene {
    /// A scene of that name.
    pub(crate) fn new(name: &str, effects: &'static str) -> Self {
        Self { input: format!("{name}.in"), output: format!("{name}.out"), group: name.to_owned(), effects }
    }

    fn args(&self) -> [String; 4] {
        [
            format!("--input={}", self.input),
            format!("--output={}", self.output),
            format!("--group={}", self.group),
            format!("--effects={}", self.effects),
        ]
    }
}

impl Role {
    /// A pipeline whose instance has that name.
    pub(crate) fn pipeline(instance: &str) -> Self {
        Self::Pipeline { instance: Some(instance.to_owned()), relay: true }
    }

    /// The arguments of `subject`.
    pub(crate) fn args(&self, directory: &Path, run: &str, producer: u32) -> Vec<String> {
        let directory = format!("--directory={}", directory.display());
        let named =
            |instance: &Option<String>| instance.iter().map(|name| format!("--instance={name}")).collect();
        let mut args: Vec<String>;
        match self {
            Self::Pipeline { instance, relay } => {
                args = vec!["pipeline".to_owned(), directory];
                args.extend::<Vec<_>>(named(instance));
                args.extend((!relay).then(|| "--no-relay".to_owned()));
            }
            Self::Aside { scene, relay } => {
                args = vec!["pipeline".to_owned(), directory];
                args.extend(scene.args());
                args.extend((!relay).then(|| "--no-relay".to_owned()));
            }
            Self::AsideWriter { scene, rate } => {
                args = vec![
                    "writer".to_owned(),
                    format!("--run={run}"),
                    format!("--producer={producer}"),
                    "--connections=2".to_owned(),
                    format!("--rate={rate}"),
                    format!("--input={}", scene.input),
                ];
            }
            Self::Forms { kind, count } => {
                args = vec![
                    "forms".to_owned(),
                    format!("--run={run}"),
                    format!("--producer={producer}"),
                    format!("--kind={kind}"),
                    format!("--count={count}"),
                ];
            }
            Self::Writer { style, connections, rate, keys, hold_ms } => {
                args = vec![
                    "writer".to_owned(),
                    format!("--run={run}"),
                    format!("--producer={producer}"),
                    format!("--style={style}"),
                    format!("--connections={connections}"),
                    format!("--rate={rate}"),
                    format!("--keys={keys}"),
                    format!("--hold={hold_ms}"),
                ];
            }
            Self::Migrate => args = vec!["migrate".to_owned()],
            Self::Side { topic, group } => {
                args = vec!["side".to_owned(), format!("--topic={topic}"), format!("--group={group}")];
            }
            Self::Storm { instance, every_ms, times } => {
                args = vec!["storm".to_owned(), directory, format!("--times={times}")];
                args.push(format!("--every={every_ms}"));
                args.extend::<Vec<_>>(named(instance));
            }
        }
        args
    }
}
