//! From librdkafka's messages to records of our own.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};

use crate::{
    error::{Error, Kind, Result},
    log::Received,
    message::{Headers, header},
};

/// Names that need no copy.
const KNOWN: [&str; 7] = [
    header::ID,
    header::SOURCE,
    header::TYPE,
    header::TIME,
    header::SPEC_VERSION,
    header::CONTENT_TYPE,
    header::TRACE_PARENT,
];

/// # Errors
/// Kind `Corrupt` for a header whose name is not text.
pub(super) fn received(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Result<Received> {
    Ok(Received {
        topic: Arc::clone(topic),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice),
        payload: message.payload().map(Bytes::copy_from_slice),
        headers: headers(topic, message)?,
        time_ms: message.timestamp().to_millis().unwrap_or(0).max(0),
    })
}

fn headers(topic: &str, message: &BorrowedMessage<'_>) -> Result<Headers> {
    let Some(raw) = message.headers() else {
        return Ok(Headers::new());
    };
    // rdkafka panics on a name that is not UTF-8, and offers no other way to read it.
    catch_unwind(AssertUnwindSafe(|| {
        let mut values = Vec::with_capacity(raw.iter().map(|each| each.value.map_or(0, <[u8]>::len)).sum());
        for each in raw.iter() {
            values.extend_from_slice(each.value.unwrap_or_default());
        }
        let values = Bytes::from(values);
        let mut headers = Headers::with_capacity(raw.count());
        let mut start = 0;
        for each in raw.iter() {
            let value = each.value.map(|value| {
                start += value.len();
                values.slice(start - value.len()..start)
            });
            headers.push_raw(name(each.key), value);
        }
        headers
    }))
    .map_err(|_| {
        Error::new(
            Kind::Corrupt,
            format!(
                "{topic}[{}] offset {}: a header's name is not UTF-8",
                message.partition(),
                message.offset()
            ),
        )
    })
}

fn name(name: &str) -> Cow<'static, str> {
    KNOWN
        .iter()
        .find(|known| **known == name)
        .map_or_else(|| Cow::Owned(name.to_owned()), |known| Cow::Borrowed(*known))
}
