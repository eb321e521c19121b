//! A member of a group, as async callers see it.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, Offset,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
};
use tokio::sync::{mpsc::unbounded_channel, oneshot, watch};

use super::{
    assignments::{Assignments, unassigned},
    bell::{Bell, Start},
    config::{KafkaConfig, ms},
    fault,
    logging::Quiet,
    membership::Membership,
    outlet::Outlet,
    poll::{Client, Loop, one, subscribe},
    rebalance::{Context, Shared},
};
use crate::{
    error::{Error, Kind, Result},
    failpoint::{self, Variant},
    log::{Assignment, Assignor, Consumer, ConsumerEvents, GroupMetadata, Subscription},
};

/// The async end of a consumer's thread.
pub(super) struct KafkaConsumer {
    shared: Arc<Shared>,
    closed: watch::Receiver<bool>,
    /// How to ask for offsets without waiting for open transactions.
    unstable: ClientConfig,
    query_timeout: Duration,
}

impl KafkaConsumer {
    pub(super) fn start(
        config: &KafkaConfig,
        subscription: &Subscription,
    ) -> Result<(Arc<Self>, ConsumerEvents)> {
        let (sender, receiver) = unbounded_channel();
        let shared = Arc::new(Shared {
            assignments: Assignments::default(),
            bell: Bell::default(),
            outlet: Outlet::new(sender),
            called: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            patience: config.patience(),
            client: OnceLock::new(),
        });
        let failed = |error| fault::failed(format!("consumer of group {:?}", subscription.group), error);
        let mut client: Client =
            member(config, subscription).create_with_context(Context(Arc::clone(&shared))).map_err(failed)?;
        let bell = Arc::downgrade(&shared);
        client.set_nonempty_callback(move || {
            if let Some(shared) = bell.upgrade() {
                shared.bell.ring(|_| {});
            }
        });
        let client = Arc::new(client);
        shared.client.get_or_init(|| Arc::downgrade(&client));
        subscribe(&client, &subscription.topics).map_err(failed)?;
        let (closing, closed) = watch::channel(false);
        let consumer = Arc::new(Self {
            shared: Arc::clone(&shared),
            closed,
            unstable: config.reader(&subscription.group, false),
            query_timeout: config.query_timeout,
        });
        let taken = Arc::clone(&shared);
        let events = ConsumerEvents::with(receiver, move |event| {
            if taken.outlet.taken(event) {
                taken.bell.ring(|_| {});
            }
        });
        let work = Loop::new(client, shared, subscription, config.query_timeout);
        thread::Builder::new()
            .name("tidelock-consumer".to_owned())
            .spawn(move || work.run(closing))
            .map_err(|error| Error::caused(Kind::Unavailable, "consumer thread cannot be started", error))?;
        Ok((consumer, events))
    }

    fn client(&self, assignment: &Assignment) -> Result<Arc<Client>> {
        self.shared.client().ok_or_else(|| unassigned(assignment))
    }

    /// Pauses or resumes; what `start` has not reached yet stays paused.
    fn set_flow(&self, assignment: &Assignment, flows: bool) -> Result<()> {
        let client = self.client(assignment)?;
        let held = self.shared.assignments.lock();
        held.require(assignment)?;
        if !held.started(assignment) {
            return Ok(());
        }
        one(assignment, Offset::Invalid)
            .and_then(|list| match flows {
                true => client.resume(&list),
                false => client.pause(&list),
            })
            .map_err(|error| fault::failed(format!("{assignment} cannot be paused or resumed"), error))
    }
}

/// A group member's settings.
fn member(config: &KafkaConfig, subscription: &Subscription) -> ClientConfig {
    let mut client = config.reader(&subscription.group, true);
    client
        .set("group.protocol", "classic")
        .set("session.timeout.ms", ms(config.session_timeout))
        .set("heartbeat.interval.ms", ms(config.heartbeat_interval))
        .set("max.poll.interval.ms", ms(config.max_poll_interval))
        .set(
            "partition.assignment.strategy",
            match subscription.assignor {
                Assignor::Cooperative => "cooperative-sticky",
                Assignor::Eager => "range,roundrobin",
            },
        );
    if let Some(instance) = &subscription.instance {
        client.set("group.instance.id", instance);
    }
    client
}

#[async_trait]
impl Consumer for KafkaConsumer {
    fn holds(&self, assignment: &Assignment) -> bool {
        self.shared.assignments.lock().holds(assignment)
    }

