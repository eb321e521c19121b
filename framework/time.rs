//! Times as text, and deadlines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

/// RFC 3339 in UTC with microseconds, as in `ce_time`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

/// A time given in microseconds since 1970; times before that become 1970.
pub(crate) fn from_micros(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Waits for the end of a task; one that is not through by then is dropped.
pub(crate) async fn end_by(deadline: Instant, mut task: AbortOnDropHandle<()>) {
    if timeout_at(deadline, &mut task).await.is_err() {
        task.abort();
        let _ = task.await;
    }
}
