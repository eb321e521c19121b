//! What a message says of itself: one header, sealed with a checksum.

use std::fmt;

use crc32fast::Hasher;

/// The fields of the header, which reads `v1 RUN PRODUCER SEQ KEYSEQ TXN OF COPY AT CRC`.
///
/// ```
/// use tidelock_checker::{Identity, Sealed};
///
/// let identity =
///     Identity { run: "r", producer: 1, seq: 7, key_seq: 2, txn: 4, of: 3, copy: 0, at: 1_700_000_000_000 };
/// let header = identity.seal(Some(b"key"), Some(b"payload"));
/// assert_eq!(header, "v1 r 1 7 2 4 3 0 1700000000000 dd8729a3");
/// assert!(Sealed::read(header.as_bytes()).unwrap().fits(Some(b"key"), Some(b"payload")));
/// assert!(!Sealed::read(header.as_bytes()).unwrap().fits(Some(b"key"), None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The run the message belongs to; text without spaces.
    pub run: &'a str,
    /// Who enqueued it.
    pub producer: u32,
    /// Its number, counted from 1 per producer; a transaction that is rolled back burns numbers.
    pub seq: u64,
    /// Its number within its record key, counted from 1 without gaps; 0 where no order is promised.
    pub key_seq: u64,
    /// The number of its business transaction, per producer.
    pub txn: u64,
    /// How many messages that transaction has, itself included; at least 1.
    pub of: u32,
    /// 0 in an input topic; a handler emits copies 0, 1, .. of a message.
    pub copy: u32,
    /// When it was enqueued, in milliseconds since 1970.
    pub at: u64,
}

impl Identity<'_> {
    /// The header's text for a record with this key and payload.
    pub fn seal(&self, key: Option<&[u8]>, payload: Option<&[u8]>) -> String {
        let fields = format!("{self} ");
        let mut sum = envelope(key, payload);
        sum.update(fields.as_bytes());
        format!("{fields}{:08x}", sum.finalize())
    }
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, producer, seq, key_seq, txn, of, copy, at } = self;
        write!(f, "v1 {run} {producer} {seq} {key_seq} {txn} {of} {copy} {at}")
    }
}

/// A header as read: its fields, and the checksum it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// What the header says.
    pub identity: Identity<'a>,
    /// The checksum the header claims.
    pub crc: u32,
    /// The fields with the space before the checksum.
    fields: &'a str,
}

impl<'a> Sealed<'a> {
    /// Reads a header.
    ///
    /// # Errors
    ///
    /// What is wrong with it: the name of the first field that cannot be read.
    pub fn read(header: &'a [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(header).map_err(|_| "the header is not UTF-8")?;
        let (fields, crc) = text.rsplit_at_space().ok_or("the header has one field")?;
        let mut rest = text.split(' ');
        if rest.next() != Some("v1") {
            return Err("the header does not begin with v1");
        }
        let run = rest.next().filter(|run| !run.is_empty()).ok_or("no RUN")?;
        let mut number = |missing| {
            rest.next().and_then(|digits| digits.parse::<u64>().ok()).ok_or::<&'static str>(missing)
        };
        let identity = Identity {
            run,
            producer: number("no PRODUCER")?.try_into().map_err(|_| "PRODUCER is above 32 bits")?,
            seq: number("no SEQ")?,
            key_seq: number("no KEYSEQ")?,
            txn: number("no TXN")?,
            of: number("no OF")?.try_into().map_err(|_| "OF is above 32 bits")?,
            copy: number("no COPY")?.try_into().map_err(|_| "COPY is above 32 bits")?,
            at: number("no AT")?,
        };
        if rest.next() != Some(crc) || rest.next().is_some() {
            return Err("the header has not ten fields");
        }
        let crc = Some(crc).filter(|crc| crc.len() == 8).and_then(|crc| u32::from_str_radix(crc, 16).ok());
        let crc = crc.ok_or("CRC is not 8 hex digits")?;
        if identity.seq == 0 || identity.of == 0 {
            return Err("SEQ or OF is 0");
        }
        Ok(Self { identity, crc, fields })
    }

    /// Whether the checksum is that of this key, this payload and the fields.
    pub fn fits(&self, key: Option<&[u8]>, payload: Option<&[u8]>) -> bool {
        self.fits_in(&envelope(key, payload))
    }

    /// As [`fits`](Self::fits), for an [`envelope`] that was computed already.
    pub(crate) fn fits_in(&self, envelope: &Hasher) -> bool {
        let mut sum = envelope.clone();
        sum.update(self.fields.as_bytes());
        sum.finalize() == self.crc
    }
}

trait Halves {
    fn rsplit_at_space(&self) -> Option<(&str, &str)>;
}

impl Halves for str {
    /// What is up to the last space, with it, and what comes after.
    fn rsplit_at_space(&self) -> Option<(&str, &str)> {
        self.rfind(' ').map(|at| self.split_at(at + 1))
    }
}

/// The checksum so far over key and payload: each is its length (32 bits, little endian, all ones for none) and its bytes.
pub(crate) fn envelope(key: Option<&[u8]>, payload: Option<&[u8]>) -> Hasher {
    let mut sum = Hasher::new();
    for part in [key, payload] {
        let length = part.map_or(u32::MAX, |bytes| bytes.len() as u32);
        sum.update(&length.to_le_bytes());
        sum.update(part.unwrap_or_default());
    }
    sum
}

/// The checksum of all that a record holds, whatever its header says.
pub(crate) fn content(envelope: &Hasher, header: Option<&[u8]>) -> u32 {
    let mut sum = envelope.clone();
    sum.update(header.unwrap_or(b"\0none"));
    sum.finalize()
}
