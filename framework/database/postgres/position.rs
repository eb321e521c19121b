//! Where the reader of an outbox stands, as it is stored in the relay's position.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{identity::Identity, snapshot::Snapshot};
use crate::error::{Error, Kind, Result};

const VERSION: u8 = 1;

/// Everything visible in `read` is published; of what is visible in `chunks.until` and not in `read`, everything up to
/// `chunks.last`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) read: Snapshot,
    pub(super) chunks: Option<Chunks>,
    /// The end of the WAL when the newest snapshot was taken; 0 at the origin.
    pub(super) wal: u64,
    /// `None` at the origin: any database will do.
    pub(super) identity: Option<Identity>,
}

/// Inside a difference that is published in several transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunks {
    pub(super) until: Snapshot,
    pub(super) last: i64,
}

impl Place {
    pub(super) fn origin() -> Self {
        Self { read: Snapshot::empty(), chunks: None, wal: 0, identity: None }
    }

    /// The newest snapshot it speaks of.
    pub(super) fn newest(&self) -> &Snapshot {
        self.chunks.as_ref().map_or(&self.read, |chunks| &chunks.until)
    }

    pub(super) fn encode(&self) -> Result<Bytes> {
        postcard::to_extend(self, vec![VERSION])
            .map(Bytes::from)
            .map_err(|error| Error::caused(Kind::Corrupt, "the place in the outbox cannot be encoded", error))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|error| {
                Error::caused(Kind::Corrupt, "the place in the outbox cannot be decoded", error)
            }),
            version => Err(Error::new(
                Kind::Corrupt,
                format!(
                    "the place in the outbox has version {:?}, this program knows version {VERSION}",
                    version.map(|(version, _)| version)
                ),
            )),
        }
    }
}
