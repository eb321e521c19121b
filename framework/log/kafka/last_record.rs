//! The last committed record of a partition.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

use super::{Kafka, fault, logging, received::received};
use crate::{
    error::{Error, Kind, Result},
    log::{Bounds, Received},
};

/// How far before the end the first look begins: a transaction of the relay takes two offsets there.
const FIRST_LOOK: i64 = 100;
/// How much further each look goes back than the one before.
const FURTHER: i64 = 10;
/// How soon a question that brokers could not answer is asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// How often a caught-up reader looks at its position.
const LOOK: Duration = Duration::from_millis(10);
/// How often the offset of an end-of-partition event becomes known.
const STATISTICS: &str = "100";

/// Follows how far librdkafka has fetched. `position` moves with records and markers only: a batch that compaction has
/// emptied, which may well be the last one, leaves it behind.
#[derive(Default)]
struct Fetched {
    /// All below was put into the queue of the reader.
    below: AtomicI64,
    /// Whether librdkafka has called since this was last cleared: what it calls for overtakes records, and a poll whose time
    /// is over after such a call answers as if there were none.
    called: AtomicBool,
}

impl ClientContext for Fetched {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.called.store(true, Ordering::Relaxed);
        logging::line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.called.store(true, Ordering::Relaxed);
        logging::error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.called.store(true, Ordering::Relaxed);
        #[cfg(test)]
        tests::statistics();
        let ends = statistics
            .topics
            .values()
            .flat_map(|topic| topic.partitions.values())
            .map(|partition| partition.eof_offset);
        if let Some(end) = ends.max() {
            self.below.fetch_max(end, Ordering::AcqRel);
        }
    }
}

impl ConsumerContext for Fetched {}

impl Kafka {
    /// The end includes open transactions: the client that asks is not read_committed.
    pub(super) fn ask_bounds(&self, topic: &str, partition: i32, within: Duration) -> Result<Bounds> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let error = match self.admin.inner().fetch_watermarks(topic, partition, left) {
                Ok((start, end)) => return Ok(Bounds { start, end }),
                Err(error) => error,
            };
            // A leader that has just been elected may not know it yet, a broker that has just started knows nothing.
            let unknown = fault::is_unknown(&error);
            let kind = if unknown { Kind::Unavailable } else { fault::kind(&error) };
            if kind != Kind::Unavailable || Instant::now() + AGAIN >= until {
                return Err(Error::caused(kind, format!("offsets of {topic}[{partition}]"), error));
            }
            thread::sleep(AGAIN);
            if unknown {
                // Else the next try is answered by what librdkafka once heard of the topic, for up to five minutes. Whether
                // it was heard now, the next try tells.
                let _ = self.metadata(Some(topic));
            }
        }
    }

    pub(super) fn read_last(&self, topic: &Arc<str>, partition: i32) -> Result<Option<Received>> {
        let until = Instant::now() + self.config.query_timeout.max(self.config.transaction_timeout);
        let bounds = self.ask_bounds(topic, partition, self.config.query_timeout)?;
        let mut back = FIRST_LOOK;
        if bounds.start == bounds.end {
            return Ok(None);
        }
        loop {
            let from = bounds.start.max(bounds.end.saturating_sub(back));
            let found = self.read_between(topic, partition, from, bounds.end, until)?;
            if found.is_some() || from == bounds.start {
                return Ok(found);
            }
            back = back.saturating_mul(FURTHER);
        }
    }

    /// The last committed record from `from` on, once everything below `end` was read.
    fn read_between(
        &self,
        topic: &Arc<str>,
        partition: i32,
        from: i64,
        end: i64,
        until: Instant,
    ) -> Result<Option<Received>> {
        let what = || format!("last record of {topic}[{partition}] between {from} and {end}");
        let failed = |error| fault::failed(what(), error);
        let mut config = self.config.reader(&self.reader_group(), true);
        config.set("enable.partition.eof", "true").set("statistics.interval.ms", STATISTICS);
        let reader: BaseConsumer<Fetched> = config.create_with_context(Fetched::default()).map_err(failed)?;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, partition, Offset::Offset(from)).map_err(failed)?;
        reader.assign(&list).map_err(failed)?;
        let mut last = None;
        let mut at_end = false;
        let fetched = reader.context();
        loop {
            fetched.called.store(false, Ordering::Relaxed);
            match reader.poll(LOOK) {
                Some(Ok(message)) => last = Some(received(topic, &message)?),
                Some(Err(KafkaError::PartitionEOF(_))) => at_end = true,
                Some(Err(error)) if fatal(&error) => return Err(failed(error)),
                Some(Err(error)) => tracing::debug!(target: "tidelock::kafka", %error, "last record"),
                None if fetched.called.load(Ordering::Relaxed) => {}
                None => {
                    let position = reader.position().map_err(failed)?;
                    let position =
                        position.find_partition(topic, partition).and_then(|found| found.offset().to_raw());
                    let below = fetched.below.load(Ordering::Acquire);
                    if position.is_some_and(|position| position >= end) || (at_end && below >= end) {
                        return Ok(last);
                    }
                }
            }
            if Instant::now() >= until {
                return Err(Error::new(Kind::Timeout, format!("{} did not arrive", what())));
            }
        }
    }

    /// Only named, never joined: librdkafka assigns partitions to members of groups only.
    fn reader_group(&self) -> String {
        format!("{}.reader", self.config.client_id)
    }
}

