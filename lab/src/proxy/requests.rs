//! From the client to the server.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::sync::Arc;

use super::action::{self, Action};
use super::connection::{Connection, Side};
use super::frames::Frames;
use super::request::Request;
use super::shared::Shared;
use super::{CHUNK, Framing};

/// Carries requests until the client ends.
pub(crate) fn carry(shared: &Arc<Shared>, connection: &Connection) -> io::Result<()> {
    let mut frames = Frames::new(shared.framing);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = (&connection.client).read(&mut chunk);
        let hidden = connection.gone(Side::Client) || shared.hides_ends();
        if hidden && !connection.dead() && !matches!(read, Ok(1..)) {
            connection.forget(Side::Client);
            return Ok(());
        }
        let count = read?;
        if connection.gone(Side::Server) {
            if count == 0 {
                return Ok(());
            }
            continue;
        }
        shared.lag();
        if count == 0 {
            shared.pass(connection)?;
            return connection.server.shutdown(Shutdown::Write);
        }
        frames.push(&chunk[..count]);
        while let Some(frame) = frames.pop() {
            shared.pass(connection)?;
            match request(shared, connection, &frame) {
                Err(_) if connection.gone(Side::Server) && !connection.dead() => {}
                sent => sent?,
            }
        }
    }
}

fn request(shared: &Arc<Shared>, connection: &Connection, frame: &[u8]) -> io::Result<()> {
    let reset = || Err(ErrorKind::ConnectionReset.into());
    let send = |bytes: &[u8]| connection.forward(shared, Side::Server, bytes);
    let traps = shared.traps();
    if traps.is_empty() {
        return send(frame);
    }
    let request = if shared.framing == Framing::Kafka { Request::kafka(frame) } else { Request::raw(frame) };
    for trap in traps {
        match trap.spring(&request) {
            None => {}
            Some(Action::Hold) => trap.hold(),
            Some(Action::Wait(time)) => shared.sleep(time),
            Some(Action::Replace(from, to)) => return send(&action::replaced(frame, &from, &to)),
            Some(Action::LoseRequest) => return reset(),
            Some(Action::Drop) => return Ok(()),
            Some(Action::LoseAnswer(after)) => {
                connection.silence();
                send(frame)?;
                connection.wait_for_lost_answer();
                shared.sleep(after);
                return reset();
            }
            Some(Action::Duplicate(after)) => {
                send(frame)?;
                action::deliver_later(shared, &trap, frame, Some(after));
                return Ok(());
            }
            Some(Action::Late(after)) => {
                action::deliver_later(shared, &trap, frame, after);
                return reset();
            }
            Some(Action::TearRequest) => {
                send(&frame[..frame.len() / 2])?;
                return reset();
            }
            Some(Action::TearAnswer) => connection.tear(request.correlation),
        }
    }
    send(frame)
}
