//! Where a consumer's events leave, and how much of them nobody has taken yet.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc::UnboundedSender;

use crate::log::{ConsumerEvent, Received};

/// The bytes that may wait for the reader of the events before the thread stops reading on.
const ROOM: usize = 16 << 20;
/// What a record takes besides its bytes.
const OVERHEAD: usize = 128;

pub(super) struct Outlet {
    sender: Mutex<Option<UnboundedSender<ConsumerEvent>>>,
    load: Arc<AtomicUsize>,
}

impl Outlet {
    pub(super) fn new(sender: UnboundedSender<ConsumerEvent>) -> Self {
        Self { sender: Mutex::new(Some(sender)), load: Arc::default() }
    }

    /// An event that nobody will read is dropped, and with it the handback that a rebalance waits for.
    pub(super) fn send(&self, event: ConsumerEvent) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.as_ref() {
            self.load.fetch_add(weight(&event), Ordering::AcqRel);
            if let Err(unread) = sender.send(event) {
                self.load.fetch_sub(weight(&unread.0), Ordering::AcqRel);
            }
        }
    }

    /// Nothing follows.
    pub(super) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(super) fn has_room(&self) -> bool {
        self.load.load(Ordering::Acquire) < ROOM
    }

    /// Counts an event that was taken; true when the thread may read on.
    pub(super) fn taken(&self, event: &ConsumerEvent) -> bool {
        let weight = weight(event);
        let before = self.load.fetch_sub(weight, Ordering::AcqRel);
        before >= ROOM && before - weight < ROOM
    }
}

pub(super) fn record_weight(record: &Received) -> usize {
    record.size() + OVERHEAD
}

fn weight(event: &ConsumerEvent) -> usize {
    match event {
        ConsumerEvent::Records { records, .. } => records.iter().map(record_weight).sum(),
        _ => 0,
    }
}
