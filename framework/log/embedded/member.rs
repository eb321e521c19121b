//! The task of a member: heartbeats, rebalances, and records on their way.

use std::{collections::BTreeSet, pin::pin, sync::Arc};

use tokio::{
    sync::oneshot,
    task,
    time::{self, Instant},
};

use super::{
    client::Client,
    groups::{Beat, Join, MemberId},
    local::{Flow, Local},
    partition::Read,
    state::Place,
};
use crate::{
    error::{Error, Kind},
    log::{Assignment, Assignor, ConsumerEvent, Handback, Subscription},
};

/// The most records and bytes of one chunk.
const CHUNK: (usize, usize) = (500, 1 << 20);

pub(super) struct Member {
    client: Client,
    subscription: Subscription,
    topics: BTreeSet<String>,
    local: Arc<Local>,
    /// As long as the group has not said otherwise.
    id: Option<MemberId>,
    /// Why the group does not let it in, as far as it was told.
    refused: bool,
}

impl Member {
    pub(super) fn new(client: Client, subscription: &Subscription, local: Arc<Local>) -> Self {
        Self {
            client,
            topics: subscription.topics.iter().cloned().collect(),
            subscription: subscription.clone(),
            local,
            id: None,
            refused: false,
        }
    }

    /// Runs until it is closed, dropped, fenced, or killed; the dead never say that nothing follows.
    pub(super) async fn run(mut self) {
        let client = self.client.clone();
        while client.process.lives().await {
            let (closing, anew) = {
                let mut believed = self.local.lock();
                if believed.dropped {
                    break;
                }
                (believed.closing, std::mem::take(&mut believed.join_anew))
            };
            if closing || anew {
                self.leave().await;
                if closing {
                    break;
                }
            }
            let mut changed = pin!(client.shell.changed.notified());
            changed.as_mut().enable();
            if let Some(failure) = client.shell.failure() {
                self.die(failure);
                break;
            }
            match self.beat_or_join().await {
                Beat::Quiet => {}
                Beat::Rejoin(generation) => {
                    self.local.lock().membership = self.id.map(|id| (id, generation));
                    self.rejoin().await;
                    continue;
                }
                Beat::Assigned(generation, places) => {
                    self.assigned(generation, places).await;
                    continue;
                }
                Beat::Unknown => {
                    self.lose().await;
                    continue;
                }
                Beat::Fenced => {
                    let group = &self.subscription.group;
                    let text = format!("another member of group {group:?} has taken over the name");
                    self.die(Error::new(Kind::Fenced, text));
                    break;
                }
            }
            if self.drain().await {
                task::yield_now().await;
                continue;
            }
            let next = self.next_beat();
            tokio::select! {
                biased;
                () = changed => {}
                () = self.local.bell.notified() => {}
                () = time::sleep_until(next) => {}
            }
        }
        if !client.process.is_dead() {
            self.local.end();
        }
    }

    /// When to look again though nothing has happened.
    fn next_beat(&self) -> Instant {
        let shell = &self.client.shell;
        let beat = Instant::now() + shell.config.heartbeat_interval;
        let due = shell.due();
        due.map_or(beat, |due| due.min(beat))
    }

    fn join(&self, owned: BTreeSet<Place>) -> Join {
        Join {
            group: self.subscription.group.clone(),
            member: self.id,
            instance: self.subscription.instance.clone(),
            topics: self.topics.clone(),
            assignor: self.subscription.assignor,
            owned,
        }
    }

    async fn beat(&self) -> Beat {
        let Some(id) = self.id else { return Beat::Unknown };
        let Subscription { group, instance, .. } = &self.subscription;
        let (shell, process) = (&self.client.shell, &self.client.process);
        shell.apply_as(process, |state, now| state.groups.beat(group, id, instance.as_deref(), now)).await.0
    }

