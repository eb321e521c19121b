//! Whose turn it is to write: units of handlers leave room for everybody else.

use std::time::Duration;

use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep, timeout},
};

use super::{
    Sqlite,
    writer::{PATIENCE, not_free},
};
use crate::error::Result;

/// How long units may hold the database between them before they rest: a fifth of the time that SQLite asks for the
/// lock (the busy time-out), so that whoever waits there comes across several rests.
const STRETCH: Duration = Duration::from_secs(1);
/// How long they rest: other connections do not queue up but ask again, every 100 ms in the end. A rest that is longer
/// than that is met by all of them.
const REST: Duration = Duration::from_millis(110);

/// What units have taken.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// For how long they have held the database since they rested.
    held: Duration,
    /// When the last one ended.
    ended: Option<Instant>,
}

/// The right to open a unit, of which there is one: at most one unit waits for the writing connection, however many
/// partitions have something to do, so that whoever else waits there comes next.
pub(super) struct Turn(OwnedMutexGuard<Pace>);

/// A unit is open.
pub(super) struct Busy {
    pace: OwnedMutexGuard<Pace>,
    since: Instant,
}

impl Sqlite {
    /// Waits until a unit may be opened.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let turn = timeout(PATIENCE, self.shared.units.clone().lock_owned()).await;
        let mut pace = turn.map_err(not_free)?;
        let rested = pace.ended.map_or(REST, |ended| ended.elapsed());
        // In memory there is no other connection.
        if pace.held >= STRETCH && !self.shared.in_memory {
            sleep(REST.saturating_sub(rested)).await;
            pace.held = Duration::ZERO;
        } else if rested >= REST {
            pace.held = Duration::ZERO;
        }
        Ok(Turn(pace))
    }
}

impl Turn {
    pub(super) fn begin(self) -> Busy {
        Busy { pace: self.0, since: Instant::now() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.pace.held += self.since.elapsed();
        self.pace.ended = Some(Instant::now());
    }
}
