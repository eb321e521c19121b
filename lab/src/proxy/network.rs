//! The faults of a proxy's network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Proxy;
use super::connection::{Connection, Side};
use super::shared::{Bandwidth, Jitter, Mode, Network, Shared, Switches};

impl Proxy {
    /// Resets all connections, and every new one at once.
    pub fn cut(&self) {
        self.shared.set(Mode::Cut);
        self.reset_connections();
    }

    /// Resets all connections; new ones are welcome.
    pub fn reset_connections(&self) {
        self.shared.reset_connections();
    }

    /// Keeps connections and accepts new ones, but forwards nothing, as a network that drops packets would.
    /// After [`restore`](Self::restore) the held bytes arrive.
    pub fn blackhole(&self) {
        self.shared.set(Mode::Blackhole);
    }

    /// Forwards requests and swallows answers. Connections that lost one are reset by [`cut`](Self::cut) or
    /// [`restore`](Self::restore).
    pub fn drop_answers(&self) {
        self.shared.set(Mode::DropAnswers);
    }

    /// Holds every chunk back for so long, in both directions. Zero ends it.
    pub fn delay(&self, delay: Duration) {
        self.shared.switches().network.delay = delay;
    }

    /// Holds every chunk back for a time from `shortest` to `longest` that dice of this seed choose, besides
    /// [`delay`](Self::delay). What one connection carries stays in order; connections overtake each other.
    pub fn jitter(&self, shortest: Duration, longest: Duration, seed: u64) {
        let dice = fastrand::Rng::with_seed(seed);
        self.shared.switches().network.jitter = Some(Jitter { shortest, longest, dice });
    }

    /// Lets so many bytes a second through in each direction, all connections together. Zero is no limit.
    pub fn bandwidth(&self, rate: u64) {
        let booked = [Instant::now(); 2];
        self.shared.switches().network.bandwidth = (rate > 0).then_some(Bandwidth { rate, booked });
        self.shared.changed.notify_all();
    }

    /// Makes all connections half-open: the server sees their end and the client does not, whose bytes lead nowhere.
    /// New connections work. [`restore`](Self::restore) resets them, if the client has not given up before.
    pub fn lose_server_halves(&self) {
        self.shared.live().iter().for_each(|connection| connection.lose(Side::Server));
    }

    /// Makes all connections half-open the other way: the client sees their end and the server does not, which keeps
    /// session, transaction and locks. New connections work. [`restore`](Self::restore) resets them.
    pub fn lose_client_halves(&self) {
        self.shared.live().iter().for_each(|connection| connection.lose(Side::Client));
    }

    /// From now on no server learns of the end of a client, killed ones included: its connection stays, half-open,
    /// until [`restore`](Self::restore) resets it.
    pub fn hide_client_ends(&self) {
        self.shared.switches().network.hidden_ends = true;
    }

    /// Forwards for `up`, [cuts](Self::cut) for `down`, and again, until the guard is dropped.
    pub fn flap(&self, up: Duration, down: Duration) -> Flapping {
        let number = fastrand::u64(..);
        self.shared.switches().network.flapping = Some(number);
        let shared = Arc::clone(&self.shared);
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cuts);
        let thread = thread::spawn(move || flap(&shared, number, [up, down], &counted));
        Flapping { shared: Arc::clone(&self.shared), number, cuts, thread: Some(thread) }
    }

    /// Back to plain and undelayed forwarding, unlimited and for good. Traps and rules stay.
    pub fn restore(&self) {
        let broken = |connection: &Arc<Connection>| connection.broken();
        self.shared.live().into_iter().filter(broken).for_each(|connection| connection.reset());
        self.shared.switches().network = Network::default();
        self.shared.changed.notify_all();
    }
}

/// A network that goes and comes, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the flapping"]
pub struct Flapping {
    shared: Arc<Shared>,
    number: u64,
    cuts: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Flapping {
    /// How often the network has gone.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Flapping {
    fn drop(&mut self) {
        {
            let network = &mut self.shared.switches().network;
            if network.flapping == Some(self.number) {
                network.flapping = None;
                network.mode = Mode::Forward;
            }
        }
        self.shared.changed.notify_all();
        self.thread.take().map(thread::JoinHandle::join);
    }
}

fn flap(shared: &Shared, number: u64, [up, down]: [Duration; 2], cuts: &AtomicU64) {
    let goes_on = |network: &Network| network.flapping == Some(number);
    for (mode, time) in [(Mode::Forward, up), (Mode::Cut, down)].into_iter().cycle() {
        {
            let mut switches = shared.switches();
            if switches.closed || !goes_on(&switches.network) {
                return;
            }
            switches.network.mode = mode;
        }
        if mode == Mode::Cut {
            cuts.fetch_add(1, Ordering::SeqCst);
            shared.reset_connections();
        } else {
            shared.changed.notify_all();
        }
        let waits = |switches: &mut Switches| !switches.closed && goes_on(&switches.network);
        drop(shared.changed.wait_timeout_while(shared.switches(), time, waits));
    }
}
