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
/// How long a refusal answers for every record of the topic, at least.
const REMEMBERED: Duration = Duration::from_secs(1);
/// And how many times as long as it took to learn of it: all else that is published waits while the log is asked.
const WORTH: u32 = 5;

/// Checks or creates each topic once, before the first record goes to it.
pub(crate) struct KnownTopics {
    log: Arc<dyn Log>,
    known: HashSet<Arc<str>>,
    /// Were known, and may be gone.
    doubted: HashSet<Arc<str>>,
    /// Until when, and why.
    refused: HashMap<Arc<str>, (Instant, String)>,
}

impl KnownTopics {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self { log, known: HashSet::new(), doubted: HashSet::new(), refused: HashMap::new() }
    }

    /// Something failed, and a topic that was deleted may be why: each is asked for once more. One that is still there
    /// stays known, whatever has become of its settings and of the right to see them.
    pub(crate) fn doubt(&mut self) {
        self.doubted.extend(self.known.drain());
    }

    /// Somebody says that the reasons for refusals are gone.
    pub(crate) fn ask_again(&mut self) {
        self.refused.clear();
    }

    /// `Some(reason)`: there is no such topic and none may be created, or it is not as the settings ask. One that is there
    /// and may not be looked at is an error of kind `Denied`, to be waited for.
    pub(crate) async fn refusal(&mut self, topic: &Arc<str>) -> Result<Option<String>> {
        if self.known.contains(topic) {
            return Ok(None);
        }
        let before = self.refused.get(topic);
        if let Some((_, reason)) = before.filter(|(until, _)| Instant::now() < *until) {
            return Ok(Some(reason.clone()));
        }
        let mut left = if before.is_some() { 0 } else { AGAIN };
        let spec = TopicSpec { name: topic.to_string(), partitions: None, cleanup: Cleanup::Any };
        loop {
            // One question without an answer is not enough to forget it.
            if self.doubted.contains(topic) && self.is_there(topic).await {
                self.learn(topic);
                return Ok(None);
            }
            let asked = Instant::now();
            match self.log.topic(&spec).await {
                Ok(_) => {
                    self.learn(topic);
                    return Ok(None);
                }
                Err(error) if !matches!(error.kind(), Kind::Refused | Kind::Config | Kind::Denied) => {
                    return Err(error);
                }
                Err(error) if error.kind() == Kind::Denied && self.is_there(topic).await => {
                    return Err(error);
                }
                Err(error) if left == 0 => {
                    let reason = error.to_string();
                    self.doubted.remove(topic);
                    let until = Instant::now() + REMEMBERED.max(asked.elapsed() * WORTH);
                    self.refused.insert(topic.clone(), (until, reason.clone()));
                    return Ok(Some(reason));
                }
                Err(_) => {
                    left -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn learn(&mut self, topic: &Arc<str>) {
        self.doubted.remove(topic);
        self.refused.remove(topic);
        self.known.insert(topic.clone());
    }

    /// Needs no right but to see it.
    async fn is_there(&self, topic: &str) -> bool {
        self.log.topic_id(topic).await.is_ok()
    }

    /// Whether the log is there to tell of this topic. One without ids never does.
    pub(crate) async fn is_seen(&self, topic: &str) -> bool {
        matches!(self.log.topic_id(topic).await, Ok(Some(_)))
    }
}
