//! What the machine can do without the framework: the other side of each ratio.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext,
    message::DeliveryResult,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};

mod follow;

pub(crate) use follow::follow;

/// Counts acknowledgements, as a hand-written loop would.
#[derive(Clone, Default)]
struct Count(Arc<(Mutex<usize>, Condvar)>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a record was not delivered");
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_one();
    }
}

/// Sends `count` records from memory in transactions of `per_transaction`; answers how long it took.
pub(crate) fn producer(
    kafka: &str,
    topic: &str,
    count: usize,
    per_transaction: usize,
    payload: &[u8],
) -> Duration {
    let acks = Count::default();
    let producer: ThreadedProducer<Count> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("transactional.id", format!("limit-{topic}"))
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        .set("queue.buffering.max.messages", "1000000")
        .create_with_context(acks.clone())
        .unwrap();
    producer.init_transactions(Duration::from_secs(20)).unwrap();
    let started = Instant::now();
    let mut sent = 0;
    while sent < count {
        producer.begin_transaction().unwrap();
        for n in sent..(sent + per_transaction).min(count) {
            let key = format!("key-{}", n % 10_000);
            producer
                .send(BaseRecord::to(topic).key(&key).payload(payload))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        sent = (sent + per_transaction).min(count);
        let (done, changed) = &*acks.0;
        let done = changed.wait_while(done.lock().unwrap(), |done| *done < sent).unwrap();
        drop(done);
        while producer.in_flight_count() > 0 {
            std::thread::yield_now();
        }
        producer.commit_transaction(Duration::from_secs(20)).unwrap();
    }
    started.elapsed()
}
