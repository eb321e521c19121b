//! What all threads of a proxy look at: the switches, and the open connections.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::Framing;
use super::connection::{self, Connection, Side};
use super::trap::Armed;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Forward,
    Cut,
    Blackhole,
    DropAnswers,
}

/// How far apart two chunks' delays may lie, and the dice.
#[derive(Debug)]
pub(crate) struct Jitter {
    pub(crate) shortest: Duration,
    pub(crate) longest: Duration,
    pub(crate) dice: fastrand::Rng,
}

/// Bytes per second, and until when each direction is booked: towards the server, towards the client.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    pub(crate) rate: u64,
    pub(crate) booked: [Instant; 2],
}

/// The faults of the network: a default is none.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) mode: Mode,
    pub(crate) delay: Duration,
    pub(crate) jitter: Option<Jitter>,
    pub(crate) bandwidth: Option<Bandwidth>,
    /// The server does not learn of a client's end.
    pub(crate) hidden_ends: bool,
    /// Which flapping holds, if any.
    pub(crate) flapping: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Switches {
    pub(crate) target: SocketAddr,
    pub(crate) network: Network,
    pub(crate) closed: bool,
    pub(crate) traps: Vec<Arc<Armed>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) framing: Framing,
    switches: Mutex<Switches>,
    pub(crate) changed: Condvar,
    connections: Mutex<Vec<Weak<Connection>>>,
}

impl Shared {
    pub(crate) fn new(target: SocketAddr, framing: Framing) -> Arc<Self> {
        let switches = Switches { target, network: Network::default(), closed: false, traps: Vec::new() };
        Arc::new(Self {
            framing,
            switches: Mutex::new(switches),
            changed: Condvar::new(),
            connections: Mutex::default(),
        })
    }

    pub(crate) fn switches(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.switches().network.mode = mode;
        self.changed.notify_all();
    }

    pub(crate) fn live(&self) -> Vec<Arc<Connection>> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| connection.strong_count() > 0);
        connections.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn reset_connections(&self) {
        self.live().iter().for_each(|connection| connection.reset());
        self.changed.notify_all();
    }

    pub(crate) fn traps(&self) -> Vec<Arc<Armed>> {
        self.switches().traps.clone()
    }

    /// Where to connect; none once the proxy is gone.
    pub(crate) fn open_target(&self) -> Option<SocketAddr> {
        let switches = self.switches();
        (!switches.closed).then_some(switches.target)
    }

    /// Sleeps so long, or until the proxy is gone.
    pub(crate) fn sleep(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.switches(), time, |switches| !switches.closed));
    }

    /// Holds a chunk back for as long as is set.
    pub(crate) fn lag(&self) {
        let delay = {
            let network = &mut self.switches().network;
            let jitter = network.jitter.as_mut().map(|jitter| {
                let spread = jitter.longest.saturating_sub(jitter.shortest);
                jitter.shortest + spread.mul_f64(jitter.dice.f64())
            });
            network.delay + jitter.unwrap_or_default()
        };
        if !delay.is_zero() {
            thread::sleep(delay);
        }
    }

    /// Waits for the turn of so many bytes of a connection and returns how many of them it is.
    pub(crate) fn admit(&self, connection: &Connection, to: Side, wanted: usize) -> usize {
        let mut switches = self.switches();
        let Some(bandwidth) = &mut switches.network.bandwidth else {
            return wanted;
        };
        // A twentieth of a second's worth at once.
        let share = usize::try_from(bandwidth.rate / 20).unwrap_or(usize::MAX).max(1).min(wanted);
        let now = Instant::now();
        let booked = &mut bandwidth.booked[to as usize];
        *booked = now.max(*booked) + Duration::from_secs_f64(share as f64 / bandwidth.rate as f64);
        let wait = booked.duration_since(now);
        let waits = |switches: &mut Switches| {
            switches.network.bandwidth.is_some() && !switches.closed && !connection.dead()
        };
        drop(self.changed.wait_timeout_while(switches, wait, waits));
        share
    }

    pub(crate) fn hides_ends(&self) -> bool {
        self.switches().network.hidden_ends
    }

    /// Returns when bytes of the connection may go on, with the mode that then holds.
    pub(crate) fn pass(&self, connection: &Connection) -> io::Result<Mode> {
        let waits = |switches: &mut Switches| {
            switches.network.mode == Mode::Blackhole && !switches.closed && !connection.dead()
        };
        let switches =
            self.changed.wait_while(self.switches(), waits).unwrap_or_else(PoisonError::into_inner);
        let mode = switches.network.mode;
        if switches.closed || mode == Mode::Cut || connection.dead() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(mode)
    }

    /// Connects to the server once the mode allows.
    fn open(&self, client: TcpStream) -> io::Result<Arc<Connection>> {
        let waits = |switches: &mut Switches| switches.network.mode == Mode::Blackhole && !switches.closed;
        let switches =
            self.changed.wait_while(self.switches(), waits).unwrap_or_else(PoisonError::into_inner);
        let target = switches.target;
        drop(switches);
        let server = TcpStream::connect_timeout(&target, CONNECT_WITHIN)
            .inspect_err(|_| connection::reset_on_close(&client))?;
        let connection = Arc::new(Connection::new(client, server)?);
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        // A cut that came in between has not seen it.
        self.pass(&connection)?;
        Ok(connection)
    }
}

pub(crate) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((client, _)) = listener.accept() {
        let (mode, closed) = {
            let switches = shared.switches();
            (switches.network.mode, switches.closed)
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
