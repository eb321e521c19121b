//! What stands at the beginning of a Kafka request.

use super::request::{
    ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN, INIT_PRODUCER_ID, PRODUCE, TXN_OFFSET_COMMIT,
};

/// A whole request of a client, as the matchers of a [`Proxy`](super::Proxy)'s rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// All of it, with its length (and type, PostgreSQL) in front.
    pub bytes: &'a [u8],
    /// Kafka's number of what is asked; -1 when the proxy does not carry Kafka.
    pub key: i16,
    /// The version of the request's form; -1 as above.
    pub version: i16,
    /// The number by which the client finds the answer; -1 as above.
    pub correlation: i32,
    /// `client.id`, where it is given.
    pub client: Option<&'a str>,
    /// `transactional.id`, in the requests of a transaction (and `Produce`, `InitProducerId`) that have one.
    pub transactional_id: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// A request of another protocol: bytes alone.
    pub(crate) fn raw(bytes: &'a [u8]) -> Self {
        Self { bytes, key: -1, version: -1, correlation: -1, client: None, transactional_id: None }
    }

    /// Reads a whole Kafka request; one that is cut short leaves fields empty.
    pub(crate) fn kafka(bytes: &'a [u8]) -> Self {
        let mut request = Self::raw(bytes);
        let mut cursor = Cursor(bytes.get(4..).unwrap_or_default());
        request.read(&mut cursor);
        request
    }

    fn read(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        self.key = cursor.short()?;
        self.version = cursor.short()?;
        self.correlation = i32::from_be_bytes(cursor.take(4)?.try_into().ok()?);
        self.client = cursor.text();
        // The first version whose header and strings are of the compact form.
        let compact_from = match self.key {
            PRODUCE => 9,
            INIT_PRODUCER_ID => 2,
            ADD_PARTITIONS_TO_TXN | ADD_OFFSETS_TO_TXN | END_TXN | TXN_OFFSET_COMMIT => 3,
            _ => return None,
        };
        if self.version >= compact_from {
            for _ in 0..cursor.varint()? {
                cursor.varint()?;
                let length = cursor.varint()?;
                cursor.take(length)?;
            }
            if self.key == ADD_PARTITIONS_TO_TXN && self.version >= 4 {
                // A list of transactions: the first one's is read.
                cursor.varint()?;
            }
            self.transactional_id = cursor.compact_text();
        } else {
            self.transactional_id = cursor.text();
        }
        Some(())
    }

    /// Whether it is a Kafka request of this number.
    pub fn is(&self, key: i16) -> bool {
        self.key == key
    }

    /// Whether it is a Kafka request of this transactional id.
    pub fn of(&self, transactional_id: &str) -> bool {
        self.transactional_id == Some(transactional_id)
    }

    /// How many bytes it has, with its length in front.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Null, which is a length of -1, is none.
    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.short()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// The length is one more than it is; 0 is null.
    fn compact_text(&mut self) -> Option<&'a str> {
        let length = self.varint()?.checked_sub(1)?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&u32::try_from(body.len()).unwrap_or_default().to_be_bytes()[..], &body].concat()
    }

    #[test]
    fn both_forms_of_a_header_are_read() {
        let plain =
            framed(&[&END_TXN.to_be_bytes(), &[0, 1, 0, 0, 0, 7], b"\0\x02me\0\x03tid12345678\0\0\x01"]);
        let request = Request::kafka(&plain);
        assert_eq!((request.key, request.version, request.correlation), (END_TXN, 1, 7));
        assert_eq!((request.client, request.transactional_id), (Some("me"), Some("tid")));

        let tagged =
            framed(&[&PRODUCE.to_be_bytes(), &[0, 10, 0, 0, 0, 8], b"\xff\xff\x01\x05\x02xy\x04tid\xff\xff"]);
        let request = Request::kafka(&tagged);
        assert_eq!((request.client, request.transactional_id), (None, Some("tid")));

        let list =
            framed(&[&ADD_PARTITIONS_TO_TXN.to_be_bytes(), &[0, 4, 0, 0, 0, 9], b"\xff\xff\0\x02\x04tid"]);
        assert!(Request::kafka(&list).of("tid"));
    }

    #[test]
    fn no_transaction_and_no_end_are_no_id() {
        let null = framed(&[&PRODUCE.to_be_bytes(), &[0, 8, 0, 0, 0, 8], b"\0\x02me\xff\xff\xff\xff"]);
        assert_eq!(Request::kafka(&null).transactional_id, None);
        assert!(Request::kafka(&null).is(PRODUCE));
        for cut in 0..null.len() {
            let request = Request::kafka(&null[..cut]);
            assert!(request.transactional_id.is_none(), "cut at {cut}");
        }
    }
}
