//! A producer that knows nothing of the framework.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
    types::RDKafkaErrorCode,
};
use tidelock_campaign::Result;

const WAIT: Duration = Duration::from_secs(60);

/// A message with whatever it holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parcel {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Sends them in order, and waits until each is there.
pub(crate) fn produce(brokers: &str, topic: &str, parcels: &[Parcel]) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        // As Java hashes keys, so that one key is in one partition whoever writes it.
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", "20000000")
        .set("log_level", "2")
        .create()?;
    let deadline = Instant::now() + WAIT;
    for parcel in parcels {
        let mut headers = OwnedHeaders::new_with_capacity(parcel.headers.len());
        for (key, value) in &parcel.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
        record.key = parcel.key.as_deref();
        record.payload = parcel.payload.as_deref();
        while let Err((error, refused)) = producer.send(record) {
            let full = error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            if !full || Instant::now() > deadline {
                return Err(format!("{topic}: {error}").into());
            }
            producer.poll(Duration::from_millis(50));
            record = refused;
        }
    }
    Ok(producer.flush(deadline.saturating_duration_since(Instant::now()))?)
}
