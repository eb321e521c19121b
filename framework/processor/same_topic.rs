//! Whether a topic is still the one that the group works on. One that was deleted and created again has offsets from 0:
//! reading on where the old one was left would skip silently.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::debug;

use super::{Shared, partition::Partition};
use crate::{
    database::{Database, FenceKey},
    error::{Error, Kind, Result},
    log::codec,
};

/// How often the log is asked while records come. So long what a new topic of the name holds may be handled before it
/// is noticed that something came before it.
const AGAIN: Duration = Duration::from_secs(10);

/// The topics of one membership.
#[derive(Default)]
pub(super) struct SameTopic(Mutex<HashMap<Arc<str>, Known>>);

#[derive(Clone)]
struct Known {
    id: Arc<str>,
    /// `None`: there is a reason to ask at once.
    asked: Option<Instant>,
    /// What it is now, once that is another one.
    other: Option<Arc<str>>,
}

impl SameTopic {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id that the group began with; empty where the log has none.
    pub(super) fn id(&self, topic: &str) -> Arc<str> {
        self.lock().get(topic).map_or_else(|| "".into(), |known| known.id.clone())
    }

    /// The next question is not put off.
    pub(super) fn doubt(&self, topic: &str) {
        if let Some(known) = self.lock().get_mut(topic) {
            known.asked = None;
        }
    }

    /// What is known; `true`: it is this caller's turn to ask, others go on with what they know.
    fn turn(&self, topic: &str) -> (Option<Known>, bool) {
        match self.lock().get_mut(topic) {
            None => (None, true),
            Some(known) => {
                let due = known.asked.is_none_or(|asked| asked.elapsed() >= AGAIN);
                let turn = known.other.is_none() && due;
                if turn {
                    known.asked = Some(Instant::now());
                }
                (Some(known.clone()), turn)
            }
        }
    }
}

impl<D: Database> Shared<D> {
    /// An error of kind `Identity` when the topic is another one than the group began with. Asks at most every ten
    /// seconds. A log that does not answer is asked again then, but for the first time.
    async fn same_topic(&self, key: &FenceKey) -> Result<()> {
        let (known, turn) = self.same.turn(&key.topic);
        if let Some(Known { id, other: Some(other), .. }) = &known {
            return Err(another(key, id, other));
        }
        if !turn {
            return Ok(());
        }
        let id = match self.log.topic_id(&key.topic).await {
            Ok(Some(id)) => Arc::<str>::from(id),
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
                Some(noted) => noted.into(),
                // Before the group's first start there is nothing to compare.
                None => return Ok(()),
            },
        };
        let other = (began_with != id).then_some(id);
        let outcome = match &other {
            Some(other) => Err(another(key, &began_with, other)),
            None => Ok(()),
        };
        self.same
            .lock()
            .insert(key.topic.clone(), Known { id: began_with, asked: Some(Instant::now()), other });
        outcome
    }

    /// Why a partition cannot be read on, where it is that the topic is another one: its offsets are not those of the first.
    pub(super) async fn other_topic(&self, key: &FenceKey) -> Option<Error> {
        self.same.doubt(&key.topic);
        self.same_topic(key).await.err().filter(|failure| failure.kind() == Kind::Identity)
    }
}

impl<D: Database> Partition<D> {
    /// An error of kind `Identity` when the topic is another one than the group began with. It says too what may be left of
    /// the first one: no log tells any more whether the outputs of the last batch were published.
    pub(super) async fn same_topic(&self) -> Result<()> {
        let Err(failure) = self.shared.same_topic(&self.key).await else { return Ok(()) };
        if failure.kind() != Kind::Identity {
            return Err(failure);
        }
        let fence = self.shared.database.fence(&self.key).await.ok().flatten().unwrap_or_default();
        let outputs = codec::decode(&fence.pending).map_or(0, |outputs| outputs.len());
        if outputs == 0 {
            return Err(failure);
        }
        let last = fence.next_offset - 1;
        Err(Error::new(
            Kind::Identity,
            format!(
                "{failure}; the {outputs} outputs of the batch that ended with offset {last} are in the fence's column pending, \
                 whether they were published is for you to find out before the row goes"
            ),
        ))
    }
}

fn another(key: &FenceKey, id: &str, other: &str) -> Error {
    Error::new(
        Kind::Identity,
        format!(
            "topic {:?} has the id {other}, group {:?} began with {id}: the topic was deleted and created again; if what is \
             in it now is to be handled from its beginning, delete the group's rows of it from the tables fence and \
             consumer_topic (SQLite: tidelock_fence, tidelock_fenced, tidelock_consumer_topic) and its committed offsets, and \
             start again",
            key.topic, key.group
        ),
    )
}