fn fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || error.rdkafka_error_code() == Some(Code::AutoOffsetReset)
        || matches!(fault::kind(error), Kind::Config | Kind::Denied)
            && !fault::is_unknown(error)
            // One connection that could not be made; if it lasts, nothing arrives.
            && error.rdkafka_error_code() != Some(Code::SSL)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tidelock_lab::Lab;

    use super::*;
    use crate::{
        log::{Cleanup, Commit, Log as _, Producer, Record, TopicSpec, kafka::KafkaConfig},
        message::Headers,
    };

    static SLOW: AtomicU32 = AtomicU32::new(0);

    /// As on a machine that has other work: some statistics take longer than the time between two of them.
    pub(super) fn statistics() {
        if SLOW.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            thread::sleep(Duration::from_millis(150));
        }
    }

    async fn send(producer: &mut dyn Producer, topic: &str, payload: &'static str) {
        let record = Record {
            topic: topic.into(),
            partition: Some(0),
            key: None,
            payload: Some(payload.into()),
            headers: Headers::new(),
            time_ms: None,
        };
        producer.begin().await.unwrap();
        producer.send(vec![record]).await.unwrap();
        assert!(producer.acknowledged().await.unwrap().is_empty());
    }

    /// A position that is not the last one would have everything after it published again.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_overtakes_records_does_not_hide_the_last_one() {
        let lab = tokio::task::spawn_blocking(Lab::shared).await.unwrap();
        let config = KafkaConfig { brokers: lab.kafka_url(), ..KafkaConfig::default() };
        let kafka = Kafka::new(config).unwrap();
        let topic = format!("last_record.{}", std::process::id());
        let spec = TopicSpec { name: topic.clone(), partitions: Some(1), cleanup: Cleanup::Any };
        kafka.topic(&spec).await.unwrap();
        let (mut first, mut second) =
            (kafka.producer("last_record.1").await.unwrap(), kafka.producer("last_record.2").await.unwrap());
        send(first.as_mut(), &topic, "first").await;
        assert!(matches!(first.commit().await, Commit::Committed));
        // Its reader comes to the first record of an open transaction, an end before the end.
        send(second.as_mut(), &topic, "second").await;
        let reading = tokio::spawn(async move { kafka.last_record(&topic, 0).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        SLOW.store(20, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(matches!(second.commit().await, Commit::Committed));
        let last = reading.await.unwrap().unwrap().unwrap();
        assert_eq!(last.payload.as_deref(), Some(&b"second"[..]));
        assert_eq!(SLOW.load(Ordering::Relaxed), 0, "nothing was slow");
    }

    #[test]
    fn a_connection_that_cannot_be_made_ends_no_reading() {
        assert!(!fatal(&KafkaError::Global(Code::SSL)));
        assert!(fatal(&KafkaError::Global(Code::UnsupportedSASLMechanism)));
        assert!(!fatal(&KafkaError::MessageConsumption(Code::UnknownTopicOrPartition)));
    }
}
