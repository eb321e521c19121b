//! A row of the outbox as a record: CloudEvents 1.0 in Kafka's binary content mode.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    database::OutboxRow,
    log::Record,
    message::{Headers, header},
    time::{from_micros, rfc3339},
};

/// Makes records of rows. Headers that the writer set win over the defaults, except the id.
pub(crate) struct Envelope {
    source: Bytes,
}

impl Envelope {
    pub(crate) fn new(source: String) -> Self {
        Self { source: source.into() }
    }

    pub(crate) fn record(&self, row: &OutboxRow) -> Record {
        let user = row.headers.as_ref();
        let set_by_user = |name: &str| user.is_some_and(|headers| headers.contains_key(name));
        let mut headers = Headers::with_capacity(6 + user.map_or(0, serde_json::Map::len));
        headers.push(header::SPEC_VERSION, Bytes::from_static(b"1.0"));
        headers.push(header::ID, row.id.to_string());
        if !set_by_user(header::SOURCE) {
            headers.push(header::SOURCE, self.source.clone());
        }
        if let Some(event_type) = row.event_type.as_ref().filter(|_| !set_by_user(header::TYPE)) {
            headers.push(header::TYPE, event_type.to_string());
        }
        if !set_by_user(header::TIME) {
            headers.push(header::TIME, rfc3339(from_micros(row.time_us)));
        }
        if !set_by_user(header::CONTENT_TYPE) {
            headers.push(header::CONTENT_TYPE, Bytes::from_static(b"application/json"));
        }
        for (name, value) in user.into_iter().flatten() {
            if name == header::ID || name == header::SPEC_VERSION {
                continue;
            }
            let value = match value {
                Value::Null => None,
                Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
                other => Some(other.to_string().into()),
            };
            headers.push_raw(name.clone(), value);
        }
        Record {
            topic: row.topic.clone(),
            partition: None,
            key: row.key.clone(),
            payload: row.payload.clone(),
            headers,
            time_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageId;

    fn row(headers: Option<Value>) -> OutboxRow {
        OutboxRow {
            seq: 1,
            id: MessageId::at_offset("t", "", 0, 0),
            topic: "orders".into(),
            key: Some(Bytes::from_static(b"k")),
            payload: None,
            event_type: Some("OrderPlaced".into()),
            headers: headers.and_then(|value| value.as_object().cloned()),
            time_us: 1_700_000_000_123_456,
        }
    }

    #[test]
    fn carries_the_cloud_events_headers() {
        let row = row(None);
        let record = Envelope::new("/shop".into()).record(&row);
        let id = row.id.to_string();
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_id", id.as_str()),
            ("ce_source", "/shop"),
            ("ce_type", "OrderPlaced"),
            ("ce_time", "2023-11-14T22:13:20.123456Z"),
            ("content-type", "application/json"),
        ];
        assert_eq!(record.headers.iter().len(), expected.len());
        for (name, value) in expected {
            assert_eq!(record.headers.get_str(name), Some(value), "{name}");
        }
    }

    #[test]
    fn the_writer_may_set_all_but_the_id() {
        let headers = serde_json::json!({
            "ce_id": "forged", "ce_source": "/mine", "content-type": "text/plain", "n": 5, "none": null,
        });
        let record = Envelope::new("/shop".into()).record(&row(Some(headers)));
        assert_eq!(record.headers.get_str("ce_source"), Some("/mine"));
        assert_eq!(record.headers.get_str("content-type"), Some("text/plain"));
        assert_eq!(record.headers.get_str("n"), Some("5"));
        assert_eq!(record.headers.iter().filter(|(name, _)| *name == "ce_id").count(), 1);
        assert_ne!(record.headers.get_str("ce_id"), Some("forged"));
        assert!(record.headers.iter().any(|(name, value)| name == "none" && value.is_none()));
    }
}
