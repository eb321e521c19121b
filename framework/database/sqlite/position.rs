//! Where the reader of an outbox stands, as it is stored in the relay's position.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Kind, Result};

/// Tells it from a place in another kind of database.
const FORMAT: u8 = b's';

/// Everything of the shard up to `seq` is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) seq: i64,
    /// `None` at the origin: any database will do.
    pub(super) database: Option<Uuid>,
    /// What the database holds if it is not older than this place.
    pub(super) mark: Option<Uuid>,
}

impl Place {
    pub(super) fn encode(&self) -> Result<Bytes> {
        postcard::to_extend(self, vec![FORMAT])
            .map(Bytes::from)
            .map_err(|error| Error::caused(Kind::Corrupt, "the place in the outbox cannot be encoded", error))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|error| {
                Error::caused(Kind::Corrupt, "the place in the outbox cannot be decoded", error)
            }),
            format => Err(Error::new(
                Kind::Corrupt,
                format!(
                    "the place in the outbox has format {:?}, expected {FORMAT} (SQLite)",
                    format.map(|(format, _)| format)
                ),
            )),
        }
    }
}
