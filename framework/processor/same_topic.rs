//! Whether a topic is still the one that the group works on. One that was deleted and created again has offsets from 0:
//! reading on where the old one was left would skip silently.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::debug;

use super::Shared;
use crate::{
    database::{Database, FenceKey},
    error::{Error, Kind, Result},
};

/// How often the log is asked while records come. So long what a new topic of the name holds may be handled before it
/// is noticed that something came before it.
const AGAIN: Duration = Duration::from_secs(10);

/// The topics of one membership.
#[derive(Default)]
pub(super) struct SameTopic(Mutex<HashMap<Arc<str>, Known>>);

#[derive(Clone)]
struct Known {
    id: String,
    asked: Instant,
    /// What it is now, once that is another one.
    other: Option<String>,
}

impl SameTopic {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known; `true`: it is this caller's turn to ask, others go on with what they know.
    fn turn(&self, topic: &str) -> (Option<Known>, bool) {
        match self.lock().get_mut(topic) {
            None => (None, true),
            Some(known) => {
                let turn = known.other.is_none() && known.asked.elapsed() >= AGAIN;
                if turn {
                    known.asked = Instant::now();
                }
                (Some(known.clone()), turn)
            }
        }
    }
}

impl<D: Database> Shared<D> {
    /// An error of kind `Identity` when the topic is another one than the group began with. Asks at most every ten
    /// seconds. A log that does not answer is asked again then, but for the first time.
    pub(super) async fn same_topic(&self, key: &FenceKey) -> Result<()> {
        let (known, turn) = self.same.turn(&key.topic);
        if let Some(Known { id, other: Some(other), .. }) = &known {
            return Err(another(key, id, other));
        }
        if !turn {
            return Ok(());
        }
        let id = match self.log.topic_id(&key.topic).await {
            Ok(Some(id)) => id,
            Ok(None) => return Ok(()),
            Err(error) if known.is_some() => {
                debug!(topic = &*key.topic, %error, "whether the topic is still the same one is asked later");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let began_with = match known {
            Some(known) => known.id,
            None => match self.database.note_topic(key, &id).await? {
                Some(noted) => noted,
                // Before the group's first start there is nothing to compare.
                None => return Ok(()),
            },
        };
        let other = (began_with != id).then_some(id);
        let outcome = match &other {
            Some(other) => Err(another(key, &began_with, other)),
            None => Ok(()),
        };
        self.same.lock().insert(key.topic.clone(), Known { id: began_with, asked: Instant::now(), other });
        outcome
    }
}

fn another(key: &FenceKey, id: &str, other: &str) -> Error {
    Error::new(
        Kind::Identity,
        format!(
            "topic {:?} has the id {other}, group {:?} began with {id}: the topic was deleted and created again; if what is \
             in it now is to be handled from its beginning, delete the group's rows of it from the tables fence and \
             consumer_topic and start again",
            key.topic, key.group
        ),
    )
}
