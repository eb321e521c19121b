//! Consumer groups: who is a member, which partitions each has, and the committed offsets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    balance,
    config::EmbeddedConfig,
    state::{Now, Place, Topic},
};
use crate::{
    error::{Error, Kind, Result},
    log::Assignor,
};

/// The number of a member, never given out twice.
pub(super) type MemberId = u64;

/// Proof of membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) group: String,
    pub(super) member: MemberId,
    pub(super) instance: Option<String>,
    pub(super) generation: i32,
}

/// A request to join, for the first time or again.
#[derive(Debug, Clone)]
pub(super) struct Join {
    pub(super) group: String,
    pub(super) member: Option<MemberId>,
    pub(super) instance: Option<String>,
    pub(super) topics: BTreeSet<String>,
    pub(super) assignor: Assignor,
    /// What the member keeps meanwhile (cooperative only).
    pub(super) owned: BTreeSet<Place>,
}

/// What the group answers to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing new.
    Quiet,
    /// Join again. What is held meanwhile is held under that generation, also if the member was never told what it has
    /// in it: a partition moves only in a generation that its owner joined without it.
    Rejoin(i32),
    /// All have joined: this is yours under that generation.
    Assigned(i32, BTreeSet<Place>),
    /// No such member: it was silent too long.
    Unknown,
    /// Another member has taken over the name.
    Fenced,
}

#[derive(Debug)]
pub(super) struct Groups {
    session: Duration,
    rebalance: Duration,
    groups: BTreeMap<String, Group>,
    last_member: MemberId,
}

#[derive(Debug, Default)]
struct Group {
    generation: i32,
    assignor: Assignor,
    /// Until when members may join; `None` while the group is stable.
    joining_until: Option<Duration>,
    members: BTreeMap<MemberId, Member>,
    offsets: BTreeMap<Place, i64>,
}

#[derive(Debug)]
pub(super) struct Member {
    instance: Option<String>,
    pub(super) topics: BTreeSet<String>,
    seen: Duration,
    joined: bool,
    /// The generation of which it was told its assignment.
    told: Option<i32>,
    pub(super) owned: BTreeSet<Place>,
    assignment: BTreeSet<Place>,
}

type Topics = BTreeMap<String, Topic>;

impl Groups {
    pub(super) fn new(config: &EmbeddedConfig) -> Self {
        Self {
            session: config.session_timeout,
            rebalance: config.max_poll_interval,
            groups: BTreeMap::new(),
            last_member: 0,
        }
    }

    pub(super) fn offset(&self, group: &str, place: &Place) -> Option<i64> {
        self.groups.get(group)?.offsets.get(place).copied()
    }

    pub(super) fn set_offset(&mut self, group: &str, place: Place, offset: i64) {
        self.groups.entry(group.to_owned()).or_default().offsets.insert(place, offset);
    }

    /// # Errors
    /// Kind `Fenced` when it is not the proof of a current member.
    pub(super) fn verify(&self, proof: &Proof) -> Result<()> {
        let group = self.groups.get(&proof.group);
        let why = match group.and_then(|group| group.members.get(&proof.member)) {
            None if group.is_some_and(|group| group.named(proof.instance.as_deref()).is_some()) => {
                "another member has its name"
            }
            None => "unknown member",
            Some(_) if group.is_some_and(|group| group.generation != proof.generation) => {
                "another generation"
            }
            Some(_) => return Ok(()),
        };
        let text = format!(
            "member {} of group {:?} in generation {} is fenced: {why}",
            proof.member, proof.group, proof.generation
        );
        Err(Error::new(Kind::Fenced, text))
    }

    /// # Errors
    /// Kind `Config` when the other members assign partitions another way.
    pub(super) fn join(&mut self, topics: &Topics, join: Join, now: Now) -> Result<MemberId> {
        let group = self.groups.entry(join.group.clone()).or_default();
        if group.members.is_empty() {
            group.assignor = join.assignor;
        } else if group.assignor != join.assignor {
            let text = format!(
                "group {:?} assigns partitions {:?}, the new member {:?}",
                join.group, group.assignor, join.assignor
            );
            return Err(Error::new(Kind::Config, text));
        }
        let member = Member {
            instance: join.instance,
            topics: join.topics,
            seen: now.at,
            joined: true,
            told: None,
            owned: join.owned,
            assignment: BTreeSet::new(),
        };
        let until = now.at + self.rebalance;
        if let Some(id) = join.member.filter(|id| group.members.contains_key(id)) {
            let told = group.members.get(&id).and_then(|member| member.told);
            group.members.insert(id, Member { told, ..member });
            group.prepare(until, Some(id));
            group.try_complete(topics);
            return Ok(id);
        }
        self.last_member += 1;
        let id = self.last_member;
        match group.named(member.instance.as_deref()).and_then(|old| group.members.remove(&old)) {
            Some(old) if old.topics == member.topics && group.joining_until.is_none() => {
                group.members.insert(id, Member { assignment: old.assignment, ..member });
            }
            _ => {
                group.members.insert(id, member);
                group.prepare(until, Some(id));
                group.try_complete(topics);
            }
        }
        Ok(id)
    }

