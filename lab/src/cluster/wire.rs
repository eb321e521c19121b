//! As much of Kafka's protocol as asking and telling a cluster takes: one request, one answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A request's body, being written.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn int8(self, number: i8) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn int32(self, number: i32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// The length of an array of one.
    pub(super) fn one(self) -> Self {
        self.int32(1)
    }

    pub(super) fn text(self, text: &str) -> Self {
        let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
        self.bytes(&length.to_be_bytes()).bytes(text.as_bytes())
    }

    /// A text or a list of the compact form begins with its length and one more; short ones only.
    pub(super) fn compact(self, length: usize) -> Self {
        self.bytes(&[u8::try_from(length + 1).unwrap_or(0x7f).min(0x7f)])
    }
}

/// An answer's body, being read. Beyond its end everything is 0.
#[derive(Debug)]
pub(super) struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes.get(self.at..self.at + N).and_then(|bytes| bytes.try_into().ok());
        self.at += N;
        taken.unwrap_or([0; N])
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    pub(super) fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    pub(super) fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    /// A length; null is none.
    pub(super) fn count(&mut self) -> usize {
        usize::try_from(self.int32()).unwrap_or_default()
    }

    pub(super) fn compact(&mut self) -> usize {
        usize::from(u8::from_be_bytes(self.take())).saturating_sub(1)
    }

    pub(super) fn text(&mut self) -> String {
        let length = usize::try_from(self.int16()).unwrap_or_default();
        let bytes = self.bytes.get(self.at..self.at + length).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.at += length;
        text
    }

    pub(super) fn numbers(&mut self) -> Vec<i32> {
        (0..self.count()).map(|_| self.int32()).collect()
    }
}

/// Sends a request on a connection of its own and reads the answer. `compact`: both have the newer form of header.
pub(super) fn call(
    address: SocketAddr,
    (key, version, compact): (i16, i16, bool),
    body: &Body,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_nodelay(true)?;
    // Correlation 1, no client id.
    let mut request = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0xff, 0xff]].concat();
    if compact {
        request.push(0);
    }
    request.extend_from_slice(&body.0);
    let length = u32::try_from(request.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &request].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(Answer { bytes, at: if compact { 5 } else { 4 } })
}