    async fn committed(&self, assignment: &Assignment) -> Result<Option<i64>> {
        self.shared.assignments.lock().require(assignment)?;
        let (shared, asked, timeout) = (Arc::clone(&self.shared), assignment.clone(), self.query_timeout);
        let unstable = failpoint::left_out(Variant::UncommittedOffset).then(|| self.unstable.clone());
        let answer = tokio::task::spawn_blocking(move || match unstable {
            None => {
                let client = shared.client().ok_or_else(|| unassigned(&asked))?;
                committed(&*client, &asked, timeout)
            }
            Some(config) => {
                let client: BaseConsumer<Quiet> = config
                    .create_with_context(Quiet)
                    .map_err(|error| fault::failed("consumer for offsets", error))?;
                committed(&client, &asked, timeout)
            }
        })
        .await
        .map_err(|error| Error::caused(Kind::Unavailable, "question for offsets", error))??;
        self.shared.assignments.lock().require(assignment)?;
        Ok(answer)
    }

    async fn start(&self, assignment: &Assignment, offset: i64) -> Result<u64> {
        self.shared.assignments.lock().require(assignment)?;
        let (reply, answer) = oneshot::channel();
        let start = Start { assignment: assignment.clone(), offset, reply };
        self.shared.bell.ring(|calls| calls.starts.push_back(start));
        let mut closed = self.closed.clone();
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(unassigned(assignment))),
            _ = closed.wait_for(|closed| *closed) => Err(unassigned(assignment)),
        }
    }

    fn pause(&self, assignment: &Assignment) -> Result<()> {
        self.set_flow(assignment, false)
    }

    fn resume(&self, assignment: &Assignment) -> Result<()> {
        self.set_flow(assignment, true)
    }

    /// One step with respect to rebalances, because the assignments stay locked throughout. An epoch ends under that
    /// lock *before* librdkafka is told to give its partition back, and librdkafka joins the group again only after
    /// that. So while every epoch is current, either the generation is the one under which the partitions are ours,
    /// or (cooperative) a later one in which they still are: a partition goes to another member only in a generation
    /// that we join without it. A member that the group expelled has generation -1 until its revocation is through.
    ///
    /// The snapshot that rdkafka passes on is opaque: membership is read before and after it, and must be the same.
    fn metadata(&self, held: &[Assignment]) -> Result<GroupMetadata> {
        let gone = || Error::new(Kind::Unassigned, "consumer is closed");
        let client = self.shared.client().ok_or_else(gone)?;
        let not_a_member = || Error::new(Kind::Unassigned, "consumer is not a member of its group now");
        if failpoint::left_out(Variant::UncheckedMetadata) {
            let metadata = client.group_metadata().ok_or_else(not_a_member)?;
            return Ok(GroupMetadata(Box::new(metadata)));
        }
        let current = self.shared.assignments.lock();
        held.iter().try_for_each(|each| current.require(each))?;
        let before = Membership::of(&client).ok_or_else(not_a_member)?;
        let metadata = client.group_metadata().ok_or_else(not_a_member)?;
        let after = Membership::of(&client).ok_or_else(not_a_member)?;
        if before != after || client.assignment_lost() {
            return Err(not_a_member());
        }
        drop(current);
        Ok(GroupMetadata(Box::new(metadata)))
    }

    async fn close(&self) {
        self.shared.bell.ring(|calls| calls.stop = true);
        // An error means that the thread is gone.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.shared.bell.ring(|calls| calls.stop = true);
    }
}

fn committed<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    assignment: &Assignment,
    timeout: Duration,
) -> Result<Option<i64>> {
    let failed = |error| fault::failed(format!("committed offset of {assignment}"), error);
    let list = one(assignment, Offset::Invalid)
        .and_then(|list| client.committed_offsets(list, timeout))
        .map_err(failed)?;
    let elements = list.elements();
    let found = elements
        .first()
        .ok_or_else(|| Error::new(Kind::Unavailable, format!("no answer for {assignment}")))?;
    found.error().map_err(failed)?;
    match found.offset() {
        Offset::Offset(offset) => Ok(Some(offset)),
        Offset::Invalid => Ok(None),
        other => Err(Error::new(Kind::Corrupt, format!("committed offset of {assignment} is {other:?}"))),
    }
}
