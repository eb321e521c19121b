//! What the relay has published, as the last record of the same Kafka transaction.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    database::Shard,
    error::{Error, Kind, Result},
    log::Received,
};

const VERSION: u8 = 1;

/// The value of a record in the progress topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// How many shards there are: a key that moved to a shard further ahead would lose rows.
    pub(crate) shards: u32,
    pub(crate) shard: u32,
    /// Rises by one with every transaction of the shard.
    pub(crate) count: u64,
    /// The quarantine attempt that this transaction confirms.
    pub(crate) attempt: Option<Uuid>,
    /// The source's own position.
    pub(crate) source: Bytes,
}

impl Position {
    pub(crate) fn first(shard: Shard, source: Bytes) -> Self {
        Self { shards: shard.count, shard: shard.index, count: 0, attempt: None, source }
    }

    pub(crate) fn next(&self, source: Bytes, attempt: Option<Uuid>) -> Self {
        Self { count: self.count + 1, attempt, source, ..*self }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        postcard::to_extend(self, vec![VERSION])
            .map(Bytes::from)
            .map_err(|error| Error::caused(Kind::Corrupt, "the position cannot be encoded", error))
    }

    /// Decodes the last record of a progress partition and checks that it belongs to this shard.
    pub(crate) fn decode(record: &Received, shard: Shard) -> Result<Self> {
        let at = || format!("{}[{}] offset {}", record.topic, record.partition, record.offset);
        let corrupt = |what: String| Error::new(Kind::Corrupt, format!("{}: {what}", at()));
        let position: Self = match record.payload.as_deref().and_then(<[u8]>::split_first) {
            None => return Err(corrupt("the position is empty".into())),
            Some((&VERSION, body)) => postcard::from_bytes(body)
                .map_err(|error| Error::caused(Kind::Corrupt, format!("{}: not a position", at()), error))?,
            Some((version, _)) => {
                return Err(corrupt(format!(
                    "position of version {version}, this program knows version {VERSION}"
                )));
            }
        };
        if position.shards != shard.count {
            return Err(Error::new(
                Kind::Config,
                format!("{}: written with {} shards, config has {}", at(), position.shards, shard.count),
            ));
        }
        if position.shard != shard.index {
            return Err(corrupt(format!(
                "position of shard {}, expected shard {}",
                position.shard, shard.index
            )));
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn record(payload: Option<Bytes>) -> Received {
        Received {
            topic: "progress".into(),
            partition: 1,
            offset: 7,
            key: None,
            payload,
            headers: Headers::new(),
            time_ms: 0,
        }
    }

    #[test]
    fn a_position_survives_and_counts() {
        let shard = Shard { index: 1, count: 4 };
        let position = Position::first(shard, Bytes::from_static(b"s1"))
            .next(Bytes::from_static(b"s2"), Some(Uuid::nil()));
        assert_eq!(position.count, 1);
        let stored = record(Some(position.encode().unwrap()));
        assert_eq!(Position::decode(&stored, shard).unwrap(), position);
    }

    #[test]
    fn a_foreign_position_is_refused_with_both_values() {
        let stored =
            record(Some(Position::first(Shard { index: 1, count: 4 }, Bytes::new()).encode().unwrap()));
        let kind_and_text = |shard| {
            let error = Position::decode(&stored, shard).unwrap_err();
            (error.kind(), error.to_string())
        };
        assert_eq!(
            kind_and_text(Shard { index: 1, count: 2 }),
            (Kind::Config, "progress[1] offset 7: written with 4 shards, config has 2".into())
        );
        assert_eq!(kind_and_text(Shard { index: 0, count: 4 }).0, Kind::Corrupt);
        for payload in
            [None, Some(Bytes::new()), Some(Bytes::from_static(&[9])), Some(Bytes::from_static(&[1, 255]))]
        {
            let error = Position::decode(&record(payload), Shard { index: 1, count: 4 }).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
        }
    }
}
