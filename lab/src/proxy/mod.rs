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
//!
//! A [`Trap`] acts on one request, a [`Rule`] on each that matches and that the dice pick, until it is dropped; what
//! they do is an [`Action`]. The faults of the network (cut, black hole, delay, bandwidth, half-open connections)
//! hold for everything that comes through, until [`Proxy::restore`].

mod action;
mod answers;
mod connection;
mod frames;
mod header;
mod network;
pub mod request;
mod requests;
mod rules;
mod shared;
mod trap;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

pub use action::Action;
pub use frames::Framing;
pub use network::Flapping;
pub use trap::{Rule, Trap};

use crate::{Error, Result};
use shared::Shared;

/// How many bytes are read at once.
const CHUNK: usize = 64 << 10;

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
        let shared = Shared::new(target, framing);
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || shared::accept(&of_thread, &listener));
        Ok(Self { shared, address })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server behind it.
    pub fn target(&self) -> SocketAddr {
        self.shared.switches().target
    }

    /// Another server takes the place of the one behind it: all connections are reset, new ones go there.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.switches().target = target;
        self.reset_connections();
    }

    /// How many connections go through.
    pub fn connections(&self) -> usize {
        self.shared.live().len()
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
