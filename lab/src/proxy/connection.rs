//! One connection through a proxy: two sockets, and how it ends.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::shared::Shared;
use super::{answers, requests};

/// How often a thread that cannot write looks whether its connection was ended.
const LOOK_UP: Duration = Duration::from_millis(100);
/// How long a lost answer is waited for before the connection ends anyway.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server = 0,
    Client = 1,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    dead: AtomicBool,
    /// Which side is gone without the other's knowledge: indexed by [`Side`].
    gone: [AtomicBool; 2],
    /// From now on no answer gets through.
    mute: AtomicBool,
    /// The answers of which the client gets one half: the correlation of Kafka's, the next one of others.
    torn: Mutex<Vec<i32>>,
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
        Ok(Self {
            client,
            server,
            dead: AtomicBool::new(false),
            gone: [AtomicBool::new(false), AtomicBool::new(false)],
            mute: AtomicBool::new(false),
            torn: Mutex::default(),
            lossy: Mutex::new(false),
            lost: Condvar::new(),
        })
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

    /// Closes one side; the other is not told.
    pub(crate) fn lose(&self, side: Side) {
        self.forget(side);
        self.stream(side).shutdown(Shutdown::Both).ok();
    }

    /// One side has ended, and the other shall not know.
    pub(crate) fn forget(&self, side: Side) {
        self.gone[side as usize].store(true, Ordering::SeqCst);
    }

    pub(crate) fn gone(&self, side: Side) -> bool {
        self.gone[side as usize].load(Ordering::SeqCst)
    }

    /// Whether it is of no more use to anybody.
    pub(crate) fn broken(&self) -> bool {
        let lossy = *self.lossy.lock().unwrap_or_else(PoisonError::into_inner);
        lossy || self.gone(Side::Server) || self.gone(Side::Client)
    }

    pub(crate) fn silence(&self) {
        self.mute.store(true, Ordering::SeqCst);
    }

    pub(crate) fn silenced(&self) -> bool {
        self.mute.load(Ordering::SeqCst)
    }

    pub(crate) fn swallow(&self) {
        *self.lossy.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.lost.notify_all();
    }

    pub(crate) fn wait_for_lost_answer(&self) {
        let lossy = self.lossy.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.lost.wait_timeout_while(lossy, ANSWER_WITHIN, |lossy| !*lossy && !self.dead()));
    }

    pub(crate) fn tear(&self, correlation: i32) {
        self.torn.lock().unwrap_or_else(PoisonError::into_inner).push(correlation);
    }

    pub(crate) fn torn(&self, correlation: i32) -> bool {
        self.torn.lock().unwrap_or_else(PoisonError::into_inner).contains(&correlation)
    }

    fn stream(&self, side: Side) -> &TcpStream {
        match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        }
    }

    /// Writes all of it, as fast as the network is said to be.
    pub(crate) fn forward(&self, shared: &Shared, to: Side, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(shared.admit(self, to, rest.len()));
            self.write(self.stream(to), now)?;
            rest = later;
        }
        Ok(())
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
        if answers::carry(&of_shared, &of_connection).is_err() {
            of_connection.reset();
        }
    });
    if requests::carry(shared, connection).is_err() {
        connection.reset();
    }
    answers.join().ok();
}
