//! What a rule does to a request, and the copies that the proxy sends by itself.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::shared::Shared;
use super::trap::Armed;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What happens to a request that a rule picked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It arrives; the answer does not, and the connection is reset so long after the answer came (10 s if it never
    /// does), so by then the server has acted.
    LoseAnswer(Duration),
    /// It does not arrive, and the connection is reset.
    LoseRequest,
    /// It does not arrive, and the connection stays: the client waits for an answer until its own time-out. What
    /// follows on the connection is answered as ever.
    Drop,
    /// It waits until released, and what follows on its connection behind it.
    Hold,
    /// It waits so long, and what follows on its connection behind it.
    Wait(Duration),
    /// It arrives with the second bytes in place of the first, everywhere. The answer is the server's own.
    Replace(Vec<u8>, Vec<u8>),
    /// It arrives, and so long after it a copy of it, on a connection of the proxy's own to the same broker, past all
    /// faults of the network. The client sees only the answer to the original. Kafka alone.
    Duplicate(Duration),
    /// It does not arrive and its connection is reset, so that the client tries again on a new one; it arrives after so
    /// long (none: when the rule lets go), on a connection of the proxy's own, past all faults of the network: the
    /// request that comes when nobody expects it any more. Kafka alone.
    Late(Option<Duration>),
    /// The first half of it arrives, and the connection is reset.
    TearRequest,
    /// It arrives; the client gets the first half of the answer, and the connection is reset.
    TearAnswer,
}

impl Action {
    /// Whether the proxy needs connections of its own for it, which only Kafka gives without ceremony.
    pub(crate) fn copies(&self) -> bool {
        matches!(self, Self::Duplicate(_) | Self::Late(_))
    }
}

/// Sends the request to the server, later and on another connection.
pub(crate) fn deliver_later(shared: &Arc<Shared>, rule: &Arc<Armed>, frame: &[u8], after: Option<Duration>) {
    let (shared, rule, frame) = (Arc::clone(shared), Arc::clone(rule), frame.to_vec());
    thread::spawn(move || {
        match after {
            Some(after) => shared.sleep(after),
            None => rule.hold(),
        }
        if let Some(target) = shared.open_target()
            && let Ok(answer) = deliver(target, &frame)
        {
            rule.answered(answer);
        }
    });
}

fn deliver(target: SocketAddr, frame: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&target, CONNECT_WITHIN)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = length.to_vec();
    stream.take(u32::from_be_bytes(length).into()).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Every occurrence, from the front.
pub(crate) fn replaced(frame: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from) {
        at += found;
        bytes[at..at + from.len()].copy_from_slice(to);
        at += to.len();
    }
    bytes
}
