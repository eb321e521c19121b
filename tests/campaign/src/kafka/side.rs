//! Topics that a fault has for itself.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::AdminOptions,
    client::ClientContext,
    consumer::Consumer as _,
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};
use tidelock_campaign::Result;

use super::{Cluster, WAIT};

/// How long records may take until they are acknowledged.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// Counts the records that were not acknowledged.
#[derive(Default)]
struct Refusals(AtomicUsize);

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Cluster {
    /// Deletes a topic and waits until no broker knows it.
    pub(crate) async fn delete(&self, topic: &str) -> Result<()> {
        self.remove(topic).await?;
        let deadline = Instant::now() + WAIT;
        while self.exists(topic)? {
            if Instant::now() > deadline {
                return Err(format!("topic {topic} is still there").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Deletes a topic, which whoever uses it may create again at once.
    pub(crate) async fn remove(&self, topic: &str) -> Result<()> {
        let answer = self.admin()?.delete_topics(&[topic], &AdminOptions::new()).await?;
        match answer.into_iter().next() {
            Some(Err((name, code))) => Err(format!("topic {name} is not deleted: {code}").into()),
            _ => Ok(()),
        }
    }

    /// Whether there is such a topic.
    pub(crate) fn exists(&self, topic: &str) -> Result<bool> {
        let metadata = self.outsider.fetch_metadata(Some(topic), WAIT)?;
        Ok(metadata.topics().iter().any(|each| each.error().is_none() && !each.partitions().is_empty()))
    }

    /// As [`write_at_once`](Self::write_at_once), when somebody else has created the topic.
    pub(crate) fn write(&self, topic: &str, life: u32, numbers: Range<u64>) -> Result<()> {
        let deadline = Instant::now() + WRITTEN_WITHIN;
        while !self.exists(topic)? {
            if Instant::now() > deadline {
                return Err(format!("topic {topic} does not come").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.write_at_once(topic, life, numbers)
    }

    /// Writes `LIFE N` for each of these numbers, N as its key too, by an idempotent producer, and waits for every
    /// acknowledgement. A broker may create the topic for that.
    pub(crate) fn write_at_once(&self, topic: &str, life: u32, numbers: Range<u64>) -> Result<()> {
        let producer: BaseProducer<Refusals> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("enable.idempotence", "true")
            .set("topic.metadata.propagation.max.ms", "60000")
            .set("message.timeout.ms", WRITTEN_WITHIN.as_millis().to_string())
            .set("log_level", "2")
            .create_with_context(Refusals::default())?;
        for number in numbers {
            let (key, payload) = (number.to_string(), format!("{life} {number}"));
            producer.send(BaseRecord::to(topic).key(&key).payload(&payload)).map_err(|(error, _)| error)?;
        }
        producer.flush(WRITTEN_WITHIN)?;
        match producer.context().0.load(Ordering::Relaxed) {
            0 => Ok(()),
            count => Err(format!("{count} records to {topic} were not acknowledged").into()),
        }
    }
}
