//! Servers that are gone without a word: nothing is answered, and nothing is closed either.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, postgres::PgPoolOptions};
use tokio::time::timeout;

use super::{PostgresConfig, fault};

/// How long a connection that was at rest may take to answer, at most: then there is time left for a new one.
pub(super) const PING: Duration = Duration::from_secs(2);

/// When the server last failed to answer in time.
#[derive(Clone, Default)]
pub(super) struct Silence(Arc<Mutex<Option<Instant>>>);

impl Silence {
    pub(super) fn noticed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it was while a connection rested that has done so for this long.
    fn during(&self, rest: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|last| last.elapsed() < rest)
    }

    /// Options of a pool that takes back only connections that answer: one that was given up in the middle of a statement
    /// may be waiting for a host that is gone, and would keep its place for many minutes. Nor does it hand out one that
    /// does not answer, which would cost whoever asks the whole `connect_timeout`, and the next one again for the next
    /// connection: the first one that is silent gives away all that rested beside it.
    pub(super) fn watched(&self, config: &PostgresConfig) -> PgPoolOptions {
        let (mine, patience) = (self.clone(), config.answer_timeout);
        let (theirs, ping) = (self.clone(), PING.min(config.connect_timeout / 2));
        PgPoolOptions::new()
            .acquire_timeout(config.connect_timeout)
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(notice_closed(connection)))
            .before_acquire(move |connection, at| {
                let silence = theirs.clone();
                Box::pin(async move {
                    match silence.during(at.idle_for) {
                        true => Err(silent()),
                        false => silence.answers(connection, ping).await,
                    }
                })
            })
            .after_release(move |connection, _| {
                let silence = mine.clone();
                // Its place is waited for; a server that has just been silent elsewhere gets no such patience.
                let limit = if silence.during(patience) { ping } else { patience };
                Box::pin(async move { silence.answers(connection, limit).await })
            })
    }

    /// An error closes the connection at once: there is nobody to take leave of.
    async fn answers(&self, connection: &mut PgConnection, limit: Duration) -> sqlx::Result<bool> {
        let answer = timeout(limit, connection.ping()).await;
        answer.map_err(|_| {
            self.noticed();
            silent()
        })??;
        Ok(true)
    }
}

/// A statement that waits for a lock when its connection is given up would wait on in the server, with all that its
/// transaction has locked, and take one of its connections: it is told to look whether anybody is there (from PostgreSQL 14 on;
/// 0 is never, and all that a server takes whose system cannot tell).
async fn notice_closed(connection: &mut PgConnection) -> sqlx::Result<()> {
    let set = "SELECT set_config('client_connection_check_interval', '5s', false) \
               WHERE current_setting('client_connection_check_interval', true) = '0'";
    match sqlx::query(set).execute(connection).await {
        Err(error) if fault::invalid_value(&error) => Ok(()),
        outcome => outcome.map(drop),
    }
}

fn silent() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer on this connection").into()
}
