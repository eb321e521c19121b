//! The pure core: what it answers, and that it answers the same again.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use super::{
    config::EmbeddedConfig,
    groups::{Beat, Join, MemberId},
    state::{Now, Place, State},
};
use crate::{
    log::{Assignor, Cleanup, PartitionOffset, Record, TopicSpec},
    message::Headers,
};

mod disk;
mod groups;
mod partitions;
mod repeatable;
mod transactions;

fn at(seconds: u64) -> Now {
    Now { at: Duration::from_secs(seconds), ms: seconds as i64 * 1_000 }
}

fn state(durable: bool) -> State {
    let mut state = State::new(EmbeddedConfig::default(), durable);
    let spec = |name: &str, partitions, cleanup| TopicSpec {
        name: name.to_owned(),
        partitions: Some(partitions),
        cleanup,
    };
    state.topic(&spec("plain", 2, Cleanup::Any), at(0)).expect("topic");
    state.topic(&spec("kept", 1, Cleanup::Compact), at(0)).expect("topic");
    state
}

fn record(topic: &str, partition: i32, payload: &str) -> Record {
    Record {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(Bytes::from_static(b"k")),
        payload: Some(Bytes::copy_from_slice(payload.as_bytes())),
        headers: Headers::new(),
        time_ms: None,
    }
}

fn offset(topic: &str, partition: i32, offset: i64) -> PartitionOffset {
    PartitionOffset { topic: topic.into(), partition, offset }
}

fn place(topic: &str, partition: i32) -> Place {
    (topic.into(), partition)
}

fn join(group: &str, member: Option<MemberId>, assignor: Assignor, owned: &[Place]) -> Join {
    Join {
        group: group.to_owned(),
        member,
        instance: None,
        topics: BTreeSet::from(["plain".to_owned()]),
        assignor,
        owned: owned.iter().cloned().collect(),
    }
}

fn joined(state: &mut State, join: Join, now: Now) -> MemberId {
    state.groups.join(&state.topics, join, now).expect("joined")
}

fn beat(state: &mut State, member: MemberId, now: Now) -> Beat {
    state.tick(now);
    state.groups.beat("group", member, None, now)
}

fn assigned(beat: Beat) -> (i32, Vec<i32>) {
    match beat {
        Beat::Assigned(generation, places) => (generation, places.iter().map(|place| place.1).collect()),
        other => panic!("expected an assignment, got {other:?}"),
    }
}
