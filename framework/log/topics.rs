//! Topics that were seen to exist.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{Cleanup, Log, TopicSpec};
use crate::error::{Kind, Result};

/// How often a topic is asked for again before its records are refused: brokers learn of a new topic one by one, and a
/// refusal is for good.
const AGAIN: u32 = 3;
/// How long between these.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a refusal answers for every record of the topic.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Checks or creates each topic once, before the first record goes to it.
pub(crate) struct KnownTopics {
    log: Arc<dyn Log>,
    known: HashSet<Arc<str>>,
    refused: HashMap<Arc<str>, (Instant, String)>,
}

impl KnownTopics {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self { log, known: HashSet::new(), refused: HashMap::new() }
    }

    /// `Some(reason)`: there is no such topic and none may be created.
    pub(crate) async fn refusal(&mut self, topic: &Arc<str>) -> Result<Option<String>> {
        if self.known.contains(topic) {
            return Ok(None);
        }
        let before = self.refused.get(topic);
        if let Some((_, reason)) = before.filter(|(since, _)| since.elapsed() < REMEMBERED) {
            return Ok(Some(reason.clone()));
        }
        let mut left = if before.is_some() { 0 } else { AGAIN };
        let spec = TopicSpec { name: topic.to_string(), partitions: None, cleanup: Cleanup::Any };
        loop {
            match self.log.topic(&spec).await {
                Ok(_) => {
                    self.refused.remove(topic);
                    self.known.insert(topic.clone());
                    return Ok(None);
                }
                Err(error) if !matches!(error.kind(), Kind::Refused | Kind::Config | Kind::Denied) => {
                    return Err(error);
                }
                Err(error) if left == 0 => {
                    let reason = error.to_string();
                    self.refused.insert(topic.clone(), (Instant::now(), reason.clone()));
                    return Ok(Some(reason));
                }
                Err(_) => {
                    left -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