    pub(super) fn beat(&mut self, group: &str, id: MemberId, instance: Option<&str>, now: Now) -> Beat {
        let Some(group) = self.groups.get_mut(group) else { return Beat::Unknown };
        let (generation, joining) = (group.generation, group.joining_until.is_some());
        let Some(member) = group.members.get_mut(&id) else {
            return match group.named(instance) {
                Some(_) => Beat::Fenced,
                None => Beat::Unknown,
            };
        };
        member.seen = now.at;
        if joining {
            return if member.joined { Beat::Quiet } else { Beat::Rejoin(generation) };
        }
        if member.told == Some(generation) {
            return Beat::Quiet;
        }
        member.told = Some(generation);
        Beat::Assigned(generation, member.assignment.clone())
    }

    pub(super) fn leave(&mut self, topics: &Topics, group: &str, id: MemberId, now: Now) {
        let until = now.at + self.rebalance;
        let Some(group) = self.groups.get_mut(group) else { return };
        if group.members.remove(&id).is_some() {
            group.prepare(until, None);
            group.try_complete(topics);
        }
    }

    /// Members that read the topic get its partitions.
    pub(super) fn topic_created(&mut self, topics: &Topics, topic: &str, now: Now) {
        for group in self.groups.values_mut() {
            if group.members.values().any(|member| member.topics.contains(topic)) {
                group.prepare(now.at + self.rebalance, None);
                group.try_complete(topics);
            }
        }
    }

    /// Gives up members that were silent too long; true when anything has changed.
    pub(super) fn expire(&mut self, topics: &Topics, now: Now) -> bool {
        let mut changed = false;
        for group in self.groups.values_mut() {
            let before = group.members.len();
            group.members.retain(|_, member| member.seen + self.session > now.at);
            if group.members.len() < before {
                group.prepare(now.at + self.rebalance, None);
                group.try_complete(topics);
                changed = true;
            }
            if group.joining_until.is_some_and(|until| until <= now.at) {
                group.members.retain(|_, member| member.joined);
                group.complete(topics);
                changed = true;
            }
        }
        changed
    }

    pub(super) fn due(&self) -> Option<Duration> {
        let sessions = self.groups.values().flat_map(|group| group.members.values());
        let sessions = sessions.map(|member| member.seen + self.session);
        sessions.chain(self.groups.values().filter_map(|group| group.joining_until)).min()
    }
}

impl Group {
    fn named(&self, instance: Option<&str>) -> Option<MemberId> {
        let instance = instance?;
        let mut members = self.members.iter();
        members.find(|(_, member)| member.instance.as_deref() == Some(instance)).map(|(id, _)| *id)
    }

    /// Everybody is to join, but for whoever has just done so.
    fn prepare(&mut self, until: Duration, joined: Option<MemberId>) {
        if self.joining_until.is_none() {
            self.joining_until = Some(until);
            for (id, member) in &mut self.members {
                member.joined = Some(*id) == joined;
            }
        }
    }

    fn try_complete(&mut self, topics: &Topics) {
        if self.joining_until.is_some() && self.members.values().all(|member| member.joined) {
            self.complete(topics);
        }
    }

    fn complete(&mut self, topics: &Topics) {
        self.joining_until = None;
        self.generation += 1;
        let places = balance::places(topics);
        let mut assigned = match self.assignor {
            Assignor::Eager => balance::range(&places, &self.members),
            Assignor::Cooperative => balance::sticky(&places, &self.members),
        };
        for (id, member) in &mut self.members {
            member.joined = false;
            member.assignment = assigned.remove(id).unwrap_or_default();
        }
    }
}

#[cfg(test)]
impl Member {
    pub(super) fn reading(topics: &[&str], owned: BTreeSet<Place>) -> Self {
        Self {
            instance: None,
            topics: topics.iter().map(|name| (*name).to_owned()).collect(),
            seen: Duration::ZERO,
            joined: true,
            told: None,
            owned,
            assignment: BTreeSet::new(),
        }
    }
}
