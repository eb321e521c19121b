//! The thread of a consumer: it polls, starts partitions, and runs the rebalance callbacks.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::watch;

use super::{
    assignments::unassigned,
    bell::Start,
    fault,
    flow::{Flow, Stop},
    membership::Membership,
    rebalance::{Context, Shared},
};
use crate::{
    error::{Error, Kind, Result},
    log::{Assignment, ConsumerEvent, Received, Subscription},
};

/// How long the thread sleeps when nothing rings: rebalances and records ring, this is for what does not.
const TICK: Duration = Duration::from_millis(50);
/// How soon a partition that cannot be started yet is tried again.
const START_AGAIN: Duration = Duration::from_millis(5);
/// How long one seek may take.
const SEEK: Duration = Duration::from_secs(2);
/// How long leaving the group may take: partitions have to stop first, and a rebalance that is under way to end.
const LEAVE: Duration = Duration::from_secs(5);
/// How often every started partition is looked at, rung or not.
const ROUND: Duration = Duration::from_secs(1);

pub(super) type Client = BaseConsumer<Context>;

pub(super) struct Loop {
    consumer: Arc<Client>,
    shared: Arc<Shared>,
    /// How long a partition may take to become ready for a seek.
    start_timeout: Duration,
    topics: Vec<String>,
    /// A static member: it has a `group.instance.id`.
    named: bool,
    /// Epochs of partitions that librdkafka has given up reading: not even a seek starts them again.
    broken: BTreeSet<u64>,
    flows: BTreeMap<u64, Flow>,
    ready: VecDeque<u64>,
    starts: Vec<(Start, Instant)>,
    /// The number of the last flow that was started.
    flow: u64,
    dead: bool,
}

impl Loop {
    pub(super) fn new(
        consumer: Arc<Client>,
        shared: Arc<Shared>,
        subscription: &Subscription,
        start_timeout: Duration,
    ) -> Self {
        Self {
            consumer,
            shared,
            start_timeout,
            topics: subscription.topics.clone(),
            named: subscription.instance.is_some(),
            broken: BTreeSet::new(),
            flows: BTreeMap::new(),
            ready: VecDeque::new(),
            starts: Vec::new(),
            flow: 0,
            dead: false,
        }
    }

    pub(super) fn run(mut self, closed: watch::Sender<bool>) {
        let mut round = Instant::now();
        while !self.dead {
            let calls = self.shared.bell.wait(self.pause());
            if calls.stop {
                break;
            }
            self.ready.extend(calls.ready);
            if round.elapsed() >= ROUND {
                round = Instant::now();
                self.ready.extend(self.flows.keys());
            }
            let until = Instant::now() + self.start_timeout;
            self.starts.extend(calls.starts.into_iter().map(|start| (start, until)));
            self.poll_group();
            {
                let held = self.shared.assignments.lock();
                self.flows.retain(|_, flow| held.holds(&flow.assignment));
            }
            self.start_partitions();
            self.drain_partitions();
        }
        self.leave(&closed);
    }

    fn pause(&self) -> Duration {
        if !self.ready.is_empty() && self.shared.outlet.has_room() {
            Duration::ZERO
        } else if !self.starts.is_empty() {
            START_AGAIN
        } else {
            TICK
        }
    }

