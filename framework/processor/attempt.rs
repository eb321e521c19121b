//! One execution of a batch inside one database transaction.

use std::{collections::HashSet, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::{
    Shared,
    committer::{MAX_OUTPUT_BYTES, MAX_OUTPUTS},
    registry::{Meta, id},
};
use crate::{
    database::{Database, FenceKey, Unit},
    error::{Error, Kind, Result},
    failpoint::{Point, Variant, hit, left_out},
    handler::{Context, Origin, Outcome},
    log::{Received, Record},
    message::{MessageId, header},
};

/// How long the handlers of one batch run where everybody else waits for it (`Database::ONE_WRITER`): what they have done
/// by then is committed, and the rest is the next batch's. A relay and a person who waits for a button notice a quarter
/// of a second at most, and the commit is still small beside it.
const TURN: Duration = Duration::from_millis(250);

/// A batch whose handlers have run; nothing is committed yet.
pub(crate) struct Executed<U> {
    pub(crate) unit: U,
    pub(crate) outputs: Vec<Record>,
    /// How many records of the batch it covers; the rest is left for the next one.
    pub(crate) used: usize,
    pub(crate) duplicates: usize,
}

/// Why there is nothing to commit. Everything was rolled back.
pub(crate) enum Failure {
    /// No handler has run: it was the database.
    Before(Error),
    /// The record of that index failed.
    At(usize, Error),
}

/// Opens a transaction, enters the ids, runs the handlers in order and collects what they emit, until that is much
/// (or their time is up, where others wait);
/// the ids of what is left are taken out again. `attempt` counts the executions of the first record.
pub(crate) async fn execute<D: Database>(
    shared: &Shared<D>,
    key: &FenceKey,
    batch: &[Received],
    attempt: u32,
) -> Result<Executed<D::Unit>, Failure> {
    let mut unit = shared.database.begin().await.map_err(Failure::Before)?;
    let ran = run(shared, key, batch, attempt, &mut unit).await;
    match ran {
        Ok((outputs, used, duplicates)) => Ok(Executed { unit, outputs, used, duplicates }),
        Err(failure) => {
            unit.rollback().await;
            Err(failure)
        }
    }
}

async fn run<D: Database>(
    shared: &Shared<D>,
    key: &FenceKey,
    batch: &[Received],
    attempt: u32,
    unit: &mut D::Unit,
) -> Result<(Vec<Record>, usize, usize), Failure> {
    let started = Instant::now();
    let mut seen = admit(shared, key, batch, unit).await.map_err(Failure::Before)?;
    let topic_id = shared.same.id(&key.topic);
    let mut outputs: Vec<Record> = Vec::new();
    let (mut bytes, mut used, mut duplicates) = (0, batch.len(), 0);
    for (index, record) in batch.iter().enumerate() {
        // A second record with the same id in one batch is a duplicate too.
        if shared.config.inbox && record.headers.message_id().is_some_and(|id| !seen.insert(id)) {
            duplicates += 1;
            continue;
        }
        let at = |error| Failure::At(index, error);
        let Some(handler) = shared.registry.find(record).map_err(at)? else {
            continue;
        };
        hit(Point::P6);
        let origin = Origin {
            group: key.group.clone(),
            topic: record.topic.clone(),
            topic_id: topic_id.clone(),
            partition: record.partition,
            offset: record.offset,
            trace_parent: record.headers.get_str(header::TRACE_PARENT).map(str::to_owned),
        };
        let meta = Meta { id: id(record, &topic_id), attempt: if index == 0 { attempt } else { 1 } };
        let mut context = Context::new(unit.connection(), origin);
        let handled = AssertUnwindSafe(handler.handle(record, meta, &mut context)).catch_unwind();
        let limit = shared.config.handler_timeout;
        let outcome = match timeout(limit, handled).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Error::panicked(Kind::Handler, "the handler", panic.as_ref())),
            // It may wait for a host that is gone without a word, and would for ever.
            Err(_) => Err(Error::new(
                Kind::Timeout,
                format!("the handler did not end within handler_timeout = {limit:?}"),
            )),
        };
        let outcome = match outcome {
            Err(_) if left_out(Variant::ErrorSwallowed) => Outcome::Skip,
            outcome => outcome.map_err(at)?,
        };
        if outcome == Outcome::Done {
            let emitted = outputs.len();
            outputs.extend(context.into_outputs());
            bytes += outputs[emitted..].iter().map(Record::size).sum::<usize>();
        }
        let much = bytes > MAX_OUTPUT_BYTES || outputs.len() > MAX_OUTPUTS;
        if much || D::ONE_WRITER && started.elapsed() >= TURN {
            used = index + 1;
            break;
        }
    }
    let left = batch[used..].iter().filter_map(|record| record.headers.message_id());
    let left: HashSet<MessageId> = left.filter(|id| !seen.contains(id)).collect();
    if !left.is_empty() && uses_inbox(shared) {
        let left: Vec<MessageId> = left.into_iter().collect();
        unit.retract(&key.group, &left).await.map_err(|error| Failure::At(used - 1, error))?;
    }
    Ok((outputs, used, duplicates))
}

fn uses_inbox<D: Database>(shared: &Shared<D>) -> bool {
    shared.config.inbox && D::FENCED
}

/// The ids that the inbox had already.
async fn admit<D: Database>(
    shared: &Shared<D>,
    key: &FenceKey,
    batch: &[Received],
    unit: &mut D::Unit,
) -> Result<HashSet<MessageId>> {
    if !uses_inbox(shared) {
        return Ok(HashSet::new());
    }
    let ids: HashSet<MessageId> = batch.iter().filter_map(|record| record.headers.message_id()).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<MessageId> = ids.into_iter().collect();
    let seen = unit.admit(&key.group, &ids).await?;
    Ok(if left_out(Variant::InboxUnread) { HashSet::new() } else { seen })
}
