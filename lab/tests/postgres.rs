//! As much of a PostgreSQL client as these tests need: simple queries.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut client = Self(stream);
        let who = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        client.send(&[], who)?;
        client.answer()?;
        Ok(client)
    }

    /// Runs the text and returns the first column of its rows.
    pub(crate) fn query(&mut self, text: &str) -> io::Result<Vec<String>> {
        self.send(b"Q", &[text.as_bytes(), b"\0"].concat())?;
        self.answer()
    }

    pub(crate) fn patience(&self, limit: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(limit))
    }

    fn send(&mut self, tag: &[u8], body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
        self.0.write_all(&[tag, &length.to_be_bytes(), body].concat())
    }

    /// Reads up to "ready for query".
    fn answer(&mut self) -> io::Result<Vec<String>> {
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; length as usize - 4];
            self.0.read_exact(&mut body)?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            match head[0] {
                b'D' => {
                    let length = u32::from_be_bytes([body[2], body[3], body[4], body[5]]);
                    rows.push(text(&body[6..6 + length as usize]));
                }
                b'E' => failure = Some(text(&body)),
                b'Z' => return failure.map_or(Ok(rows), |failure| Err(io::Error::other(failure))),
                _ => {}
            }
        }
    }
}