    async fn beat_or_join(&mut self) -> Beat {
        if self.id.is_some() {
            return self.beat().await;
        }
        let join = self.join(BTreeSet::new());
        let (shell, process) = (&self.client.shell, &self.client.process);
        let joined = shell.apply_as(process, |state, now| {
            let joined = state.groups.join(&state.topics, join, now);
            // A refusal concerns nobody, least of all whoever would ask again at once.
            state.changed |= joined.is_ok();
            joined
        });
        match joined.await.0 {
            Ok(id) => {
                self.id = Some(id);
                self.refused = false;
                self.beat().await
            }
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::warn!(target: "tidelock::embedded", %error, "consumer");
                }
                Beat::Quiet
            }
        }
    }

    /// Joins again with what it may keep meanwhile.
    async fn rejoin(&mut self) {
        let owned = match self.subscription.assignor {
            Assignor::Cooperative => self.local.lock().places(),
            Assignor::Eager => {
                let all = self.local.lock().all_but(&BTreeSet::new());
                self.hand_over(all, false).await;
                BTreeSet::new()
            }
        };
        self.join_again(owned).await;
    }

    /// Not when the group has expelled it meanwhile: its next heartbeat tells.
    async fn join_again(&mut self, owned: BTreeSet<Place>) {
        let Some(id) = self.id else { return };
        let join = self.join(owned);
        let Subscription { group, instance, .. } = &self.subscription;
        let (shell, process) = (&self.client.shell, &self.client.process);
        let joined = shell.apply_as(process, |state, now| {
            if let Beat::Unknown | Beat::Fenced = state.groups.beat(group, id, instance.as_deref(), now) {
                return;
            }
            // Its way to assign partitions is the group's already.
            let _ = state.groups.join(&state.topics, join, now);
            state.changed = true;
        });
        drop(joined.await);
    }

    async fn assigned(&mut self, generation: i32, places: BTreeSet<Place>) {
        let Some(id) = self.id else { return };
        let revoked = {
            let mut believed = self.local.lock();
            believed.membership = Some((id, generation));
            believed.all_but(&places)
        };
        let moves = !revoked.is_empty();
        self.hand_over(revoked, false).await;
        if self.local.lock().membership.is_none() {
            return;
        }
        let (shell, process) = (&self.client.shell, &self.client.process);
        let local = &self.local;
        let taken = shell.apply_as(process, |state, _| {
            let mut believed = local.lock();
            let held = believed.places();
            let new = places.difference(&held);
            let new: Vec<_> = new.map(|place| believed.assign(place, state.next_epoch())).collect();
            if !moves || !new.is_empty() {
                believed.send(ConsumerEvent::Assigned(new));
            }
            believed.places()
        });
        let held = taken.await.0;
        if moves {
            self.join_again(held).await;
        }
    }

    /// The group has expelled it.
    async fn lose(&mut self) {
        self.id = None;
        let all = {
            let mut believed = self.local.lock();
            believed.membership = None;
            believed.all_but(&BTreeSet::new())
        };
        self.hand_over(all, true).await;
    }

    fn die(&mut self, why: Error) {
        self.id = None;
        let mut believed = self.local.lock();
        let all = believed.all_but(&BTreeSet::new());
        believed.end(&all);
        believed.send(ConsumerEvent::Fatal(why));
    }

    /// Gives back what is held, then leaves; a static member just goes.
    async fn leave(&mut self) {
        let all = self.local.lock().all_but(&BTreeSet::new());
        self.hand_over(all, false).await;
        self.local.lock().membership = None;
        if let (Some(id), None) = (self.id.take(), &self.subscription.instance) {
            let group = &self.subscription.group;
            let (shell, process) = (&self.client.shell, &self.client.process);
            let left = shell.apply_as(process, |state, now| {
                state.groups.leave(&state.topics, group, id, now);
                state.changed = true;
            });
            drop(left.await);
        }
    }

    /// Waits for the handback, alive to the group. The epochs end before it joins again.
    async fn hand_over(&mut self, revoked: Vec<Assignment>, lost: bool) {
        if revoked.is_empty() {
            return;
        }
        let client = self.client.clone();
        let patience = client.shell.config.patience();
        let until = Instant::now() + patience;
        let (held, mut returned) = oneshot::channel::<()>();
        {
            let mut believed = self.local.lock();
            if lost {
                believed.end(&revoked);
            }
            let handback = Handback::new(held);
            believed.send(ConsumerEvent::Revoked { partitions: revoked.clone(), lost, handback });
        }
        loop {
            let next = (Instant::now() + client.shell.config.heartbeat_interval).min(until);
            tokio::select! {
                biased;
                _ = &mut returned => break,
                () = self.local.bell.notified() => {}
                () = time::sleep_until(next) => {}
            }
            if !client.process.lives().await || self.local.lock().dropped {
                return;
            }
            if Instant::now() >= until {
                tracing::warn!(
                    target: "tidelock::embedded",
                    partitions = revoked.len(),
                    ?patience,
                    "revoked partitions were not handed back in time"
                );
                break;
            }
            if !lost && matches!(self.beat().await, Beat::Unknown | Beat::Fenced) {
                let mut believed = self.local.lock();
                believed.membership = None;
                believed.end(&revoked);
            }
        }
        self.local.lock().end(&revoked);
    }

    /// Passes on a chunk of each flow; true when there may be more.
    async fn drain(&mut self) -> bool {
        let (shell, process, local) = (&self.client.shell, &self.client.process, &self.local);
        let read = shell.apply_as(process, |state, _| {
            let mut believed = local.lock();
            let (mut more, mut stored) = (false, Vec::new());
            for (assignment, flow) in believed.flowing() {
                if !believed.has_room() {
                    break;
                }
                let place = (Arc::clone(&assignment.topic), assignment.partition);
                match state.read(&place, flow.next, CHUNK.0, CHUNK.1) {
                    Read::Records(records, next) => {
                        more |= !records.is_empty();
                        believed.pass(&assignment, flow, records, next);
                    }
                    Read::Stored { until } => stored.push((assignment, flow, until)),
                    Read::OutOfRange => {
                        let text = format!("{assignment} cannot be read from {}: no such offset", flow.next);
                        believed.fail(&assignment, flow, Error::new(Kind::Identity, text));
                    }
                }
            }
            (more, stored)
        });
        let (more, stored) = read.await.0;
        let more = more || !stored.is_empty();
        for (assignment, flow, until) in stored {
            self.read_back(assignment, flow, until).await;
        }
        more
    }

    /// Reads what is only in the file.
    async fn read_back(&self, assignment: Assignment, flow: Flow, until: i64) {
        let Some(writer) = &self.client.shell.writer else { return };
        let place = (Arc::clone(&assignment.topic), assignment.partition);
        let read = writer.read(&place, flow.next..until, CHUNK).await;
        // What was thrown away before the file was asked is not passed over in silence.
        let start = self.client.shell.apply_as(&self.client.process, |state, _| {
            state.partition(&place.0, place.1).map(|found| found.start)
        });
        let read = start.await.0.and_then(|start| match start > flow.next {
            true => {
                let text = format!("{assignment} cannot be read from {}: it starts at {start}", flow.next);
                Err(Error::new(Kind::Identity, text))
            }
            false => read,
        });
        let mut believed = self.local.lock();
        match read {
            Ok((records, next)) => believed.pass(&assignment, flow, records, next),
            Err(error) => believed.fail(&assignment, flow, error),
        }
    }
}
