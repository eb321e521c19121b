//! A TCP proxy that loses connections, requests and answers on demand.
//!
//! The case it is made for is the one that exactly-once stands or falls with: the request arrived, the server
//! did it, and the answer never came.
//!
//! ```no_run
//! use std::time::Duration;
//! use tidelock_lab::{Lab, proxy::request};
//!
//! let lab = Lab::builder().proxied(true).start()?;
//! let trap = lab.kafka_proxy(0).cut_after_request(request::kafka_commit, Duration::ZERO);
//! // ... a client of lab.proxied_kafka_url() commits a transaction ...
//! assert!(trap.wait(Duration::from_secs(10)));
//! # Ok::<(), tidelock_lab::Error>(())
//! ```

mod connection;
mod frames;
pub mod request;
mod trap;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

pub use frames::Framing;
pub use trap::Trap;

use crate::{Error, Result};
use connection::Connection;
use trap::{Action, Armed};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Stands before one server. Dropping it resets its connections.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Proxy {
    /// A proxy before `target`, on a port of its own on 127.0.0.1, that knows nothing of the protocol.
    pub fn start(target: SocketAddr) -> Result<Self> {
        Self::start_framed(target, Framing::Raw)
    }

    /// A proxy that cuts the clients' bytes into whole requests before its rules see them.
    pub fn start_framed(target: SocketAddr, framing: Framing) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("bind the proxy"))?;
        let address = listener.local_addr().map_err(Error::io("bind the proxy"))?;
        let switches =
            Switches { mode: Mode::Forward, delay: Duration::ZERO, closed: false, traps: Vec::new() };
        let shared = Arc::new(Shared {
            target,
            framing,
            switches: Mutex::new(switches),
            changed: Condvar::new(),
            connections: Mutex::default(),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || accept(&of_thread, &listener));
        Ok(Self { shared, address })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections go through.
    pub fn connections(&self) -> usize {
        self.shared.live().len()
    }

    /// Resets all connections, and every new one at once.
    pub fn cut(&self) {
        self.set(Mode::Cut);
        self.reset_connections();
    }

    /// Resets all connections; new ones are welcome.
    pub fn reset_connections(&self) {
        self.shared.live().iter().for_each(|connection| connection.reset());
        self.shared.changed.notify_all();
    }

    /// Keeps connections and accepts new ones, but forwards nothing, as a network that drops packets would.
    /// After [`restore`](Self::restore) the held bytes arrive.
    pub fn blackhole(&self) {
        self.set(Mode::Blackhole);
    }

    /// Forwards requests and swallows answers. Connections that lost one are reset by [`cut`](Self::cut) or
    /// [`restore`](Self::restore).
    pub fn drop_answers(&self) {
        self.set(Mode::DropAnswers);
    }

    /// Holds every chunk back for so long, in both directions. Zero ends it.
    pub fn delay(&self, delay: Duration) {
        self.shared.switches().delay = delay;
    }

    /// Back to plain forwarding, without delay. Traps stay armed.
    pub fn restore(&self) {
        self.delay(Duration::ZERO);
        let lossy: Vec<_> = self.shared.live().into_iter().filter(|connection| connection.lossy()).collect();
        lossy.iter().for_each(|connection| connection.reset());
        self.set(Mode::Forward);
    }

    /// The first request that matches arrives, its answer does not: "sent, and then nothing". The connection is
    /// reset `after` the server answered (or 10 s if it never does), so by then the server has acted.
    pub fn cut_after_request(
        &self,
        matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
        after: Duration,
    ) -> Trap {
        self.arm(Box::new(matches), Action::LoseAnswer(after))
    }

    /// The first request that matches does not arrive, and its connection is reset.
    pub fn cut_before_request(&self, matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Trap {
        self.arm(Box::new(matches), Action::LoseRequest)
    }

    /// In the next request that matches, `from` reads `to`, which is as long: a name that the server does not know, say.
    /// The answer is the server's own.
    ///
    /// # Panics
    /// If the two differ in length, or are empty.
    pub fn replace_in_request(
        &self,
        matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
        from: impl Into<Vec<u8>>,
        to: impl Into<Vec<u8>>,
    ) -> Trap {
        let (from, to) = (from.into(), to.into());
        assert!(
            from.len() == to.len() && !from.is_empty(),
            "{from:?} and {to:?} differ in length, or are empty"
        );
        self.arm(Box::new(matches), Action::Replace(from, to))
    }

    /// The first request that matches waits, and what follows on its connection behind it, until
    /// [`Trap::release`]: the moment just before, for as long as a test needs.
    pub fn hold_request(&self, matches: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Trap {
        self.arm(Box::new(matches), Action::Hold)
    }

    fn arm(&self, matches: trap::Matcher, action: Action) -> Trap {
        let armed = Armed::new(matches, action);
        let mut switches = self.shared.switches();
        switches.traps.retain(|trap| !trap.spent());
        switches.traps.push(Arc::clone(&armed));
        Trap(armed)
    }

    fn set(&self, mode: Mode) {
        self.shared.switches().mode = mode;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.switches().closed = true;
        self.reset_connections();
        // Wakes the accepting thread.
        TcpStream::connect(self.address).ok();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Forward,
    Cut,
    Blackhole,
    DropAnswers,
}

#[derive(Debug)]
struct Switches {
    mode: Mode,
    delay: Duration,
    closed: bool,
    traps: Vec<Arc<Armed>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    target: SocketAddr,
    framing: Framing,
    switches: Mutex<Switches>,
    changed: Condvar,
    connections: Mutex<Vec<Weak<Connection>>>,
}

impl Shared {
    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Vec<Arc<Connection>> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| connection.strong_count() > 0);
        connections.iter().filter_map(Weak::upgrade).collect()
    }

    fn traps(&self) -> Vec<Arc<Armed>> {
        self.switches().traps.clone()
    }

    /// Holds a chunk back for as long as is set.
    fn lag(&self) {
        let delay = self.switches().delay;
        if !delay.is_zero() {
            thread::sleep(delay);
        }
    }

    /// Returns when bytes of the connection may go on, with the mode that then holds.
    fn pass(&self, connection: &Connection) -> io::Result<Mode> {
        let waits = |switches: &mut Switches| {
            switches.mode == Mode::Blackhole && !switches.closed && !connection.dead()
        };
        let switches =
            self.changed.wait_while(self.switches(), waits).unwrap_or_else(PoisonError::into_inner);
        if switches.closed || switches.mode == Mode::Cut || connection.dead() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(switches.mode)
    }

    /// Connects to the server once the mode allows.
    fn open(&self, client: TcpStream) -> io::Result<Arc<Connection>> {
        let waits = |switches: &mut Switches| switches.mode == Mode::Blackhole && !switches.closed;
        drop(self.changed.wait_while(self.switches(), waits));
        let server = TcpStream::connect_timeout(&self.target, CONNECT_WITHIN)
            .inspect_err(|_| connection::reset_on_close(&client))?;
        let connection = Arc::new(Connection::new(client, server)?);
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        // A cut that came in between has not seen it.
        self.pass(&connection)?;
        Ok(connection)
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((client, _)) = listener.accept() {
        let (mode, closed) = {
            let switches = shared.switches();
            (switches.mode, switches.closed)
        };
        if closed {
            return;
        }
        if mode == Mode::Cut {
            connection::reset_on_close(&client);
            continue;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            if let Ok(connection) = shared.open(client) {
                connection::run(&shared, &connection);
            }
        });
    }
}
