//! The role `writer`: business transactions at a given pace.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::{Args, ValueEnum};
use tidelock::database::postgres::Postgres;
use tidelock_campaign::{Result, tables};
use tokio::{sync::Mutex, task::JoinSet, time::Instant};
use tracing::{info, warn};

use crate::{book::Book, handler::TOPICS, pipeline, styles};

/// How far the pace may lag behind before what was missed is forgotten.
const MOST_BEHIND: Duration = Duration::from_millis(300);
/// After how long without an answer an attempt is given up. What became of it stands in the ledger.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How long a writer waits after a failed attempt.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What the business transactions of a writer are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// 1 to 5 messages; 5 % are rolled back
    Plain,
    /// Half of them are rolled back
    RolledBack,
    /// Parts of them are rolled back to a savepoint
    Savepoints,
    /// Five at a time, committed in reverse order
    Crossed,
    /// One for each connection, held open
    Held,
    /// In two phases
    Prepared,
}

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The run's name, in every header
    #[arg(long)]
    pub(crate) run: String,
    /// The first producer number of this life
    #[arg(long)]
    pub(crate) producer: u32,
    /// How many connections, each a producer
    #[arg(long, default_value_t = 6)]
    pub(crate) connections: u32,
    /// Messages a second, over all connections
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
    /// How many keys
    #[arg(long, default_value_t = 300)]
    pub(crate) keys: u32,
    /// What the transactions are like
    #[arg(long, value_enum, default_value_t = Style::Plain)]
    pub(crate) style: Style,
    /// For how long a transaction is held or stays prepared at most, in ms
    #[arg(long, default_value_t = 2000)]
    pub(crate) hold: u64,
    /// The topic
    #[arg(long, default_value = tables::INPUT)]
    pub(crate) input: String,
}

/// When the next transaction may begin.
pub(crate) struct Pace {
    next: Mutex<Instant>,
    per_message: Duration,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { next: Mutex::new(Instant::now()), per_message: Duration::from_secs_f64(1.0 / rate.max(0.01)) }
    }

    /// Waits until there is room for so many messages.
    pub(crate) async fn wait(&self, messages: u32) {
        let at = {
            let mut next = self.next.lock().await;
            let at = (*next).max(Instant::now() - MOST_BEHIND);
            *next = at + self.per_message * messages;
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

/// One connection's share of the work.
pub(crate) struct Desk {
    pub(crate) database: Postgres,
    pub(crate) book: Book,
    pub(crate) pace: Arc<Pace>,
    pub(crate) told: Arc<AtomicBool>,
    pub(crate) options: Options,
}

impl Desk {
    pub(crate) fn open(&self) -> bool {
        !self.told.load(Ordering::Relaxed)
    }
}

pub(crate) async fn run(options: Options) -> Result<()> {
    TOPICS.get_or_init(|| (options.input.clone(), String::new()));
    let told = crate::told_to_stop();
    let database = pipeline::connect(&crate::settings()?.database).await?;
    let pace = Arc::new(Pace::new(options.rate));
    let mut desks = JoinSet::new();
    for number in 0..options.connections {
        let producer = options.producer + number;
        // Plain writers share their entities; the others keep theirs locked for long.
        let prefix = match options.style {
            Style::Plain => "k".to_owned(),
            _ => format!("{:?}-{producer}-", options.style).to_lowercase(),
        };
        let desk = Desk {
            database: database.clone(),
            book: Book::new(&options.run, producer, prefix, options.keys),
            pace: Arc::clone(&pace),
            told: Arc::clone(&told),
            options: options.clone(),
        };
        desks.spawn(work(desk));
    }
    let (mut attempts, mut failures) = (0, 0);
    while let Some(done) = desks.join_next().await {
        let (tried, failed) = done?;
        attempts += tried;
        failures += failed;
    }
    info!(attempts, failures, "done");
    Ok(())
}

/// Attempts, and those among them that failed. What a failure left behind is told by the ledger alone.
async fn work(mut desk: Desk) -> (u64, u64) {
    let (mut attempts, mut failures) = (0, 0);
    let limit = GIVE_UP + Duration::from_millis(desk.options.hold);
    while desk.open() {
        attempts += 1;
        let outcome = tokio::time::timeout(limit, styles::transact(&mut desk)).await;
        let failure = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure,
            Err(_) => format!("no end within {limit:?}").into(),
        };
        failures += 1;
        warn!(%failure, "an attempt failed");
        tokio::time::sleep(AFTER_FAILURE).await;
    }
    (attempts, failures)
}
