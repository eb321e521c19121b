//! Everything a fault can get at.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tidelock_campaign::{Result, tables, trouble::Trouble};
use tidelock_lab::Lab;

use crate::{
    crew::Crew,
    database::Db,
    history::History,
    kafka::{Cluster, PARTITIONS, Pulse, Role},
};

/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// The two pipelines by name; each is its instance's name too.
pub(crate) const PIPELINES: [&str; 2] = ["pipeline-1", "pipeline-2"];
/// The writer that gives the load.
pub(crate) const WRITER: &str = "writer";

/// The system under test, and the campaign's own ways to it.
pub(crate) struct World {
    pub(crate) lab: Arc<Lab>,
    pub(crate) cluster: Cluster,
    pub(crate) db: Db,
    pub(crate) pulse: Pulse,
    pub(crate) crew: Crew,
    pub(crate) history: Arc<History>,
    /// The run's name.
    pub(crate) run: String,
    /// The directory of the run: logs, history, the checker's files.
    pub(crate) directory: PathBuf,
    /// For how long a transaction is held open where that is the fault.
    pub(crate) held: Duration,
    /// What is still to be undone.
    pub(crate) debts: Mutex<Vec<Debt>>,
    /// How many topics and scenes of faults' own there were.
    pub(crate) sides: AtomicU32,
    /// Ctrl-C was pressed: heal, and come to an end.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// How many messages a slow consumer is let fall behind.
    pub(crate) backlog: u64,
    /// A `subject` of an older commit.
    pub(crate) previous: Option<PathBuf>,
    /// The checker's program, for scenes beside the run.
    pub(crate) checker: PathBuf,
}

/// Something that was changed and must be changed back, by its name.
pub(crate) type Debt = (String, Box<dyn FnOnce(&World) -> Result<()> + Send>);

impl World {
    /// Notes how something is undone, before it is done: by [`pay`](Self::pay), or else by [`mend`](Self::mend).
    pub(crate) fn owe(
        &self,
        name: impl Into<String>,
        undo: impl FnOnce(&Self) -> Result<()> + Send + 'static,
    ) {
        self.debts().push((name.into(), Box::new(undo)));
    }

    /// Undoes it now; what was undone already is no error.
    pub(crate) fn pay(&self, name: &str) -> Result<()> {
        let found = {
            let mut debts = self.debts();
            debts.iter().position(|(each, _)| each == name).map(|at| debts.remove(at))
        };
        found.map_or(Ok(()), |(_, undo)| undo(self))
    }

    fn debts(&self) -> std::sync::MutexGuard<'_, Vec<Debt>> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Sleeps, not longer than until Ctrl-C.
    pub(crate) fn sleep(&self, duration: Duration) {
        self.until(duration, || false);
    }

    /// Waits until it is so; false when it was not within `limit`, or Ctrl-C came first.
    pub(crate) fn until(&self, limit: Duration, mut so: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if so() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.interrupted() {
                return false;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// As [`until`](Self::until); that it was not so is a finding, unless Ctrl-C came first.
    pub(crate) fn demand(&self, whom: &str, what: &str, limit: Duration, so: impl FnMut() -> bool) -> bool {
        let was = self.until(limit, so);
        if !was && !self.interrupted() {
            self.crew.find(whom, &format!("{what} was not so within {limit:?}"));
        }
        was
    }

    /// The broker with that role, counted from 0; `choice` chooses among partitions, or among transactional ids.
    pub(crate) fn broker(&self, role: Role, choice: i32) -> Result<usize> {
        let cluster = self.lab.cluster();
        let found = match role {
            Role::Data => cluster.leader_of(tables::INPUT, choice % PARTITIONS)?,
            Role::Transactions => {
                let relays = (0..2).map(|shard| format!("relay.{shard}"));
                let ids: Vec<_> = relays.chain(PIPELINES.map(|name| format!("processor.{name}"))).collect();
                let id = &ids[choice as usize % ids.len()];
                cluster.transaction_coordinator_of(&format!("tidelock.{}.{id}", tables::GROUP))?
            }
            Role::Group => cluster.group_coordinator_of(tables::GROUP)?,
        };
        found.ok_or_else(|| format!("there is no broker now for {role:?}").into())
    }

    /// What a subject has said so far, in all of its lives.
    pub(crate) fn log_of(&self, subject: &str) -> String {
        fs::read_to_string(self.directory.join(format!("{subject}.log"))).unwrap_or_default()
    }

    /// A number for what a fault has for itself: a topic, a scene beside the run.
    pub(crate) fn side(&self) -> u32 {
        self.sides.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A name for a scene beside the run.
    pub(crate) fn scene(&self) -> String {
        format!("side-{}", self.side())
    }

    /// Tells every handler what to suffer from.
    pub(crate) fn trouble(&self, trouble: Option<Trouble>) -> Result<()> {
        Trouble::tell(&self.directory, trouble)
    }

    /// Commits what writers that are gone have left prepared: else nobody does, and the database keeps every row that was deleted
    /// or changed since. Answers whether all that was there is committed.
    pub(crate) fn finish_prepared(&self) -> bool {
        let Ok(rows) = self.db.rows("SELECT gid FROM pg_prepared_xacts") else { return false };
        let finish = |row| self.db.run(format!("COMMIT PREPARED '{}'", sqlx::Row::get::<String, _>(row, 0)));
        rows.iter().map(finish).filter(Result::is_err).count() == 0
    }

    /// Undoes whatever a fault that failed half way may have left: every server runs, every proxy forwards, every
    /// subject is there, every debt is paid. Answers what had to be mended.
    pub(crate) fn mend(&self) -> Vec<String> {
        let mut mended = Vec::new();
        for server in self.lab.servers() {
            match server.pid() {
                Some(_) => drop(server.resume()),
                None => {
                    mended.push(server.name().to_owned());
                    if let Err(failure) = server.start() {
                        self.crew.find(server.name(), &format!("does not start: {failure}"));
                    }
                }
            }
        }
        (0..self.lab.brokers().len()).for_each(|at| self.lab.kafka_proxy(at).restore());
        self.lab.postgres_proxy().restore();
        self.trouble(None).ok();
        while let Some((name, undo)) = { self.debts().pop() } {
            if let Err(failure) = undo(self) {
                self.crew.find(&name, &format!("is not undone: {failure}"));
            }
            mended.push(name);
        }
        mended.extend(self.crew.mend());
        // A session whose client is gone may be at it still; what it leaves, the next one finds.
        self.finish_prepared();
        mended
    }
}
