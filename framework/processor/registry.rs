//! Which handler takes which record.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;

use super::Unhandled;
use crate::{
    database::Database,
    error::{Error, Kind, Result},
    event::Event,
    handler::{Context, Handler, Outcome},
    log::Received,
    message::{Message, MessageId, header},
};

/// A handler whose event type is hidden behind bytes.
#[async_trait]
pub(crate) trait Erased<D: Database>: Send + Sync {
    async fn handle(&self, record: &Received, meta: Meta, context: &mut Context<'_, D>) -> Result<Outcome>;
}

/// What is known of a record beyond its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) id: MessageId,
    pub(crate) attempt: u32,
}

struct Typed<H>(H);

#[async_trait]
impl<D: Database, H: Handler<D>> Erased<D> for Typed<H> {
    async fn handle(&self, record: &Received, meta: Meta, context: &mut Context<'_, D>) -> Result<Outcome> {
        let message = Message {
            event: H::Event::decode(record.payload.as_deref())?,
            id: meta.id,
            key: record.key.clone().into(),
            headers: record.headers.clone(),
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            time: UNIX_EPOCH + Duration::from_millis(u64::try_from(record.time_ms).unwrap_or(0)),
            attempt: meta.attempt,
        };
        let outcome = self.0.handle(&message, context).await;
        outcome.map_err(|error| {
            Error::caused(Kind::Handler, format!("the handler of {:?} failed", H::Event::TYPE), error)
        })
    }
}

/// The handlers of one processor, by topic and event type.
pub(crate) struct Registry<D: Database> {
    by_topic: HashMap<&'static str, HashMap<&'static str, Arc<dyn Erased<D>>>>,
    pub(crate) unhandled: Unhandled,
    twice: Vec<String>,
}

impl<D: Database> Default for Registry<D> {
    fn default() -> Self {
        Self { by_topic: HashMap::new(), unhandled: Unhandled::default(), twice: Vec::new() }
    }
}

impl<D: Database> Registry<D> {
    pub(crate) fn add<H: Handler<D>>(&mut self, handler: H) {
        let (topic, event_type) = (H::Event::topic(), H::Event::TYPE);
        if self.by_topic.entry(topic).or_default().insert(event_type, Arc::new(Typed(handler))).is_some() {
            self.twice.push(format!("event {event_type:?} of topic {topic:?} has two handlers"));
        }
    }

    /// The same with every handler wrapped.
    #[cfg(feature = "testing")]
    pub(crate) fn map<O: Database>(
        self,
        wrap: impl Fn(Arc<dyn Erased<D>>) -> Arc<dyn Erased<O>>,
    ) -> Registry<O> {
        let wrapped = |handlers: HashMap<&'static str, Arc<dyn Erased<D>>>| {
            handlers.into_iter().map(|(event_type, handler)| (event_type, wrap(handler))).collect()
        };
        Registry {
            by_topic: self.by_topic.into_iter().map(|(topic, handlers)| (topic, wrapped(handlers))).collect(),
            unhandled: self.unhandled,
            twice: self.twice,
        }
    }

    pub(crate) fn problems(&self) -> &[String] {
        &self.twice
    }

    pub(crate) fn topics(&self) -> BTreeSet<&'static str> {
        self.by_topic.keys().copied().collect()
    }

    /// The handler for a record; `None`: pass over it. A record without a type goes to the only handler of its
    /// topic, so that programs that know nothing of our headers can be answered.
    pub(crate) fn find(&self, record: &Received) -> Result<Option<&dyn Erased<D>>> {
        let of_topic = self.by_topic.get(&*record.topic);
        let event_type = record.headers.get_str(header::TYPE);
        let handler = match (of_topic, event_type) {
            (Some(handlers), Some(event_type)) => handlers.get(event_type),
            (Some(handlers), None) if handlers.len() == 1 => handlers.values().next(),
            _ => None,
        };
        match (handler, self.unhandled) {
            (Some(handler), _) => Ok(Some(handler.as_ref())),
            (None, Unhandled::Skip) => Ok(None),
            (None, Unhandled::Fail) => Err(Error::new(
                Kind::Handler,
                format!(
                    "no handler for event type {:?} of topic {:?}",
                    event_type.unwrap_or("(none)"),
                    record.topic
                ),
            )),
        }
    }
}

/// The id in the headers, or one made of the record's place.
pub(crate) fn id(record: &Received, topic_id: &str) -> MessageId {
    let sent = record.headers.message_id();
    sent.unwrap_or_else(|| MessageId::at_offset(&record.topic, topic_id, record.partition, record.offset))
}
