//! The classes of faults.

use std::str::FromStr;

macro_rules! classes {
    ($(#[doc = $doc:literal] $variant:ident = $number:literal $name:literal,)+) => {
        /// A class of faults.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Class { $(#[doc = $doc] $variant = $number,)+ }

        impl Class {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in the table and on the command line.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What is done, in a line.
            pub(crate) fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc.trim_start(),)+ }
            }
        }
    };
}

classes! {
    /// kill -9 of each process, at random and at every crash point.
    Killed = 1 "killed",
    /// SIGSTOP for longer than every time-out, then SIGCONT.
    Paused = 2 "paused",
    /// A second instance with the same identity.
    Twin = 3 "twin",
    /// Requests of transactions late, twice, dropped, or without their answer.
    Answers = 4 "answers",
    /// Brokers killed and restarted.
    Brokers = 5 "brokers",
    /// Elections, reassignments, topics deleted.
    Topology = 6 "topology",
    /// The network of Kafka and of the database.
    Network = 7 "network",
    /// The database server.
    Database = 8 "database",
    /// Unusual business transactions.
    Commits = 9 "commits",
    /// Full disks.
    Disk = 10 "disk",
    /// A wall clock that jumps.
    Clock = 11 "clock",
    /// Members that join and leave.
    Rebalance = 12 "rebalance",
    /// Handlers that panic, hang and fail.
    Handler = 13 "handler",
    /// Hostile sizes and forms of messages.
    Forms = 14 "forms",
    /// Topics, ACLs and quotas changed under way.
    Admin = 15 "admin",
    /// Little CPU, little memory, a large backlog.
    Scarcity = 16 "scarcity",
    /// Two versions side by side.
    Upgrade = 17 "upgrade",
    /// Several of the others at once.
    Composition = 18 "composition",
}

impl Class {
    pub(crate) const fn number(self) -> u32 {
        self as u32
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|class| class.name() == text || class.number().to_string() == text);
        found.copied().ok_or_else(|| format!("there is no class {text:?}; --list names them"))
    }
}
