//! Records as bytes, for the database to keep: a version, then the records.

use bytes::Bytes;

use super::Record;
use crate::error::{Error, Kind, Result};

const VERSION: u8 = 1;

/// Encodes records; none at all become no bytes.
///
/// # Errors
/// Kind `Corrupt` if they cannot be encoded.
pub fn encode(records: &[Record]) -> Result<Bytes> {
    if records.is_empty() {
        return Ok(Bytes::new());
    }
    postcard::to_extend(records, vec![VERSION])
        .map(Bytes::from)
        .map_err(|error| Error::caused(Kind::Corrupt, "records cannot be encoded", error))
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// Kind `Corrupt` for another version or torn bytes.
pub fn decode(bytes: &[u8]) -> Result<Vec<Record>> {
    match bytes.split_first() {
        None => Ok(Vec::new()),
        Some((&VERSION, body)) => postcard::from_bytes(body)
            .map_err(|error| Error::caused(Kind::Corrupt, "stored records cannot be decoded", error)),
        Some((version, _)) => Err(Error::new(
            Kind::Corrupt,
            format!("stored records have version {version}, this program knows version {VERSION}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn records_survive_storage() {
        let mut headers = Headers::new();
        headers.push("a", "1");
        headers.push("a", vec![0xff]);
        headers.push_raw("none", None);
        let full = Record {
            topic: "orders".into(),
            partition: Some(3),
            key: Some(Bytes::from_static(b"k")),
            payload: Some(Bytes::from_static(b"\0\xffp")),
            headers,
            time_ms: Some(-1),
        };
        let bare = Record {
            partition: None,
            key: None,
            payload: None,
            headers: Headers::new(),
            time_ms: None,
            ..full.clone()
        };
        let records = vec![full, bare];
        assert_eq!(decode(&encode(&records).unwrap()).unwrap(), records);
    }

    #[test]
    fn nothing_is_no_bytes_and_other_versions_are_refused() {
        assert!(encode(&[]).unwrap().is_empty());
        assert!(decode(&[]).unwrap().is_empty());
        assert_eq!(decode(&[9, 0]).unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(decode(&[VERSION, 200]).unwrap_err().kind(), Kind::Corrupt);
    }
}
