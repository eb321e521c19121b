//! The header `check`: what the checker knows a message by, whatever its payload is.

use crate::Result;

/// The header's name.
pub const HEADER: &str = "check";

/// `v1 RUN PRODUCER SEQ KEYSEQ TXN OF COPY AT`; a CRC over key, payload and these fields follows in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The whole run, without spaces.
    pub run: String,
    /// One connection of one life of a writer.
    pub producer: u32,
    /// From 1 per producer, without regard to outcomes.
    pub seq: u64,
    /// From 1 per record key, without gaps among the committed; 0 promises no order.
    pub key_seq: u64,
    /// The business transaction, per producer.
    pub txn: u64,
    /// How many messages that transaction has.
    pub of: u32,
    /// 0 for what was enqueued; copies that the handler emits count from 0.
    pub copy: u32,
    /// When it was enqueued, in ms since the epoch.
    pub at: u64,
}

impl Identity {
    fn fields(&self) -> String {
        let Self { run, producer, seq, key_seq, txn, of, copy, at } = self;
        format!("v1 {run} {producer} {seq} {key_seq} {txn} {of} {copy} {at} ")
    }

    /// The CRC of this message with that key and payload.
    pub fn crc(&self, key: Option<&[u8]>, payload: Option<&[u8]>) -> u32 {
        crc(&self.fields(), key, payload)
    }

    /// The header's value.
    pub fn header(&self, key: Option<&[u8]>, payload: Option<&[u8]>) -> String {
        let fields = self.fields();
        let crc = crc(&fields, key, payload);
        format!("{fields}{crc:08x}")
    }

    /// Reads a header's value; the CRC is not compared with anything.
    ///
    /// # Errors
    /// When it is not such a value.
    pub fn read(text: &str) -> Result<Self> {
        let refuse = || format!("header {HEADER} is {text:?}, expected v1 and nine fields");
        let mut fields = text.split(' ');
        let mut next = || fields.next().ok_or_else(refuse);
        if next()? != "v1" {
            return Err(refuse().into());
        }
        let read = Self {
            run: next()?.to_owned(),
            producer: next()?.parse()?,
            seq: next()?.parse()?,
            key_seq: next()?.parse()?,
            txn: next()?.parse()?,
            of: next()?.parse()?,
            copy: next()?.parse()?,
            at: next()?.parse()?,
        };
        next()?;
        Ok(read)
    }
}

/// Lengths are part of it, so that no byte can move from key to payload; `u32::MAX` says that there is none.
fn crc(fields: &str, key: Option<&[u8]>, payload: Option<&[u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [key, payload] {
        let length = part.map_or(u32::MAX, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1));
        hasher.update(&length.to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    hasher.update(fields.as_bytes());
    hasher.finalize()
}

/// How many messages the handler emits for that message: a tombstone cannot be emitted.
pub fn copies(seq: u64, has_payload: bool) -> u32 {
    match seq % 10 {
        _ if !has_payload => 0,
        0 => 0,
        1 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let run = "r1".to_owned();
        Identity { run, producer: 3, seq: 11, key_seq: 4, txn: 7, of: 2, copy: 0, at: 1_700_000_000_000 }
    }

    #[test]
    fn reads_what_it_wrote() {
        let header = identity().header(Some(b"k"), Some(b"payload"));
        assert!(header.starts_with("v1 r1 3 11 4 7 2 0 1700000000000 "), "{header}");
        assert_eq!(Identity::read(&header).unwrap(), identity());
        assert!(Identity::read("v2 r1 3").is_err() && Identity::read("v1 r1 3 11").is_err());
    }

    #[test]
    fn the_crc_tells_absent_from_empty_and_key_from_payload() {
        let crc = |key, payload| identity().crc(key, payload);
        let all = [
            crc(None, None),
            crc(Some(b"" as &[u8]), None),
            crc(None, Some(b"" as &[u8])),
            crc(Some(b"ab"), Some(b"c")),
            crc(Some(b"a"), Some(b"bc")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one));
        }
    }

    #[test]
    fn a_tombstone_is_not_emitted() {
        assert_eq!([10, 11, 12].map(|seq| copies(seq, true)), [0, 2, 1]);
        assert_eq!(copies(11, false), 0);
    }
}
