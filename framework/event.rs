//! A typed message: its wire name, its topic, its key.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Kind, Result},
    message::Key,
};

/// Something that happened, as it travels. Encoded as JSON unless the methods say otherwise.
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The wire name, sent as `ce_type`. Part of the contract with every reader: do not derive it from a Rust name.
    const TYPE: &'static str;
    /// The topic it is published to and read from.
    const TOPIC: &'static str;
    /// The media type of the payload; JSON unless given.
    const CONTENT_TYPE: &'static str = "application/json";

    /// The topic by its name at run time, where an environment renames it: [`TOPIC`](Self::TOPIC) unless given. Must
    /// not change while the program runs.
    fn topic() -> &'static str {
        Self::TOPIC
    }

    /// What order is kept for.
    fn key(&self) -> Key;

    /// # Errors
    /// Kind `Handler` when the event cannot be encoded.
    fn encode(&self) -> Result<Bytes> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| {
            Error::caused(Kind::Handler, format!("event {:?} cannot be encoded", Self::TYPE), error)
        })
    }

    /// # Errors
    /// Kind `Handler` when the payload is absent or not this event.
    fn decode(payload: Option<&[u8]>) -> Result<Self> {
        let what = || format!("payload is not an event {:?}", Self::TYPE);
        let payload =
            payload.ok_or_else(|| Error::new(Kind::Handler, format!("{}: it is a tombstone", what())))?;
        serde_json::from_slice(payload).map_err(|error| Error::caused(Kind::Handler, what(), error))
    }
}
