//! A message on its way into the outbox.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    error::Result,
    event::Event,
    message::{Key, MessageId, header},
};

/// A message on its way into the outbox: an event, with headers of one's own where needed.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) topic: Cow<'static, str>,
    pub(crate) key: Key,
    pub(crate) payload: Option<Bytes>,
    pub(crate) event_type: Option<Cow<'static, str>>,
    pub(crate) headers: Option<Map<String, Value>>,
}

impl Outgoing {
    /// An event under a new id.
    ///
    /// # Errors
    /// Kind `Handler` when it cannot be encoded.
    pub fn of<E: Event>(event: &E) -> Result<Self> {
        let mut message = Self {
            id: MessageId::new(),
            topic: E::topic().into(),
            key: event.key(),
            payload: Some(event.encode()?),
            event_type: Some(E::TYPE.into()),
            headers: None,
        };
        if E::CONTENT_TYPE != "application/json" {
            message = message.header(header::CONTENT_TYPE, E::CONTENT_TYPE);
        }
        Ok(message)
    }

    /// Bytes without a type; `None` as payload is a tombstone.
    pub fn raw(topic: impl Into<Cow<'static, str>>, key: impl Into<Key>, payload: Option<Bytes>) -> Self {
        let (id, topic, key) = (MessageId::new(), topic.into(), key.into());
        Self { id, topic, key, payload, event_type: None, headers: None }
    }

    /// Under an id of one's own: a reader's inbox removes a second message with the same id.
    #[must_use]
    pub fn id(mut self, id: MessageId) -> Self {
        self.id = id;
        self
    }

    /// With a header, for example `traceparent`. A second one of the same name replaces the first.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.get_or_insert_default().insert(name.into(), Value::String(value.into()));
        self
    }

    /// The ids, in order.
    pub(crate) fn ids(messages: &[Self]) -> Vec<MessageId> {
        messages.iter().map(|each| each.id).collect()
    }
}
