//! Requests by what they ask: matchers for the rules of a [`Proxy`](super::Proxy).
//!
//! The older matchers take a request's bytes; [`bytes`] makes one of them a matcher of [`Request`]s.

pub use super::header::Request;

/// `Produce`.
pub const PRODUCE: i16 = 0;
/// `Fetch`.
pub const FETCH: i16 = 1;
/// `Metadata`.
pub const METADATA: i16 = 3;
/// `FindCoordinator`: of a group or of a transactional id.
pub const FIND_COORDINATOR: i16 = 10;
/// `JoinGroup`.
pub const JOIN_GROUP: i16 = 11;
/// `Heartbeat` of a member of a group.
pub const HEARTBEAT: i16 = 12;
/// `InitProducerId`: fences and ends what an earlier owner of the transactional id had open.
pub const INIT_PRODUCER_ID: i16 = 22;
/// `AddPartitionsToTxn`.
pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
/// `AddOffsetsToTxn`: the group whose offsets the transaction will hold.
pub const ADD_OFFSETS_TO_TXN: i16 = 25;
/// `EndTxn`: commit or abort of a Kafka transaction.
pub const END_TXN: i16 = 26;
/// `TxnOffsetCommit`.
pub const TXN_OFFSET_COMMIT: i16 = 28;

/// A matcher of bytes as one of requests.
pub fn bytes(
    matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
) -> impl Fn(&Request<'_>) -> bool + Send + Sync + 'static {
    move |request| matches(request.bytes)
}

/// Matches every request.
pub fn any(_: &Request<'_>) -> bool {
    true
}

/// Matches Kafka requests of any of these numbers.
pub fn one_of<const N: usize>(keys: [i16; N]) -> impl Fn(&Request<'_>) -> bool + Send + Sync + 'static {
    move |request| keys.contains(&request.key)
}

/// The api key of a whole Kafka request: the 16 bits after the length.
pub fn kafka_api_key(frame: &[u8]) -> Option<i16> {
    let key = frame.get(4..6)?.try_into().ok()?;
    Some(i16::from_be_bytes(key))
}

/// Whether a whole Kafka request has the given api key.
pub fn kafka_key(key: i16) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
    move |frame| kafka_api_key(frame) == Some(key)
}

/// Whether a whole Kafka request commits a transaction: an `EndTxn` that is no abort.
pub fn kafka_commit(frame: &[u8]) -> bool {
    end_txn_outcome(frame) == Some(true)
}

/// Whether a whole Kafka request aborts a transaction.
pub fn kafka_abort(frame: &[u8]) -> bool {
    end_txn_outcome(frame) == Some(false)
}

/// The last field of an `EndTxn`; from version 3 on an empty list of tagged fields follows it.
fn end_txn_outcome(frame: &[u8]) -> Option<bool> {
    if kafka_api_key(frame) != Some(END_TXN) {
        return None;
    }
    let version = i16::from_be_bytes(frame.get(6..8)?.try_into().ok()?);
    let from_end = if version >= 3 { 2 } else { 1 };
    Some(*frame.get(frame.len().checked_sub(from_end)?)? == 1)
}

/// Whether a whole PostgreSQL message asks for a statement that begins with these words, as a simple query or as one
/// to prepare. A statement prepared before and only executed now is not recognised; no driver prepares `COMMIT`.
pub fn postgres_statement(words: &str) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
    let words = words.to_ascii_uppercase();
    move |frame| {
        let text = match frame {
            [b'Q', _, _, _, _, query @ ..] => Some(query),
            [b'P', _, _, _, _, rest @ ..] => rest.splitn(2, |byte| *byte == 0).nth(1),
            _ => None,
        };
        let text = text.map(|text| text.trim_ascii_start()).and_then(|text| text.get(..words.len()));
        text.is_some_and(|start| start.eq_ignore_ascii_case(words.as_bytes()))
    }
}

/// Whether a whole PostgreSQL message is a `COMMIT`.
pub fn postgres_commit(frame: &[u8]) -> bool {
    postgres_statement("COMMIT")(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_txn(version: i16, outcome: &[u8]) -> Vec<u8> {
        let body =
            [&END_TXN.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0xff, 0xff], outcome].concat();
        [&u32::try_from(body.len()).unwrap_or_default().to_be_bytes()[..], &body].concat()
    }

    #[test]
    fn commits_and_aborts_of_kafka_differ_in_one_byte() {
        assert!(kafka_commit(&end_txn(1, &[1])) && !kafka_abort(&end_txn(1, &[1])));
        assert!(kafka_abort(&end_txn(1, &[0])) && !kafka_commit(&end_txn(1, &[0])));
        assert!(kafka_commit(&end_txn(3, &[1, 0])) && kafka_abort(&end_txn(3, &[0, 0])));
        assert!(!kafka_commit(&[0, 0, 0, 2, 0, 3]) && !kafka_abort(b""));
    }

    #[test]
    fn statements_of_postgres_are_read_in_both_protocols() {
        assert!(postgres_commit(b"Q\0\0\0\x0bCOMMIT\0"));
        assert!(postgres_commit(b"Q\0\0\0\x0c commit\0"));
        assert!(postgres_commit(b"P\0\0\0\x0fs1\0COMMIT\0\0\0"));
        assert!(!postgres_commit(b"Q\0\0\0\x0dSELECT 1\0"));
        assert!(postgres_statement("insert into outbox")(b"P\0\0\0\x20\0INSERT INTO outbox VALUES\0\0\0"));
    }
}
