//! A started partition: from librdkafka's queue to chunks of records.

use std::time::Duration;

use rdkafka::{
    consumer::base_consumer::PartitionQueue,
    error::KafkaError,
    message::{BorrowedMessage, Message},
    types::RDKafkaErrorCode as Code,
};

use super::{fault, outlet::record_weight, rebalance::Context, received::received};
use crate::{
    error::{Error, Kind, Result},
    log::{Assignment, Received},
};

/// The most records and bytes of one chunk.
const CHUNK: (usize, usize) = (500, 1 << 20);

pub(super) struct Flow {
    /// Tells its records from those of an earlier flow of the same assignment.
    pub(super) number: u64,
    pub(super) assignment: Assignment,
    pub(super) queue: PartitionQueue<Context>,
    /// The next offset to pass on: librdkafka may fetch again what a pause had overtaken.
    pub(super) next: i64,
}

/// What keeps a flow from going on.
pub(super) enum Stop {
    Partition(Error),
    Consumer(Error),
}

impl Flow {
    /// Reads a chunk; true when there may be more.
    pub(super) fn drain(&mut self, records: &mut Vec<Received>) -> Result<bool, Stop> {
        let mut bytes = 0;
        while records.len() < CHUNK.0 && bytes < CHUNK.1 {
            let before = records.len();
            let Some(polled) = self.queue.poll(Duration::ZERO) else {
                return Ok(false);
            };
            match polled {
                Ok(message) => {
                    let read = read(&self.assignment, self.next, &message, records);
                    drop(message);
                    self.next = read.map_err(Stop::Partition)?;
                    bytes += records[before..].iter().map(record_weight).sum::<usize>();
                }
                Err(KafkaError::MessageConsumptionFatal(code)) => {
                    return Err(Stop::Consumer(Error::new(
                        fault::kind_of(code),
                        format!("consumer cannot go on: {code}"),
                    )));
                }
                Err(error) if error.rdkafka_error_code().is_some_and(ends_a_partition) => {
                    // Trying again would not help, unless the settings are to blame: an operator compares.
                    let kind = match fault::kind(&error) {
                        kind @ (Kind::Config | Kind::Denied) => kind,
                        _ => Kind::Identity,
                    };
                    let text = format!("{} cannot be read from {}", self.assignment, self.next);
                    return Err(Stop::Partition(Error::caused(kind, text, error)));
                }
                Err(error) => {
                    tracing::debug!(target: "tidelock::kafka", partition = %self.assignment, %error, "consumer");
                }
            }
        }
        Ok(true)
    }
}

/// Takes a record unless it was passed on before; answers the next offset.
fn read(
    assignment: &Assignment,
    next: i64,
    message: &BorrowedMessage<'_>,
    records: &mut Vec<Received>,
) -> Result<i64> {
    if message.offset() < next {
        return Ok(next);
    }
    records.push(received(&assignment.topic, message)?);
    Ok(message.offset() + 1)
}

fn ends_a_partition(code: Code) -> bool {
    matches!(
        code,
        Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::NoOffset
            | Code::LogTruncation
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::BadMessage
            | Code::BadCompression
            | Code::UnsupportedFeature
            | Code::NotImplemented
    )
}
