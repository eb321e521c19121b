//! What became of the records of the open transaction: counted, never boxed.

use std::{
    collections::HashSet,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{BorrowedMessage, DeliveryResult, Headers as _},
    producer::ProducerContext,
};
use tokio::sync::Notify;

use super::{batch_size::TooLarge, fault, logging};
use crate::{
    error::{Error, Kind},
    log::Refusal,
};

/// Shared by the delivery callback, the producer's thread and async callers.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    state: Mutex<State>,
    progress: Condvar,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    sent: usize,
    done: usize,
    refusals: Vec<Refusal>,
    too_large: TooLarge,
    failure: Option<Error>,
    waiting_thread: bool,
    /// Topics that the coordinator does not let this transaction write to.
    denied: HashSet<String>,
}

/// How the records of a transaction ended.
pub(super) struct Settled {
    pub(super) refusals: Vec<Refusal>,
    pub(super) too_large: TooLarge,
    pub(super) failure: Option<Error>,
}

impl Deliveries {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) {
        *self.lock() = State::default();
    }

    /// Whether the transaction has no records so far.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().sent == 0
    }

    /// Announces `count` more records; answers the index of the first.
    pub(super) fn announce(&self, count: usize) -> usize {
        let mut state = self.lock();
        state.sent += count;
        state.sent - count
    }

    /// A record will never be handed over: neither acknowledged nor refused.
    pub(super) fn withdraw(&self, count: usize, failure: Error) {
        let mut state = self.lock();
        state.failure.get_or_insert(failure);
        self.finish(&mut state, count);
    }

    /// The client itself refused a record.
    pub(super) fn refuse(&self, index: usize, error: &KafkaError) {
        let mut state = self.lock();
        state.refusals.push(Refusal::new(index, error.to_string()));
        self.finish(&mut state, 1);
    }

    /// Without an offset it is librdkafka's own conclusion that a record arrived, from a later batch that did: an order
    /// that the broker does not check in a partition to which this producer has not written yet. There the earlier
    /// batch, if a broker that was not ready refused it, is in no log and would never be sent again.
    fn delivered(&self, index: usize, record: &BorrowedMessage<'_>, outcome: Result<i64, &KafkaError>) {
        let topic = record.topic();
        let mut state = self.lock();
        match outcome {
            Err(_) if state.denied.contains(topic) => {
                let reason = format!("the right to write to topic {topic:?} is missing");
                state.refusals.push(Refusal { denied: true, ..Refusal::new(index, reason) });
            }
            Ok(0..) => {}
            Ok(_) => {
                let text = format!(
                    "record {index} was acknowledged without an offset: nobody knows whether it is there"
                );
                state.failure.get_or_insert_with(|| Error::new(Kind::Unavailable, text));
            }
            Err(error) if fault::refuses_for_good(error) => {
                if fault::refuses_the_batch(error) {
                    let partition = (topic.to_owned(), record.partition());
                    state.too_large.entry(partition).or_default().push(size(record));
                }
                let denied = fault::kind(error) == Kind::Denied;
                state.refusals.push(Refusal { denied, ..Refusal::new(index, error.to_string()) });
            }
            Err(error) => {
                let kind = fault::kind(error);
                state.failure.get_or_insert_with(|| Error::new(kind, format!("record {index}: {error}")));
            }
        }
        self.finish(&mut state, 1);
    }

    /// Records of that topic are not sent in this transaction.
    fn deny(&self, topic: &str) {
        self.lock().denied.insert(topic.to_owned());
    }

    fn finish(&self, state: &mut State, count: usize) {
        state.done += count;
        if state.waiting_thread {
            self.progress.notify_all();
        }
        if state.done == state.sent || state.failure.is_some() || !state.refusals.is_empty() {
            self.settled.notify_one();
        }
    }

    /// Waits on the producer's thread for a delivery; false when time has run out. The slice covers the delivery that
    /// came between the full queue and this call.
    pub(super) fn wait_for_room(&self, until: Instant) -> bool {
        const SLICE: Duration = Duration::from_millis(20);
        let mut state = self.lock();
        state.waiting_thread = true;
        let mut state = self.progress.wait_timeout(state, SLICE).unwrap_or_else(PoisonError::into_inner).0;
        state.waiting_thread = false;
        Instant::now() < until
    }

    /// Whether every record announced is acknowledged.
    pub(super) fn complete(&self) -> bool {
        let state = self.lock();
        state.done == state.sent && state.failure.is_none() && state.refusals.is_empty()
    }

    /// How many are neither acknowledged nor refused, and whether one failed or was refused.
    pub(super) fn outstanding(&self) -> (usize, bool) {
        let state = self.lock();
        (state.sent - state.done, state.failure.is_some() || !state.refusals.is_empty())
    }

    /// Waits for the next change worth looking at.
    pub(super) async fn changed(&self, within: Duration) {
        // A time-out is no error here: the caller looks again.
        let _ = tokio::time::timeout(within, self.settled.notified()).await;
    }

    pub(super) fn settled(&self) -> Settled {
        let mut state = self.lock();
        let mut refusals = std::mem::take(&mut state.refusals);
        refusals.sort_by_key(|refusal| refusal.index);
        let failure = state.failure.take();
        // What was taken must keep `complete` from answering true.
        if !refusals.is_empty() || failure.is_some() {
            state.failure =
                Some(Error::new(Kind::Conflict, "a record of this transaction was not acknowledged"));
        }
        Settled { refusals, too_large: std::mem::take(&mut state.too_large), failure }
    }
}

/// Where librdkafka reports to.
pub(super) struct Context(pub(super) std::sync::Arc<Deliveries>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(topic) = denied(facility, message) {
            self.0.deny(topic);
        }
        logging::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        logging::error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        match result {
            Ok(record) => self.0.delivered(index, record, Ok(record.offset())),
            Err((error, record)) => self.0.delivered(index, record, Err(error)),
        }
    }
}

/// Bytes of key, payload and headers.
fn size(record: &BorrowedMessage<'_>) -> usize {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
    let headers: usize = headers.map(|header| header.key.len() + length(header.value)).sum();
    length(record.key()) + length(record.payload()) + headers
}

/// The topic that the coordinator refuses to add to a transaction. librdkafka fails the whole transaction then and purges its
/// records; which topic it was stands nowhere but in this line.
fn denied<'a>(facility: &str, message: &'a str) -> Option<&'a str> {
    let rest = message.strip_suffix("to transaction: Broker: Topic authorization failed")?;
    let (_, rest) = rest.split_once("Failed to add partition \"")?;
    let (topic, _) = rest.split_once("\" [")?;
    (facility == "ADDPARTS").then_some(topic)
}

#[cfg(test)]
mod tests {
    use super::denied;

    #[test]
    fn the_topic_stands_in_the_line_and_in_no_other() {
        let said = |why: &str| {
            format!(
                "[thrd:main]: TxnCoordinator/1: Failed to add partition \"a.b-c_d\" [3] to transaction: Broker: {why}"
            )
        };
        assert_eq!(denied("ADDPARTS", &said("Topic authorization failed")), Some("a.b-c_d"));
        assert_eq!(denied("ADDPARTS", &said("Operation not attempted")), None);
        assert_eq!(denied("FAIL", &said("Topic authorization failed")), None);
        assert_eq!(denied("ADDPARTS", "Broker: Topic authorization failed"), None);
    }
}
