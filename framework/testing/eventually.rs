//! Waiting on a condition, never on time.

use std::{panic::Location, time::Duration};

use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until the condition holds, for 10 s at most.
///
/// # Panics
/// When it does not; the text names `what` and the caller's line.
#[track_caller]
pub fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    within(PATIENCE, what, condition)
}

/// [`eventually`] with another patience.
///
/// # Panics
/// As [`eventually`].
#[track_caller]
pub fn within(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let until = Instant::now() + patience;
        let holds = async {
            while !condition().await {
                sleep(INTERVAL).await;
            }
        };
        if tokio::time::timeout_at(until, holds).await.is_err() {
            panic!("not within {patience:?}: {what}, waited for at {caller}");
        }
    }
}
