//! From the server to the client.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;

use super::connection::{Connection, Side};
use super::frames::Frames;
use super::shared::{Mode, Shared};
use super::{CHUNK, Framing};

/// Carries answers until the server ends.
pub(crate) fn carry(shared: &Shared, connection: &Connection) -> io::Result<()> {
    // PostgreSQL's answers need no cutting: the half of what came is as torn as the half of a message.
    let framing = if shared.framing == Framing::Kafka { Framing::Kafka } else { Framing::Raw };
    let mut frames = Frames::new(framing);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = (&connection.server).read(&mut chunk);
        if connection.gone(Side::Server) {
            return Ok(());
        }
        let count = read?;
        shared.lag();
        let mode = shared.pass(connection)?;
        if connection.gone(Side::Client) {
            if count == 0 {
                return Ok(());
            }
        } else if connection.silenced() || mode == Mode::DropAnswers {
            connection.swallow();
            if count == 0 {
                return Ok(());
            }
        } else if count == 0 {
            return connection.client.shutdown(Shutdown::Write);
        } else {
            frames.push(&chunk[..count]);
            while let Some(frame) = frames.pop() {
                match answer(shared, connection, framing, &frame) {
                    Err(_)
                        if !connection.dead() && (shared.hides_ends() || connection.gone(Side::Client)) =>
                    {
                        connection.forget(Side::Client);
                    }
                    sent => sent?,
                }
            }
        }
    }
}

fn answer(shared: &Shared, connection: &Connection, framing: Framing, frame: &[u8]) -> io::Result<()> {
    let correlation = match frame.get(4..8).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) if framing == Framing::Kafka => i32::from_be_bytes(bytes),
        _ => -1,
    };
    if connection.torn(correlation) {
        connection.forward(shared, Side::Client, &frame[..frame.len() / 2])?;
        return Err(ErrorKind::ConnectionReset.into());
    }
    connection.forward(shared, Side::Client, frame)
}
