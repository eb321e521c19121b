//! Reads the next batch while the last one is being published.

use std::{mem, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time,
};
use tokio_util::task::AbortOnDropHandle;

use super::{RelayConfig, within};
use crate::{
    database::{Batch, Reader},
    error::{Error, Kind, Result},
    failpoint::{Point, hit},
    retry::Portion,
};

/// A batch, and the word that a crash of the database server would not undo it.
pub(crate) struct Planned<P> {
    pub(crate) batch: Batch<P>,
    pub(crate) durable: oneshot::Receiver<Result<()>>,
}

/// The reading side of a session; ends when dropped.
pub(crate) struct ReadAhead<P> {
    planned: mpsc::Receiver<Result<Option<Planned<P>>>>,
    _task: AbortOnDropHandle<()>,
}

impl<P: Send + 'static> ReadAhead<P> {
    pub(crate) fn spawn(
        reader: impl Reader<Published = P> + 'static,
        hint: Arc<Notify>,
        config: &Arc<RelayConfig>,
        portion: Portion,
    ) -> Self {
        let (sender, planned) = mpsc::channel(1);
        let pace = Pace { busy: config.poll_busy, idle: config.poll_idle, wait: config.poll_busy };
        let task = tokio::spawn(read_on(reader, hint, pace, config.clone(), portion, sender));
        Self { planned, _task: AbortOnDropHandle::new(task) }
    }

    /// The next batch; `None` once, if there was nothing at the first look. Losing the reader is an error: the session
    /// starts again from the durable position.
    pub(crate) async fn next(&mut self) -> Result<Option<Planned<P>>> {
        self.planned
            .recv()
            .await
            .unwrap_or_else(|| Err(Error::new(Kind::Unavailable, "the reader of the outbox ended")))
    }
}

async fn read_on<P: Send + 'static>(
    mut reader: impl Reader<Published = P>,
    hint: Arc<Notify>,
    mut pace: Pace,
    config: Arc<RelayConfig>,
    mut portion: Portion,
    planned: mpsc::Sender<Result<Option<Planned<P>>>>,
) {
    let mut first = true;
    loop {
        let rows = portion.of(config.max_rows);
        let read = within(config.database_timeout, reader.read(rows)).await;
        let first = mem::take(&mut first);
        let batch = match read {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                if first && planned.send(Ok(None)).await.is_err() {
                    return;
                }
                let _ = time::timeout(pace.next(), hint.notified()).await;
                continue;
            }
            Err(error) => {
                let _ = planned.send(Err(error)).await;
                return;
            }
        };
        pace.reset();
        // If what was read is not published, this reader ends with its session.
        portion.succeeded();
        let (durable, receiver) = oneshot::channel();
        if planned.send(Ok(Some(Planned { batch, durable: receiver }))).await.is_err() {
            return;
        }
        hit(Point::R0);
        let outcome = within(config.database_timeout, reader.durable()).await;
        let failed = outcome.is_err();
        let _ = durable.send(outcome);
        if failed {
            return;
        }
    }
}

/// Doubles the wait from busy to idle.
struct Pace {
    busy: Duration,
    idle: Duration,
    wait: Duration,
}

impl Pace {
    fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(self.idle);
        wait
    }

    fn reset(&mut self) {
        self.wait = self.busy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_idle_and_fall_back_to_busy() {
        let busy = Duration::from_millis(1);
        let mut pace = Pace { busy, idle: Duration::from_millis(50), wait: busy };
        let waits: Vec<u128> = (0..8).map(|_| pace.next().as_millis()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 50, 50]);
        pace.reset();
        assert_eq!(pace.next(), busy);
    }
}
