//! Deletes what is published.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::within;
use crate::{
    database::Source,
    error::{Error, Kind, Result},
};

/// Deletes published rows behind the relay's back, a few batches at most behind it.
pub(super) struct Cleaner<P> {
    published: mpsc::Sender<P>,
    _task: AbortOnDropHandle<()>,
}

impl<P: Send + 'static> Cleaner<P> {
    pub(super) fn spawn<S: Source<Published = P>>(source: S, limit: Duration) -> Self {
        let (published, mut receiver) = mpsc::channel(4);
        let task = tokio::spawn(async move {
            while let Some(published) = receiver.recv().await {
                if let Err(failure) = within(limit, source.clean(published)).await {
                    debug!(error = %failure, "published rows could not be deleted, the next session sweeps them");
                    return;
                }
            }
        });
        Self { published, _task: AbortOnDropHandle::new(task) }
    }

    /// A cleaner that failed ends the session: the next one begins with a sweep.
    pub(super) async fn clean(&self, published: P) -> Result<()> {
        self.published.send(published).await.map_err(|_| cleaning_failed())
    }

    pub(super) async fn ended(&self) {
        self.published.closed().await;
    }
}

pub(super) fn cleaning_failed() -> Error {
    Error::new(Kind::Unavailable, "published rows could not be deleted")
}
