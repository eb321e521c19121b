//! All faults there are, one file for each class.

mod admin;
mod answers;
mod brokers;
mod clock;
mod commits;
mod composition;
mod database;
mod disk;
mod forms;
mod handler;
mod killed;
mod network;
mod paused;
mod rebalance;
mod scarcity;
mod side;
mod succession;
mod topology;
mod twin;
mod upgrade;

pub(crate) use commits::GUESTS;

use tidelock_campaign::Result;
use tidelock_lab::Server;

use crate::fault::Fault;

/// All faults, in an order that only grows at the end of each class: a schedule names them by their place.
pub(crate) fn all() -> Vec<Fault> {
    let mut faults = singles();
    faults.extend(composition::faults());
    faults
}

/// Faults that the system does not promise to bear. Never part of a schedule unless they are named with `--only`.
pub(crate) fn beyond() -> Vec<Fault> {
    answers::beyond()
}

/// Those that do one thing.
pub(crate) fn singles() -> Vec<Fault> {
    [
        killed::faults(),
        paused::faults(),
        twin::faults(),
        answers::faults(),
        brokers::faults(),
        topology::faults(),
        network::faults(),
        database::faults(),
        commits::faults(),
        rebalance::faults(),
        handler::faults(),
        admin::faults(),
        disk::faults(),
        forms::faults(),
        scarcity::faults(),
        succession::faults(),
        upgrade::faults(),
        clock::faults(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Starts or thaws it, whichever it needs.
fn wake(server: &Server) -> Result<()> {
    match server.pid() {
        Some(_) => Ok(server.resume()?),
        None => Ok(server.start()?),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_everything_is_described() {
        let faults: Vec<_> = all().into_iter().chain(beyond()).collect();
        let names: HashSet<_> = faults.iter().map(|fault| fault.name.as_str()).collect();
        assert_eq!(names.len(), faults.len());
        for fault in &faults {
            assert!(!fault.doc.is_empty() && !fault.must_hold.is_empty(), "{}", fault.name);
            assert!(!fault.touches.is_empty(), "{}", fault.name);
        }
    }
}
