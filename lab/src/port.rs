//! Free ports.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// Below the range from which systems number outgoing connections, so that no client's reconnect attempt can
/// sit on the port of a server that is down.
const RANGE: Range<u16> = 15_000..32_000;

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of 127.0.0.1 that nobody listens on and that this process has not handed out before.
pub(crate) fn free() -> Result<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.get_or_insert_default();
    for _ in 0..1_000 {
        let spread = RandomState::new().build_hasher().finish() % u64::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(spread).unwrap_or_default();
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            return Ok(port);
        }
    }
    Err(Error::Config(format!("no free port in {RANGE:?}")))
}