    /// Serves the group's queue: rebalances, errors, log lines, and records of partitions that are not started.
    fn poll_group(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        while !self.dead {
            self.shared.called.store(false, Ordering::Relaxed);
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => self.stray(&message),
                Some(Err(error)) => self.trouble(&error),
                None if self.shared.called.load(Ordering::Relaxed) => {}
                None => return,
            }
        }
    }

    /// A record outside of the queue of its partition. Nobody misses one of a partition that is not started; one of a
    /// started partition may have overtaken others, so that the partition has to start over.
    fn stray(&mut self, message: &BorrowedMessage<'_>) {
        let flow = self.flows.values().find(|flow| {
            flow.assignment.partition == message.partition() && *flow.assignment.topic == *message.topic()
        });
        if let Some(flow) = flow {
            let (assignment, offset) = (flow.assignment.clone(), message.offset());
            let text = format!("{assignment}: record {offset} came past its queue");
            self.fail(&assignment, Error::new(Kind::Unavailable, text));
        }
    }

    fn trouble(&mut self, error: &KafkaError) {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            self.die(Error::caused(fault::kind_of(*code), "consumer cannot go on", error.clone()));
        } else if let kind @ (Kind::Denied | Kind::Config) = fault::kind(error) {
            tracing::warn!(target: "tidelock::kafka", %error, "consumer");
            // One connection that could not log in takes nothing from a member. If it lasts, it is none before long, and
            // this comes again.
            let harmless = kind == Kind::Config || fault::is_login(error);
            if !(harmless && Membership::of(&self.consumer).is_some()) {
                let what = "the group's member";
                self.shared.outlet.send(ConsumerEvent::Denied(fault::failed(what, error.clone())));
            }
        } else if error.rdkafka_error_code() == Some(Code::PollExceeded) {
            tracing::warn!(target: "tidelock::kafka", %error, "consumer");
        } else {
            tracing::debug!(target: "tidelock::kafka", %error, "consumer");
        }
    }

    fn die(&mut self, error: Error) {
        self.dead = true;
        self.shared.assignments.lock().end_all();
        self.shared.outlet.send(ConsumerEvent::Fatal(error));
        self.shared.outlet.close();
    }

    fn start_partitions(&mut self) {
        for (start, until) in std::mem::take(&mut self.starts) {
            match self.start(&start.assignment, start.offset) {
                Err(error) if error.kind() == Kind::Unavailable && Instant::now() < until => {
                    self.starts.push((start, until));
                }
                // Nobody to answer: the caller was cancelled.
                result => drop(start.reply.send(result)),
            }
        }
    }

    fn start(&mut self, assignment: &Assignment, offset: i64) -> Result<u64> {
        let not_yet = |error: KafkaError| {
            Error::caused(Kind::Unavailable, format!("{assignment} cannot be started at {offset}"), error)
        };
        if self.broken.contains(&assignment.epoch) {
            self.join_anew();
            return Err(unassigned(assignment));
        }
        let list = one(assignment, Offset::Offset(offset)).map_err(not_yet)?;
        // The old queue must be gone before the new one is made: both are librdkafka's same one.
        self.flows.remove(&assignment.epoch);
        {
            let mut held = self.shared.assignments.lock();
            held.require(assignment)?;
            held.set_started(assignment, false);
            self.consumer.pause(&list).map_err(not_yet)?;
        }
        let sought = self.consumer.seek_partitions(list.clone(), SEEK).map_err(not_yet)?;
        for each in sought.elements() {
            each.error().map_err(not_yet)?;
        }
        let mut queue = self
            .consumer
            .split_partition_queue(&assignment.topic, assignment.partition)
            .ok_or_else(|| unassigned(assignment))?;
        let (shared, epoch) = (Arc::downgrade(&self.shared), assignment.epoch);
        queue.set_nonempty_callback(move || {
            if let Some(shared) = shared.upgrade() {
                shared.bell.ring(|calls| calls.ready.push(epoch));
            }
        });
        {
            let mut held = self.shared.assignments.lock();
            held.require(assignment)?;
            self.consumer.resume(&list).map_err(not_yet)?;
            held.set_started(assignment, true);
        }
        self.flow += 1;
        let flow = Flow { number: self.flow, assignment: assignment.clone(), queue, next: offset };
        self.flows.insert(epoch, flow);
        self.ready.push_back(epoch);
        Ok(self.flow)
    }

    /// Gives everything back and joins again. Assigning a partition anew by hand could be taken for the answer to a
    /// rebalance that is just under way, and end it before its handback.
    fn join_anew(&mut self) {
        self.broken.clear();
        self.consumer.unsubscribe();
        if let Err(error) = subscribe(&self.consumer, &self.topics) {
            self.die(fault::failed("group cannot be joined again", error));
        }
    }

    fn drain_partitions(&mut self) {
        for _ in 0..self.ready.len() {
            if !self.shared.outlet.has_room() {
                return;
            }
            let Some(epoch) = self.ready.pop_front() else {
                return;
            };
            self.ready.retain(|each| *each != epoch);
            let Some(flow) = self.flows.get_mut(&epoch) else {
                continue;
            };
            let mut records = Vec::new();
            let outcome = flow.drain(&mut records);
            let (assignment, number) = (flow.assignment.clone(), flow.number);
            self.send(&assignment, number, records);
            match outcome {
                Ok(true) => self.ready.push_back(epoch),
                Ok(false) => {}
                Err(Stop::Partition(error)) => self.fail(&assignment, error),
                Err(Stop::Consumer(error)) => return self.die(error),
            }
        }
    }

    fn send(&self, assignment: &Assignment, flow: u64, records: Vec<Received>) {
        if !records.is_empty() {
            let assignment = assignment.clone();
            self.shared.outlet.send(ConsumerEvent::Records { assignment, flow, records });
        }
    }

    fn fail(&mut self, assignment: &Assignment, error: Error) {
        self.flows.remove(&assignment.epoch);
        self.broken.insert(assignment.epoch);
        self.shared.assignments.lock().set_started(assignment, false);
        if let Err(error) = one(assignment, Offset::Invalid).and_then(|list| self.consumer.pause(&list)) {
            tracing::debug!(target: "tidelock::kafka", %assignment, %error, "pause");
        }
        self.shared.outlet.send(ConsumerEvent::Failed(assignment.clone(), error));
    }

    /// Gives back what is held, then leaves the group.
    ///
    /// Not by the close alone: one that comes while partitions are given back incrementally ends without a LeaveGroup
    /// (librdkafka 2.12.1, `rd_kafka_cgrp_incr_unassign_done`), and the group waits for its session time-out.
    fn leave(mut self, closed: &watch::Sender<bool>) {
        self.flows.clear();
        for (start, _) in self.starts.drain(..) {
            let stopped = Error::new(Kind::Stopped, "consumer is closed");
            drop(start.reply.send(Err(stopped)));
        }
        self.shared.leaving.store(true, Ordering::Relaxed);
        let held = self.shared.assignments.lock().all();
        self.shared.give_back(&self.consumer, &held);
        // A named member keeps its place until it stays away for too long.
        if !self.named {
            self.consumer.unsubscribe();
            let until = Instant::now() + LEAVE;
            while !Membership::is_over(&self.consumer) && Instant::now() < until {
                // Records and errors of a consumer that leaves concern nobody.
                drop(self.consumer.poll(START_AGAIN));
            }
        }
        // A question for offsets may hold the client a little longer; its last owner's drop blocks until the group is
        // left, so that must be this thread.
        let until = Instant::now() + 2 * self.start_timeout;
        while Arc::strong_count(&self.consumer) > 1 && Instant::now() < until {
            drop(self.consumer.poll(START_AGAIN));
        }
        drop(self);
        closed.send_replace(true);
    }
}

impl Drop for Loop {
    /// Also after a panic: nobody may wait for a thread that is gone.
    fn drop(&mut self) {
        self.shared.assignments.lock().end_all();
        if thread::panicking() {
            let error = Error::new(Kind::Unavailable, "thread of the consumer panicked");
            self.shared.outlet.send(ConsumerEvent::Fatal(error));
        }
        self.shared.outlet.close();
    }
}

pub(super) fn subscribe(client: &Client, topics: &[String]) -> KafkaResult<()> {
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    client.subscribe(&topics)
}

/// A list of one partition.
pub(super) fn one(assignment: &Assignment, offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&assignment.topic, assignment.partition, offset)?;
    Ok(list)
}
