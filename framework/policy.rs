//! What to do about each kind of failure, and one sentence for whoever is on call.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::{Error, Kind};

/// How long a component or a shard waits that a wrong setting has stopped: brokers that do not know a topic yet, or no more
/// for a moment, answer as if it were one.
const CONFIG_AGAIN: Duration = Duration::from_secs(30);

/// What a component does with a failure that ends its current piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take a new producer, look what became of the last transaction, and go on, after a backoff.
    Recover,
    /// Stop this shard or partition and say so; trying again would not help.
    Stop,
    /// End quietly: the work belongs to somebody else, or was asked to stop.
    End,
}

/// The action for a kind of failure.
pub const fn action(kind: Kind) -> Action {
    match kind {
        Kind::Denied
        | Kind::Timeout
        | Kind::Unavailable
        | Kind::Fenced
        | Kind::Conflict
        | Kind::Unknown
        | Kind::Refused
        | Kind::Handler => Action::Recover,
        Kind::Config | Kind::Corrupt | Kind::Identity | Kind::Storage => Action::Stop,
        Kind::Unassigned | Kind::Stopped => Action::End,
    }
}

/// What the operator can do, in one sentence.
pub const fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => {
            "correct the topic, which is looked at again, or the setting and start again; nothing was lost"
        }
        Kind::Denied => "give the right back, and it goes on by itself; nothing was lost",
        Kind::Timeout => "nothing to do unless it lasts: the broker or the database answers slowly",
        Kind::Unavailable => "nothing to do unless it lasts: look at the broker and the database",
        Kind::Fenced => "nothing to do unless it repeats: then two instances run under one name",
        Kind::Unassigned => "nothing to do: another instance has the partition",
        Kind::Conflict => "nothing to do: another instance was faster, its work counts",
        Kind::Refused => "look at the quarantine table for the message and the reason",
        Kind::Unknown => "nothing to do: the outcome is read back before anything is done again",
        Kind::Corrupt => {
            "stop and find out who else writes to the progress topic or to the tables of the framework"
        }
        Kind::Identity => {
            "compare the database with the log before anything else: one of them was restored or reset"
        }
        Kind::Storage => {
            "look at the disk (full, or failing), then start the process again: the file tells what was committed"
        }
        Kind::Handler => "look at the handler and its message; the partition waits and nothing is lost",
        Kind::Stopped => "nothing to do: it was asked to stop",
    }
}

/// One line about a failure that is got over: what is missing until somebody gives it back is said louder.
pub(crate) fn recovering(component: &str, failure: &Error, failures: u32) {
    let advice = advice(failure.kind());
    match failure.kind() {
        Kind::Denied => warn!(component, error = %failure, failures, advice, "recovering"),
        _ => info!(component, error = %failure, failures, advice, "recovering"),
    }
}

/// Waits with what was stopped, until it shall look again or is asked to stop.
pub(crate) async fn stay_stopped(kind: Kind, stop: &CancellationToken) {
    match kind {
        Kind::Config => drop(stop.run_until_cancelled(tokio::time::sleep(CONFIG_AGAIN)).await),
        _ => stop.cancelled().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_row() {
        let rows = [
            (Kind::Config, Action::Stop),
            (Kind::Denied, Action::Recover),
            (Kind::Timeout, Action::Recover),
            (Kind::Unavailable, Action::Recover),
            (Kind::Fenced, Action::Recover),
            (Kind::Unassigned, Action::End),
            (Kind::Conflict, Action::Recover),
            (Kind::Refused, Action::Recover),
            (Kind::Unknown, Action::Recover),
            (Kind::Corrupt, Action::Stop),
            (Kind::Identity, Action::Stop),
            (Kind::Storage, Action::Stop),
            (Kind::Handler, Action::Recover),
            (Kind::Stopped, Action::End),
        ];
        for (kind, expected) in rows {
            assert_eq!(action(kind), expected, "{kind:?}");
            assert!(!advice(kind).is_empty());
        }
    }
}
