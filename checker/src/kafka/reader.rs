//! Reads all partitions of some topics from their beginning, as far as one is allowed to see.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::Headers as _,
    types::RDKafkaErrorCode,
};

use super::{Isolation, Kafka};
use crate::{
    Error, Result,
    judge::evidence::{Bounds, Record},
};

/// After how many records the position is looked at although more come.
const LOOK: u32 = 4096;

/// What one turn of a reader brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A record.
    Heard,
    /// Nothing, or nothing but an error that may pass.
    Idle,
}

/// One reader of some topics.
pub(crate) struct Reader<'a> {
    kafka: &'a Kafka,
    topics: &'a [String],
    client: BaseConsumer,
    /// Asks for the ends: a read_committed client would be told the last stable offset.
    outsider: BaseConsumer,
    /// A read_committed client that asks for just that.
    insider: BaseConsumer,
    /// Every partition, from its first offset to the end there was last.
    pub(crate) bounds: Vec<Bounds>,
    last_error: Option<KafkaError>,
}

impl<'a> Reader<'a> {
    /// Starts at the first offset of every partition.
    pub(crate) fn open(kafka: &'a Kafka, topics: &'a [String], isolation: Isolation) -> Result<Self> {
        let group = "checker";
        let client = kafka.client(group, isolation)?;
        let outsider = kafka.client(group, Isolation::Uncommitted)?;
        let insider = kafka.client(group, Isolation::Committed)?;
        let mut reader =
            Self { kafka, topics, client, outsider, insider, bounds: Vec::new(), last_error: None };
        let mut list = TopicPartitionList::new();
        for (topic, name) in topics.iter().enumerate() {
            for partition in 0..kafka.partitions(&reader.outsider, name)? {
                let (low, end) = kafka.bounds(&reader.outsider, name, partition)?;
                reader.bounds.push(Bounds { topic, partition, low, stable: end, end });
                list.add_partition_offset(name, partition, Offset::Offset(low))
                    .map_err(Error::kafka(format!("{name}[{partition}]")))?;
            }
        }
        reader.client.assign(&list).map_err(Error::kafka("to be assigned all partitions"))?;
        Ok(reader)
    }

    /// The next record, if one comes in time.
    pub(crate) fn turn(&mut self, wait: Duration, each: &mut dyn FnMut(&Record<'_>)) -> Turn {
        match self.client.poll(wait) {
            Some(Ok(message)) => {
                let topic = self.topics.iter().position(|topic| topic == message.topic());
                let headers = message.headers();
                let named = headers.into_iter().flat_map(|headers| headers.iter());
                let header = named.filter(|header| header.key == self.kafka.header).last();
                each(&Record {
                    topic: topic.unwrap_or_default(),
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key(),
                    payload: message.payload(),
                    header: header.and_then(|header| header.value),
                });
                Turn::Heard
            }
            Some(Err(error)) => {
                self.last_error = Some(error);
                Turn::Idle
            }
            None => Turn::Idle,
        }
    }

    /// Whether the log was cut off behind a reader or expired before it: then it stands, and must be
    /// [put right](Self::put_right).
    pub(crate) fn is_lost(&mut self) -> bool {
        use RDKafkaErrorCode::{AutoOffsetReset, LogTruncation, OffsetOutOfRange};
        let lost = |error: &mut KafkaError| {
            matches!(error.rdkafka_error_code(), Some(AutoOffsetReset | LogTruncation | OffsetOutOfRange))
        };
        self.last_error.take_if(lost).is_some()
    }

    /// Goes on where a partition begins or ends now, and tells of the partitions for which that is another place.
    pub(crate) fn put_right(&mut self) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for (index, position) in self.positions()?.into_iter().enumerate() {
            let Bounds { topic, partition, .. } = self.bounds[index];
            let name = &self.topics[topic];
            let (low, end) = self.kafka.bounds(&self.outsider, name, partition)?;
            let to = position.clamp(low, end);
            if to == position {
                continue;
            }
            told.push(format!(
                "{name}[{partition}] has offsets {low} to {end}, the reader was at {position}"
            ));
            let what = || format!("to go to {name}[{partition}]@{to}");
            self.kafka.insist(what, || self.client.seek(name, partition, Offset::Offset(to), super::ASK))?;
        }
        Ok(told)
    }

    /// Where the reader is in every partition; control records and hidden ones count as read.
    pub(crate) fn positions(&self) -> Result<Vec<i64>> {
        let list = self.client.position().map_err(Error::kafka("the reader's position"))?;
        let position = |bound: &Bounds| {
            let element = list.find_partition(&self.topics[bound.topic], bound.partition);
            match element.map(|element| element.offset()) {
                Some(Offset::Offset(at)) => at,
                _ => bound.low,
            }
        };
        Ok(self.bounds.iter().map(position).collect())
    }

    /// Asks where the partitions end now.
    pub(crate) fn find_ends(&mut self) -> Result<()> {
        for bound in &mut self.bounds {
            let (low, end) = self.kafka.bounds(&self.outsider, &self.topics[bound.topic], bound.partition)?;
            // What was deleted meanwhile will not come.
            (bound.stable, bound.end) = (end, if low >= end { bound.low } else { end });
        }
        Ok(())
    }

    /// Reads as far as another reader did: to its ends, or for a read_committed one to where transactions were open.
    pub(crate) fn stop_at(&mut self, ends: &[Bounds], committed: bool) {
        for bound in &mut self.bounds {
            let same = |end: &&Bounds| (end.topic, end.partition) == (bound.topic, bound.partition);
            if let Some(end) = ends.iter().find(same) {
                bound.end = if committed { end.stable } else { end.end };
                bound.stable = bound.end;
            }
        }
    }

    /// Reads until every partition was read to its end. If nothing comes for as long as patience lasts, the bounds tell
    /// where a transaction is open.
    pub(crate) fn drain(&mut self, each: &mut dyn FnMut(&Record<'_>)) -> Result<()> {
        let mut before = self.positions()?;
        let mut moved = Instant::now();
        let mut unlooked = 0;
        loop {
            let turn = self.turn(Duration::from_millis(20), each);
            unlooked += 1;
            if turn == Turn::Heard && unlooked < LOOK {
                continue;
            }
            unlooked = 0;
            let now = self.positions()?;
            if self.bounds.iter().zip(&now).all(|(bound, at)| *at >= bound.end) {
                return Ok(());
            }
            if now != before {
                (before, moved) = (now, Instant::now());
            } else if moved.elapsed() >= self.kafka.patience || self.last_error_is_final() {
                return self.what_is_open(&now);
            }
        }
    }

    fn last_error_is_final(&self) -> bool {
        matches!(self.last_error, Some(KafkaError::MessageConsumptionFatal(_)))
    }

    fn what_is_open(&mut self, positions: &[i64]) -> Result<()> {
        for (bound, position) in self.bounds.iter_mut().zip(positions) {
            if *position >= bound.end {
                continue;
            }
            let (topic, partition) = (&self.topics[bound.topic], bound.partition);
            bound.stable = self.kafka.bounds(&self.insider, topic, partition)?.1.min(bound.end);
            if *position < bound.stable || bound.stable == bound.end {
                let reason = self.last_error.as_ref().map_or("no error".into(), ToString::to_string);
                return Err(Error::Unreadable {
                    topic: topic.clone(),
                    partition,
                    position: *position,
                    end: bound.end,
                    patience: self.kafka.patience,
                    reason,
                });
            }
        }
        Ok(())
    }
}
