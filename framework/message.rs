//! What travels: ids, keys, headers, and the message a handler sees.

use std::{borrow::Cow, fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Names of the headers the framework writes and reads: CloudEvents 1.0 in Kafka's binary content mode, and
/// W3C trace context.
pub mod header {
    /// The message id, a UUID in hyphenated form.
    pub const ID: &str = "ce_id";
    /// Who wrote the message, a URI reference.
    pub const SOURCE: &str = "ce_source";
    /// The wire name of the event.
    pub const TYPE: &str = "ce_type";
    /// When the message was written, RFC 3339 in UTC.
    pub const TIME: &str = "ce_time";
    /// The version of CloudEvents, `1.0`.
    pub const SPEC_VERSION: &str = "ce_specversion";
    /// The media type of the payload.
    pub const CONTENT_TYPE: &str = "content-type";
    /// W3C trace context.
    pub const TRACE_PARENT: &str = "traceparent";
}

/// The identity of a message; the inbox removes a second message with the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    /// A new id, ordered by time (UUID version 7).
    #[expect(clippy::new_without_default, reason = "each call gives another id")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id of the `index`-th message emitted while handling one record: the same when it is sent again. `topic_id` tells
    /// the topic from another one that had its name, whose offsets were the same; empty where the log gives topics none.
    pub fn emitted(
        group: &str,
        topic: &str,
        topic_id: &str,
        partition: i32,
        offset: i64,
        index: u32,
    ) -> Self {
        let numbers = [i64::from(partition), offset, i64::from(index)];
        Self::hashed("emitted", &[group, topic, topic_id], &numbers)
    }

    /// The id of a record that came without one; `topic_id` as in [`emitted`](Self::emitted).
    pub fn at_offset(topic: &str, topic_id: &str, partition: i32, offset: i64) -> Self {
        Self::hashed("offset", &[topic, topic_id], &[i64::from(partition), offset])
    }

    /// The id in a `ce_id` header: a UUID as it stands, any other text hashed together with its `ce_source`,
    /// because CloudEvents ids are unique only within their source.
    pub fn foreign(source: &str, id: &str) -> Self {
        Uuid::try_parse(id).map_or_else(|_| Self::hashed("foreign", &[source, id], &[]), Self)
    }

    pub(crate) fn hashed(domain: &str, texts: &[&str], numbers: &[i64]) -> Self {
        let mut hash = Sha256::new();
        for text in [domain].iter().chain(texts) {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        for number in numbers {
            hash.update(number.to_be_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl From<Uuid> for MessageId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl From<MessageId> for Uuid {
    fn from(id: MessageId) -> Self {
        id.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// What order is kept for: messages of one key keep their order; messages without a key have none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(Option<Bytes>);

impl Key {
    /// No key: no order, and any partition.
    pub const NONE: Self = Self(None);

    /// The bytes on the wire.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }

    /// The key as text, where it is text.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref().and_then(|bytes| str::from_utf8(bytes).ok())
    }
}

impl From<Option<Bytes>> for Key {
    fn from(bytes: Option<Bytes>) -> Self {
        Self(bytes)
    }
}

impl From<Key> for Option<Bytes> {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(Some(text.into()))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Some(Bytes::copy_from_slice(text.as_bytes())))
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Some(bytes.into()))
    }
}

impl From<Uuid> for Key {
    fn from(id: Uuid) -> Self {
        id.to_string().into()
    }
}

impl From<i64> for Key {
    fn from(number: i64) -> Self {
        number.to_string().into()
    }
}

/// Headers in their order on the wire; names may repeat, values may be absent or not text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(Vec<(Cow<'static, str>, Option<Bytes>)>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Room for `count` headers.
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// Adds a header at the end, also where the name stands already.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) {
        self.0.push((name.into(), Some(value.into())));
    }

    /// Adds a header whose value may be absent.
    pub fn push_raw(&mut self, name: impl Into<Cow<'static, str>>, value: Option<Bytes>) {
        self.0.push((name.into(), value));
    }

    /// Adds all of `more` at the end.
    pub fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }

    /// The last value of that name, as Kafka's own `lastHeader`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(each, _)| each == name).and_then(|(_, value)| value.as_deref())
    }

    /// The last value of that name, where it is text.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// The id in `ce_id`, if there is one.
    pub fn message_id(&self) -> Option<MessageId> {
        let id = self.get_str(header::ID)?;
        Some(MessageId::foreign(self.get_str(header::SOURCE).unwrap_or(""), id))
    }

    /// All headers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_deref()))
    }

    /// How many bytes the names and values take.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len)).sum()
    }
}

/// What a handler gets: the decoded event and where it came from.
#[derive(Debug, Clone)]
pub struct Message<E> {
    /// The decoded event.
    pub event: E,
    /// The id in the headers, or one derived from topic, partition and offset.
    pub id: MessageId,
    /// What order is kept for.
    pub key: Key,
    /// All headers as received.
    pub headers: Headers,
    /// The topic it was read from.
    pub topic: Arc<str>,
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset in that partition.
    pub offset: i64,
    /// The time stamp of the record: of its producer or of the broker, as the topic is configured.
    pub time: SystemTime,
    /// 1 for the first execution since this process was assigned the partition, then counting up. A transaction that the
    /// database did not even begin is none.
    pub attempt: u32,
}
