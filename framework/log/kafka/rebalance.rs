//! What happens when the group moves partitions. Runs on the consumer's thread, inside its poll.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use super::{assignments::Assignments, bell::Bell, logging, outlet::Outlet};
use crate::log::{Assignment, ConsumerEvent, Handback};

/// How often a wait for a handback looks whether the assignment was lost meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// The state that the thread, its callbacks and the async side share.
pub(super) struct Shared {
    pub(super) assignments: Assignments,
    pub(super) bell: Bell,
    pub(super) outlet: Outlet,
    /// A callback ran during a poll, so that its empty answer does not mean that the queue is empty.
    pub(super) called: AtomicBool,
    /// Whatever is assigned from now on is given back at once, and nobody is told.
    pub(super) leaving: AtomicBool,
    /// How long a rebalance waits for a handback.
    pub(super) patience: Duration,
    /// The client, once it is made. Weak: its thread owns it, because the last owner's drop blocks.
    pub(super) client: OnceLock<Weak<BaseConsumer<Context>>>,
}

impl Shared {
    /// `None` once the consumer is closed.
    pub(super) fn client(&self) -> Option<Arc<BaseConsumer<Context>>> {
        self.client.get()?.upgrade()
    }

    /// Gives partitions back: whoever works on them is told, and given time for a handback. Their epochs end before
    /// that if they are lost, and at its end in any case.
    pub(super) fn give_back(&self, consumer: &BaseConsumer<Context>, revoked: &[Assignment]) {
        let lost = consumer.assignment_lost();
        if lost {
            self.assignments.lock().end(revoked);
        }
        if !revoked.is_empty() {
            self.hand_over(consumer, revoked, lost);
        }
        self.assignments.lock().end(revoked);
    }

    /// Returns once the handback came, or nobody can give it any more, or patience is at its end.
    fn hand_over(&self, consumer: &BaseConsumer<Context>, revoked: &[Assignment], lost: bool) {
        let (held, returned) = mpsc::channel();
        self.outlet.send(ConsumerEvent::Revoked {
            partitions: revoked.to_vec(),
            lost,
            handback: Handback::new(held),
        });
        let until = Instant::now() + self.patience;
        let mut known_lost = lost;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match returned.recv_timeout(left.min(LOOK)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    tracing::warn!(
                        target: "tidelock::kafka",
                        partitions = revoked.len(),
                        patience = ?self.patience,
                        "revoked partitions were not handed back in time"
                    );
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !known_lost && consumer.assignment_lost() {
                        known_lost = true;
                        self.assignments.lock().end(revoked);
                    }
                }
            }
        }
    }
}

/// Where librdkafka reports to.
pub(super) struct Context(pub(super) Arc<Shared>);

impl Context {
    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        // Whatever happens, librdkafka must get its answer: records that come unasked are dropped as strays.
        if let Err(error) = self.hold_back(consumer, list) {
            tracing::warn!(target: "tidelock::kafka", %error, "partitions cannot be paused before they are assigned");
        }
        let assigned =
            list.set_all_offsets(Offset::Offset(0)).and_then(|()| match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
                _ => consumer.assign(list),
            });
        if let Err(error) = assigned {
            tracing::error!(target: "tidelock::kafka", %error, "assignment cannot be taken");
        }
        if self.0.leaving.load(Ordering::Relaxed) {
            return;
        }
        let assignments = {
            let mut held = self.0.assignments.lock();
            list.elements().iter().map(|each| held.assign(each.topic(), each.partition())).collect()
        };
        self.0.outlet.send(ConsumerEvent::Assigned(assignments));
    }

    /// Pauses partitions before they are assigned, so that nothing at all is fetched until `start` has set the offset.
    ///
    /// Not by assigning them at the end: an answer about the end that comes after the seek makes librdkafka ask for
    /// the end again and go there (2.12.1, `rd_kafka_toppar_handle_Offset`), past every record in between.
    fn hold_back(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        if list.count() == 0 {
            return Ok(());
        }
        // Only what librdkafka knows can be paused; asking for its queue makes a partition known.
        if let Some(client) = self.0.client() {
            for each in list.elements() {
                drop(client.split_partition_queue(each.topic(), each.partition()));
            }
        }
        consumer.pause(list)?;
        list.elements().iter().try_for_each(|each| each.error())
    }

    /// The epochs end before librdkafka is told that the partitions are given back: until then it does not join again,
    /// so nobody else can be assigned them while an epoch is current (unless the group expelled us: `lost`).
    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let elements = list.elements();
        let listed = elements.iter().map(|each| (each.topic(), each.partition()));
        let revoked = self.0.assignments.lock().among(listed);
        self.0.give_back(consumer, &revoked);
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        if let Err(error) = unassigned {
            tracing::error!(target: "tidelock::kafka", %error, "assignment cannot be given back");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.called.store(true, Ordering::Relaxed);
        logging::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.called.store(true, Ordering::Relaxed);
        logging::error(&error, reason);
    }

    fn stats_raw(&self, _: &[u8]) {
        self.0.called.store(true, Ordering::Relaxed);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.0.called.store(true, Ordering::Relaxed);
        match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoked(consumer, list),
            other => {
                let code = RDKafkaErrorCode::from(other);
                tracing::error!(target: "tidelock::kafka", %code, "rebalance failed");
                self.0.assignments.lock().end_all();
            }
        }
    }

    fn commit_callback(&self, _: KafkaResult<()>, _: &TopicPartitionList) {
        self.0.called.store(true, Ordering::Relaxed);
    }
}
