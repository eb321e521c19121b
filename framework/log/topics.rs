//! Topics that were seen to exist.

use std::{collections::HashSet, sync::Arc};

use super::{Cleanup, Log, TopicSpec};
use crate::error::{Kind, Result};

/// Checks or creates each topic once, before the first record goes to it.
pub(crate) struct KnownTopics {
    log: Arc<dyn Log>,
    known: HashSet<Arc<str>>,
}

impl KnownTopics {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self { log, known: HashSet::new() }
    }

    /// `Some(reason)`: there is no such topic and none may be created.
    pub(crate) async fn refusal(&mut self, topic: &Arc<str>) -> Result<Option<String>> {
        if self.known.contains(topic) {
            return Ok(None);
        }
        let spec = TopicSpec { name: topic.to_string(), partitions: None, cleanup: Cleanup::Any };
        match self.log.topic(&spec).await {
            Ok(_) => {
                self.known.insert(topic.clone());
                Ok(None)
            }
            Err(error) if matches!(error.kind(), Kind::Refused | Kind::Config) => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }
}
