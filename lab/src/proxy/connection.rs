//! One connection through a proxy: two threads and two sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::frames::Frames;
use super::trap::Action;
use super::{Mode, Shared};

/// How often a thread that cannot write looks whether its connection was ended.
const LOOK_UP: Duration = Duration::from_millis(100);
/// How long a lost answer is waited for before the connection ends anyway.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Connection {
    client: TcpStream,
    server: TcpStream,
    dead: AtomicBool,
    /// From now on no answer gets through.
    mute: AtomicBool,
    /// An answer was swallowed: what follows would make no sense to the client.
    lossy: Mutex<bool>,
    lost: Condvar,
}

impl Connection {
    pub(crate) fn new(client: TcpStream, server: TcpStream) -> io::Result<Self> {
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(LOOK_UP))?;
        }
        let (dead, mute) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { client, server, dead, mute, lossy: Mutex::new(false), lost: Condvar::new() })
    }

    /// Ends it with a reset on both sides: the threads wake up, let go of the sockets, and the last one closes them.
    pub(crate) fn reset(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for stream in [&self.client, &self.server] {
            reset_on_close(stream);
            // Wakes a reader and sends nothing.
            stream.shutdown(Shutdown::Read).ok();
        }
    }

    pub(crate) fn dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub(crate) fn lossy(&self) -> bool {
        *self.lossy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swallow(&self) {
        *self.lossy.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.lost.notify_all();
    }

    fn wait_for_lost_answer(&self) {
        let lossy = self.lossy.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.lost.wait_timeout_while(lossy, ANSWER_WITHIN, |lossy| !*lossy && !self.dead()));
    }

    fn write(&self, mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
            if self.dead() {
                return Err(ErrorKind::ConnectionReset.into());
            }
        }
        Ok(())
    }
}

pub(crate) fn reset_on_close(stream: &TcpStream) {
    setsockopt(stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).ok();
}

/// Runs both directions; returns when both have ended.
pub(crate) fn run(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    let (of_shared, of_connection) = (Arc::clone(shared), Arc::clone(connection));
    let answers = thread::spawn(move || {
        if answers(&of_shared, &of_connection).is_err() {
            of_connection.reset();
        }
    });
    if requests(shared, connection).is_err() {
        connection.reset();
    }
    answers.join().ok();
}

fn requests(shared: &Shared, connection: &Connection) -> io::Result<()> {
    let mut frames = Frames::new(shared.framing);
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = (&connection.client).read(&mut chunk)?;
        shared.lag();
        if count == 0 {
            shared.pass(connection)?;
            return connection.server.shutdown(Shutdown::Write);
        }
        frames.push(&chunk[..count]);
        while let Some(frame) = frames.pop() {
            shared.pass(connection)?;
            request(shared, connection, &frame)?;
        }
    }
}

fn request(shared: &Shared, connection: &Connection, frame: &[u8]) -> io::Result<()> {
    for trap in shared.traps() {
        match trap.spring(frame) {
            None => {}
            Some(Action::Hold) => trap.hold(),
            Some(Action::Replace(from, to)) => {
                return connection.write(&connection.server, &replaced(frame, &from, &to));
            }
            Some(Action::LoseRequest) => return Err(ErrorKind::ConnectionReset.into()),
            Some(Action::LoseAnswer(after)) => {
                connection.mute.store(true, Ordering::SeqCst);
                connection.write(&connection.server, frame)?;
                connection.wait_for_lost_answer();
                thread::sleep(after);
                return Err(ErrorKind::ConnectionReset.into());
            }
        }
    }
    connection.write(&connection.server, frame)
}

/// Every occurrence, from the front.
fn replaced(frame: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from) {
        at += found;
        bytes[at..at + from.len()].copy_from_slice(to);
        at += to.len();
    }
    bytes
}

fn answers(shared: &Shared, connection: &Connection) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = (&connection.server).read(&mut chunk)?;
        shared.lag();
        let mode = shared.pass(connection)?;
        if connection.mute.load(Ordering::SeqCst) || mode == Mode::DropAnswers {
            connection.swallow();
            if count == 0 {
                return Ok(());
            }
        } else if count == 0 {
            return connection.client.shutdown(Shutdown::Write);
        } else {
            connection.write(&connection.client, &chunk[..count])?;
        }
    }
}
