//! One Kafka transaction of the relay: rows, position, commit, in the order of the protocol.

use crate::{
    error::{Error, Kind, Result},
    failpoint::{Point, Variant, hit, left_out},
    log::{Commit, Producer, Record, Refusal},
    message::Headers,
};

use super::position::Position;

/// What goes into the transaction.
pub(crate) struct Publication<'a> {
    pub(crate) topic: &'a str,
    pub(crate) records: Vec<Record>,
    pub(crate) position: &'a Position,
}

/// `Ok(Ok(()))` is committed. `Ok(Err(refusals))`: nothing was published, these records are refused for good.
/// After an error the outcome is known only from the next session's position.
pub(crate) async fn publish(
    producer: &mut dyn Producer,
    publication: Publication<'_>,
    durable: impl Future<Output = Result<()>>,
) -> Result<Result<(), Vec<Refusal>>> {
    producer.begin().await?;
    match inside(producer, publication, durable).await {
        Ok(Ok(())) => {}
        Ok(Err(refusals)) => {
            producer.abort().await;
            return Ok(Err(refusals));
        }
        Err(error) => {
            producer.abort().await;
            return Err(error);
        }
    }
    let outcome = producer.commit().await;
    hit(Point::R5);
    match outcome {
        Commit::Committed => Ok(Ok(())),
        Commit::Aborted(error) | Commit::Unknown(error) => Err(error),
    }
}

async fn inside(
    producer: &mut dyn Producer,
    publication: Publication<'_>,
    durable: impl Future<Output = Result<()>>,
) -> Result<Result<(), Vec<Refusal>>> {
    let Publication { topic, mut records, position } = publication;
    let rest = records.split_off(records.len() / 2);
    if !records.is_empty() {
        producer.send(records).await?;
    }
    hit(Point::R2);
    if !rest.is_empty() {
        producer.send(rest).await?;
    }
    let refusals = producer.acknowledged().await?;
    if !refusals.is_empty() {
        return Ok(Err(refusals));
    }
    hit(Point::R3);
    if left_out(Variant::PositionOutside) {
        durable.await?;
        commit_apart(producer).await?;
        hit(Point::R4);
        send_position(producer, topic, position).await?;
        return Ok(Ok(()));
    }
    send_position(producer, topic, position).await?;
    durable.await?;
    hit(Point::R4);
    Ok(Ok(()))
}

async fn send_position(producer: &mut dyn Producer, topic: &str, position: &Position) -> Result<()> {
    let record = Record {
        topic: topic.into(),
        partition: Some(position.shard as i32),
        key: Some(format!("shard-{}", position.shard).into()),
        payload: Some(position.encode()?),
        headers: Headers::new(),
        time_ms: None,
    };
    producer.send(vec![record]).await?;
    match producer.acknowledged().await?.first() {
        None => Ok(()),
        Some(refusal) => Err(Error::new(
            // Too large, say: for the limit of the topic, which can be raised.
            if refusal.denied { Kind::Denied } else { Kind::Unavailable },
            format!("{topic}[{}]: the position was refused: {}", position.shard, refusal.reason),
        )),
    }
}

/// The wrong order, for the tests of the tests: the rows are committed before the position is written.
async fn commit_apart(producer: &mut dyn Producer) -> Result<()> {
    match producer.commit().await {
        Commit::Committed => producer.begin().await,
        Commit::Aborted(error) | Commit::Unknown(error) => Err(error),
    }
}
