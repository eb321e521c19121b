//! What is told to a cluster.

use super::wire::{Answer, Body};
use super::{Cluster, node};
use crate::{Error, Result};

const CREATE_ACLS: (i16, i16, bool) = (30, 1, false);
const DELETE_ACLS: (i16, i16, bool) = (31, 1, false);
const ELECT_LEADERS: (i16, i16, bool) = (43, 1, false);
const INCREMENTAL_ALTER_CONFIGS: (i16, i16, bool) = (44, 0, false);
const ALTER_PARTITION_REASSIGNMENTS: (i16, i16, bool) = (45, 0, true);
const ALTER_CLIENT_QUOTAS: (i16, i16, bool) = (49, 0, false);

/// How long a broker may take, in milliseconds.
const WITHIN_MS: i32 = 8_000;
const ELECTION_NOT_NEEDED: i16 = 84;

/// What may be refused to everybody; a name is that of the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right<'a> {
    /// To write to a topic.
    Write(&'a str),
    /// To read a topic.
    Read(&'a str),
    /// To see that there is such a topic.
    See(&'a str),
    /// To see the settings of a topic.
    SeeSettings(&'a str),
    /// To be a member of a group and to commit its offsets.
    Join(&'a str),
    /// To use the transactional ids that begin so.
    Transact(&'a str),
}

impl<'a> Right<'a> {
    /// Kind of thing, how names are compared, and the name.
    fn thing(self) -> (i8, i8, &'a str) {
        const LITERAL: i8 = 3;
        const PREFIXED: i8 = 4;
        match self {
            Self::Write(topic) | Self::Read(topic) | Self::See(topic) | Self::SeeSettings(topic) => {
                (2, LITERAL, topic)
            }
            Self::Join(group) => (3, LITERAL, group),
            Self::Transact(prefix) => (5, PREFIXED, prefix),
        }
    }

    fn operation(self) -> i8 {
        match self {
            Self::Read(_) | Self::Join(_) => 3,
            Self::Write(_) | Self::Transact(_) => 4,
            Self::See(_) => 8,
            Self::SeeSettings(_) => 10,
        }
    }
}

impl Cluster<'_> {
    /// Makes the first replica of a partition its leader again.
    pub fn elect_leaders(&self, topic: &str, partition: i32) -> Result<()> {
        let body = Body::default().int8(0).one().text(topic).one().int32(partition).int32(WITHIN_MS);
        let what = format!("election of a leader of {topic}/{partition}");
        let mut answer = self.call(&what, ELECT_LEADERS, &body)?;
        answer.skip(4);
        refused(&what, answer.int16())?;
        if answer.count() == 0 {
            return Ok(());
        }
        answer.text();
        answer.skip(8);
        match answer.int16() {
            ELECTION_NOT_NEEDED => Ok(()),
            code => refused(&what, code),
        }
    }

    /// Gives a partition these replicas, the preferred leader first. Returns when the cluster has agreed: copying
    /// takes its time ([`wait_in_sync`](Self::wait_in_sync)), and the leader changes only if it is none of them.
    pub fn reassign(&self, topic: &str, partition: i32, brokers: &[usize]) -> Result<()> {
        let body = Body::default().int32(WITHIN_MS).compact(1).compact(topic.len()).bytes(topic.as_bytes());
        let body = body.compact(1).int32(partition).compact(brokers.len());
        let body = brokers.iter().fold(body, |body, broker| body.int32(node(*broker)));
        // No tagged fields: of the partition, the topic, the request.
        let body = body.bytes(&[0, 0, 0]);
        let what = format!("reassignment of {topic}/{partition}");
        let mut answer = self.call(&what, ALTER_PARTITION_REASSIGNMENTS, &body)?;
        answer.skip(4);
        refused(&what, answer.int16())?;
        let length = answer.compact();
        answer.skip(length);
        answer.compact();
        let length = answer.compact();
        answer.skip(length);
        answer.compact();
        answer.skip(4);
        refused(&what, answer.int16())
    }

    /// Makes a broker that has a partition its leader, and waits for it.
    pub fn move_leader(&self, topic: &str, partition: i32, broker: usize) -> Result<()> {
        let found = self.describe(topic)?.into_iter().find(|found| found.index == partition);
        let Some(mut replicas) = found.map(|found| found.replicas) else {
            return Err(Error::Config(format!("there is no partition {topic}/{partition}")));
        };
        replicas.sort_by_key(|replica| *replica != broker);
        self.reassign(topic, partition, &replicas)?;
        let lacks = |lacks: &dyn Fn(&super::Partition) -> bool, all: &[super::Partition]| {
            let found = all.iter().find(|found| found.topic == topic && found.index == partition);
            found.is_none_or(lacks).then(|| format!("{found:?}"))
        };
        self.wait("of the new order", |all| lacks(&|found| found.replicas != replicas, all))?;
        self.elect_leaders(topic, partition)?;
        self.wait("led anew", |all| lacks(&|found| found.leader != Some(broker), all))
    }

    /// Takes a right from everybody; everything else goes on. Needs brokers with an
    /// [authorizer](crate::Builder::authorizer). Returns when the cluster has agreed: every broker follows by itself.
    pub fn deny(&self, right: Right<'_>) -> Result<()> {
        const ALL: i8 = 2;
        const DENY: i8 = 2;
        const ALLOW: i8 = 3;
        let (kind, compared, name) = right.thing();
        // A thing with any rule is forbidden but for what rules allow.
        let rule = |body: Body, operation, permission| {
            let body = body.int8(kind).text(name).int8(compared).text("User:*").text("*");
            body.int8(operation).int8(permission)
        };
        let body = rule(rule(Body::default().int32(2), ALL, ALLOW), right.operation(), DENY);
        let what = format!("a rule against {right:?}");
        let answer = self.call(&what, CREATE_ACLS, &body)?;
        first_result(&what, answer)
    }

    /// Gives it back, and every other one to that thing.
    pub fn allow(&self, right: Right<'_>) -> Result<()> {
        let (kind, compared, name) = right.thing();
        // Whoever, from wherever, whatever.
        let body = Body::default().one().int8(kind).text(name).int8(compared);
        let body = body.bytes(&[0xff; 4]).int8(1).int8(1);
        let what = format!("the end of a rule against {right:?}");
        let answer = self.call(&what, DELETE_ACLS, &body)?;
        first_result(&what, answer)
    }

    /// How many bytes a second each client id may produce to each broker, or as many as it likes. A broker answers a
    /// client that has had more than its share, tells it to wait, and reads nothing more from that connection until the
    /// average of the last ten seconds is right.
    pub fn limit_produce(&self, rate: Option<f64>) -> Result<()> {
        // No name: whoever has no quota of its own.
        let body = Body::default().one().one().text("client-id").bytes(&[0xff; 2]).one();
        let body = body.text("producer_byte_rate").bytes(&rate.unwrap_or_default().to_be_bytes());
        let body = body.int8(rate.is_none().into()).int8(0);
        let answer = self.call("a quota", ALTER_CLIENT_QUOTAS, &body)?;
        first_result("a quota", answer)
    }

    /// Sets a setting of a topic, or (none) returns it to what the brokers have.
    pub fn set_topic(&self, topic: &str, name: &str, value: Option<&str>) -> Result<()> {
        let body = Body::default().one().int8(2).text(topic).one().text(name);
        let body = body.int8(value.is_none().into());
        let body = match value {
            Some(value) => body.text(value),
            None => body.bytes(&[0xff; 2]),
        };
        let what = format!("{name} of {topic}");
        let answer = self.call(&what, INCREMENTAL_ALTER_CONFIGS, &body.int8(0))?;
        first_result(&what, answer)
    }
}

/// Of an answer that is throttle time and results, each with its error first.
fn first_result(what: &str, mut answer: Answer) -> Result<()> {
    answer.skip(8);
    refused(what, answer.int16())
}

fn refused(what: &str, code: i16) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Error::Refused { what: what.into(), code }) }
}
