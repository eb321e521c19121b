//! As much of a Kafka client as these tests need: one connection, requests by their bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tidelock_lab::proxy::request::{ADD_PARTITIONS_TO_TXN, END_TXN, FIND_COORDINATOR, INIT_PRODUCER_ID};

/// The body of a `Metadata` request, version 1, about no topic.
pub(crate) const NO_TOPIC: [u8; 4] = [0; 4];
const CREATE_TOPICS: i16 = 19;

pub(crate) struct Wire {
    stream: TcpStream,
    correlation: i32,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, correlation: 0 })
    }

    pub(crate) fn patience(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))
    }

    /// The body of the answer.
    pub(crate) fn call(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.send(key, version, body)?;
        let correlation = self.correlation;
        match self.answer()? {
            (theirs, answer) if theirs == correlation => Ok(answer),
            (theirs, _) => Err(io::Error::other(format!("answer to {theirs}, not to {correlation}"))),
        }
    }

    pub(crate) fn send(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<()> {
        self.correlation += 1;
        let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &self.correlation.to_be_bytes()];
        let request = [&head.concat(), &text("lab")[..], body].concat();
        self.stream.write_all(&[&length(&request)[..], &request].concat())
    }

    pub(crate) fn answer(&mut self) -> io::Result<(i32, Vec<u8>)> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer)?;
        let body = answer.split_off(4);
        Ok((i32::from_be_bytes(answer.try_into().unwrap_or_default()), body))
    }

    /// Everything that still comes, and how it ends.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let end = self.stream.read_to_end(&mut bytes).map(drop);
        (bytes, end)
    }

    pub(crate) fn create_topic(&mut self, topic: &str, partitions: i32, replicas: i16) -> io::Result<()> {
        let name = text(topic);
        let sizes = [&partitions.to_be_bytes()[..], &replicas.to_be_bytes()].concat();
        let body = [&[0, 0, 0, 1], &name[..], &sizes, &[0; 8], &10_000_i32.to_be_bytes(), &[0]].concat();
        let answer = self.call(CREATE_TOPICS, 2, &body)?;
        no_error(short(&answer, 8 + name.len()))
    }

    /// The new owner's producer id and epoch, as bytes.
    pub(crate) fn init_producer(&mut self, id: &str) -> io::Result<Vec<u8>> {
        let body = [&text(id)[..], &60_000_i32.to_be_bytes()].concat();
        let mut code = 0;
        for _ in 0..200 {
            // Asking for the coordinator is what makes the broker create its topic.
            self.call(FIND_COORDINATOR, 1, &[&text(id)[..], &[1]].concat())?;
            let answer = self.call(INIT_PRODUCER_ID, 0, &body)?;
            code = short(&answer, 4);
            match code {
                // The coordinator is not there yet, or still loads.
                14..=16 | 51 => std::thread::sleep(Duration::from_millis(50)),
                _ => return no_error(code).map(|()| answer[6..].to_vec()),
            }
        }
        Err(io::Error::other(format!("still error {code}")))
    }

    /// The error code of partition 0.
    pub(crate) fn add_partition(&mut self, id: &str, owner: &[u8], topic: &str) -> io::Result<i16> {
        let name = text(topic);
        let body = [&text(id)[..], owner, &[0, 0, 0, 1], &name, &[0, 0, 0, 1], &[0; 4]].concat();
        for _ in 0..200 {
            let answer = self.call(ADD_PARTITIONS_TO_TXN, 0, &body)?;
            match short(&answer, answer.len() - 2) {
                // The last transaction's markers are still being written.
                51 => std::thread::sleep(Duration::from_millis(20)),
                code => return Ok(code),
            }
        }
        Ok(51)
    }

    /// The error code.
    pub(crate) fn end(&mut self, id: &str, owner: &[u8], commit: bool) -> io::Result<i16> {
        let body = [&text(id)[..], owner, &[u8::from(commit)]].concat();
        for _ in 0..200 {
            match short(&self.call(END_TXN, 0, &body)?, 4) {
                51 => std::thread::sleep(Duration::from_millis(20)),
                code => return Ok(code),
            }
        }
        Ok(51)
    }
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

pub(crate) fn short(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or_default().to_be_bytes()
}

fn no_error(code: i16) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::other(format!("error {code}"))) }
}
