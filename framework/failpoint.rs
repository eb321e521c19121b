//! The crash points of the protocol by name, and its rules as switches for the tests of the tests.
//!
//! Without the feature `failpoints` every call here is empty and compiles to nothing.

macro_rules! names {
    ($(#[$outer:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $kind { $($(#[$doc])* $variant,)+ }

        impl $kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in tests and in the environment.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

names! {
    /// A crash point: a place between two durable steps.
    Point {
        /// Relay: the batch was read, the database is not flushed to it.
        R0 = "R0",
        /// Relay: after reading the batch.
        R1 = "R1",
        /// Relay: after some of the sends.
        R2 = "R2",
        /// Relay: all delivered, position not sent.
        R3 = "R3",
        /// Relay: position sent, commit not sent.
        R4 = "R4",
        /// Relay: commit sent, answer not yet seen.
        R5 = "R5",
        /// Relay: committed, clean-up not done.
        R6 = "R6",
        /// Processor: before the database commit.
        P1 = "P1",
        /// Processor: database commit sent, answer not yet seen.
        P2 = "P2",
        /// Processor: after the database commit, before the transaction is begun.
        P3Begin = "P3.begin",
        /// Processor: after some of the outputs were sent.
        P3Send = "P3.send",
        /// Processor: outputs delivered, offsets not sent.
        P3Offsets = "P3.offsets",
        /// Processor: outputs and offsets sent, commit not sent.
        P3Commit = "P3.commit",
        /// Processor: log commit sent, answer not yet seen.
        P4 = "P4",
        /// Processor: after the log commit.
        P5 = "P5",
        /// Processor: while a handler runs, for pauses longer than every time-out.
        P6 = "P6",
        /// Processor: inside the revocation of a partition whose batch runs.
        P7 = "P7",
        /// Processor: assigned, before or while the pending outputs are sent again.
        P8 = "P8",
        /// Processor: the log has refused outputs for good, they are not in the quarantine yet.
        P9 = "P9",
    }
}

names! {
    /// A rule of the protocol left out, to show that the tests notice.
    Variant {
        /// The relay's position goes into a transaction of its own.
        PositionOutside = "position-outside",
        /// The relay commits without waiting for the database's flush.
        NoFlush = "no-flush",
        /// A producer is used again after what may have left a late request behind: an abort, a slow commit, slow or failed
        /// offsets.
        NoRotation = "no-rotation",
        /// The fence is overwritten without comparing.
        NoCompare = "no-compare",
        /// Offsets are sent with whatever metadata the group has now.
        UncheckedMetadata = "unchecked-metadata",
        /// The committed offset is read by a client that does not wait for open transactions.
        UncommittedOffset = "uncommitted-offset",
        /// A dead owner's open transaction is left to its time-out.
        NoOwnerFence = "no-owner-fence",
        /// A successor commits the offset without sending the pending outputs.
        PendingUnsent = "pending-unsent",
        /// A successor sends the pending outputs without making them its own.
        OutputsUnclaimed = "outputs-unclaimed",
        /// The outputs of a batch are not stored with its fence.
        PendingUnstored = "pending-unstored",
        /// Outputs are sent again where fence and offset agree.
        PendingAgain = "pending-again",
        /// The next batch is committed while the log transaction of the last one is under way.
        CommitEarly = "commit-early",
        /// A batch of the relay whose commit has an unknown outcome is not looked after.
        UnknownForgotten = "unknown-forgotten",
        /// The relay's position stays where it was.
        PositionStale = "position-stale",
        /// Rows are published in any order.
        RowsReversed = "rows-reversed",
        /// Outputs are sent in any order.
        OutputsReversed = "outputs-reversed",
        /// Ids are entered into the inbox, and what it knew is ignored.
        InboxUnread = "inbox-unread",
        /// The offset is committed before the effect.
        OffsetFirst = "offset-first",
        /// Records of an earlier flow are handled as if they were new.
        StaleRecords = "stale-records",
        /// A committed offset that cannot be told yet counts as none.
        TimeoutIsAbsent = "timeout-is-absent",
        /// A new group begins at the end.
        StartAtEnd = "start-at-end",
        /// A handler's error drops its outputs and keeps its effect.
        ErrorSwallowed = "error-swallowed",
    }
}

#[cfg(feature = "failpoints")]
mod active {
    use std::{
        cell::Cell, collections::HashMap, path::PathBuf, sync::LazyLock, sync::Mutex, thread, time::Duration,
    };

    use tokio::runtime::{Handle, RuntimeFlavor};

    use super::{Point, Variant};

    /// `TIDELOCK_FAILPOINTS="R4=abort;P6=2:pause(/tmp/dir)"`: at its second hit P6 writes `/tmp/dir/P6` and waits until
    /// the file is gone.
    const POINTS: &str = "TIDELOCK_FAILPOINTS";
    /// `TIDELOCK_VARIANTS="no-flush;no-compare"`.
    const VARIANTS: &str = "TIDELOCK_VARIANTS";

    enum Action {
        Abort,
        Pause(PathBuf),
    }

    struct Armed {
        hits_left: u32,
        action: Action,
    }

    static ARMED: LazyLock<Mutex<HashMap<String, Armed>>> = LazyLock::new(|| {
        let spec = std::env::var(POINTS).unwrap_or_default();
        Mutex::new(spec.split(';').filter(|each| !each.is_empty()).map(parse).collect())
    });

    static LEFT_OUT: LazyLock<Vec<String>> =
        LazyLock::new(|| std::env::var(VARIANTS).unwrap_or_default().split(';').map(str::to_owned).collect());

    fn parse(entry: &str) -> (String, Armed) {
        let refuse = || -> ! {
            panic!("{POINTS}: cannot read {entry:?}, expected NAME=[COUNT:]abort or NAME=[COUNT:]pause(DIR)")
        };
        let Some((name, action)) = entry.split_once('=') else { refuse() };
        if !Point::ALL.iter().any(|point| point.name() == name) {
            refuse();
        }
        let (hits_left, action) = match action.split_once(':') {
            Some((count, action)) => (count.parse().unwrap_or_else(|_| refuse()), action),
            None => (1, action),
        };
        let action = match action.strip_prefix("pause(").and_then(|rest| rest.strip_suffix(')')) {
            Some(dir) => Action::Pause(dir.into()),
            None if action == "abort" => Action::Abort,
            None => refuse(),
        };
        (name.to_owned(), Armed { hits_left, action })
    }

    pub(crate) fn hit(point: Point) {
        let marker = {
            let mut armed = ARMED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let Some(entry) = armed.get_mut(point.name()) else {
                return;
            };
            entry.hits_left -= 1;
            if entry.hits_left > 0 {
                return;
            }
            match armed.remove(point.name()).map(|entry| entry.action) {
                Some(Action::Pause(dir)) => dir.join(point.name()),
                _ => std::process::abort(),
            }
        };
        std::fs::write(&marker, b"").unwrap_or_else(|error| panic!("{}: {error}", marker.display()));
        let wait = || {
            while marker.exists() {
                thread::sleep(Duration::from_millis(5));
            }
        };
        // Only the caller stands still: whatever else its runtime's thread would have done goes on elsewhere.
        match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
                tokio::task::block_in_place(wait)
            }
            _ => wait(),
        }
    }

    thread_local! {
        static LEFT_OUT_HERE: Cell<&'static [Variant]> = const { Cell::new(&[]) };
    }

    pub(super) fn leave_out(variants: &'static [Variant]) {
        LEFT_OUT_HERE.set(variants);
    }

    pub(crate) fn left_out(variant: Variant) -> bool {
        LEFT_OUT_HERE.get().contains(&variant) || LEFT_OUT.iter().any(|each| each == variant.name())
    }
}

/// Dies or waits here if the environment says so.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(point: Point) {
    active::hit(point);
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn hit(_: Point) {}

/// Leaves these rules out on this thread: for simulations, which run many histories in one process.
#[cfg(feature = "failpoints")]
pub fn leave_out(variants: &'static [Variant]) {
    active::leave_out(variants);
}

/// Whether the environment or this thread leaves that rule out.
#[cfg(feature = "failpoints")]
pub(crate) fn left_out(variant: Variant) -> bool {
    active::left_out(variant)
}

/// Never.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) const fn left_out(_: Variant) -> bool {
    false
}
