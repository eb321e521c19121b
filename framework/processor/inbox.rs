//! Forgets old ids.

use std::{sync::Arc, time::Duration};

use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::Shared;
use crate::database::Database;

const INTERVAL: Duration = Duration::from_secs(60);

/// Cleans once a minute, beginning a minute after the start.
pub(crate) fn spawn_cleaner<D: Database>(shared: Arc<Shared<D>>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let group = &shared.group;
        loop {
            tokio::time::sleep(INTERVAL).await;
            match shared.database.clean_inbox(group, shared.config.inbox_retention).await {
                Ok(0) => {}
                Ok(count) => debug!(group = &**group, count, "forgot old message ids"),
                Err(error) => warn!(group = &**group, %error, "the inbox was not cleaned"),
            }
        }
    }))
}
