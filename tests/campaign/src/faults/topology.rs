//! Class 6: leaders and coordinators moved, replicas taken away and given back, topics deleted and created again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use serde_json::json;
use tidelock_campaign::{Result, tables};
use tidelock_lab::Partition;

use super::{
    side::{self, Side},
    succession::Stage,
};
use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::World,
};

/// Clients learn of a new leader from the old one's refusal; a coordinator reads its log first.
const MOVED_WITHIN: Duration = Duration::from_secs(15);
/// Records of a topic's first life, and of its second where it is to pass the offset of the first.
const RECORDS: u64 = 200;
const MORE_RECORDS: u64 = 1_000;
/// How long a subject may take until it says that its topic is gone: the group's metadata, ten seconds between two
/// questions for the topic's id, and a machine that has other work.
const SAID_WITHIN: Duration = Duration::from_secs(60);
/// For how long what comes of the new topic from the old offset on may be handled: as long as between two questions for
/// the topic's id, and what one batch takes.
const NOT_ASKED_YET: Duration = Duration::from_secs(15);
/// For how long after its word what was under way beside it may still be handled.
const HANDLED_BESIDE: Duration = Duration::from_secs(1);
/// How long a relay may take until it says that its positions are gone: records without acknowledgement time out first.
const POSITIONS_MISSED: Duration = Duration::from_secs(20);
/// What must hold for a topic that is not the one that the group began with.
const NEVER_SILENT: &str = "the subject says in its health that the topic is another one or gone, and has handled nothing \
     of the new one but for what stood at its offset or behind it in the first seconds; the rest as ever";

pub(super) fn faults() -> Vec<Fault> {
    let mut faults = vec![
        moved("data-leader-moved", "a partition of input or output is led by another broker", |all, rng| {
            one_of(all, rng, is_data)
        }),
        moved(
            "data-leaders-moved",
            "every partition of input and output is led by another broker",
            |all, _| every(all, is_data),
        ),
        moved(
            "progress-leaders-moved",
            "the partitions of the relay's positions are led by another broker",
            |all, _| every(all, is_progress),
        ),
        moved("transaction-coordinator-moved", "a fifth of all transactions gets another coordinator", {
            |all, rng| one_of(all, rng, |name| name == TRANSACTIONS)
        }),
        moved("transaction-coordinators-moved", "all transactions get another coordinator", |all, _| {
            every(all, |name| name == TRANSACTIONS)
        }),
        moved("group-coordinators-moved", "all groups get another coordinator", |all, _| {
            every(all, |name| name == GROUPS)
        }),
        reassigned(
            "data-replicas-reassigned",
            "two partitions of input and output lose their leader's replica",
            is_data,
        ),
        reassigned(
            "coordinator-replicas-reassigned",
            "two partitions of Kafka's own lose their leader's replica",
            |name| name == TRANSACTIONS || name == GROUPS,
        ),
    ];
    for (name, doc, life) in [
        ("topic-deleted", "a topic is deleted while it is read", Life::None),
        ("topic-recreated", "a topic is deleted while it is read and created again, with fewer records", {
            Life::Shorter
        }),
        (
            "topic-recreated-longer",
            "a topic is deleted while it is read and created again, with more records",
            { Life::Longer },
        ),
        (
            "topic-recreated-unseen",
            "a topic is deleted and created again while nobody is there",
            Life::Unseen,
        ),
    ] {
        faults.push(Fault {
            class: Class::Topology,
            name: name.into(),
            doc: doc.into(),
            must_hold: NEVER_SILENT,
            within: None,
            lasts_ms: 0..=5_000,
            touches: &[Part::Side],
            inject: Box::new(move |world, _| another_life(world, life)),
        });
    }
    faults.push(Fault {
        class: Class::Topology,
        name: "positions-deleted".into(),
        doc: "beside the run: the topic of a relay's positions is deleted while messages flow, and later the relay is killed"
            .into(),
        must_hold: "the relay says that its positions are gone, and publishes nothing more, or it goes on; nothing is published \
                    twice or out of order",
        within: Some(Duration::from_secs(15)),
        lasts_ms: 0..=500,
        touches: &[Part::Alone],
        inject: Box::new(|world, _| positions_deleted(world)),
    });
    faults.push(Fault {
        class: Class::Topology,
        name: "topics-deleted-under-relay".into(),
        doc: "beside the run: both topics of a relay and a processor are deleted, messages are written, and the topics are created \
              again, by the relay or an operator, who releases what was refused and has the group begin anew"
            .into(),
        must_hold: "what cannot be published waits, the processor says that the topic is another one; after the operator has done \
                    what both say, every message written since is published and handled once",
        within: Some(Duration::from_secs(15)),
        lasts_ms: 0..=500,
        touches: &[Part::Alone],
        inject: Box::new(|world, _| deleted_under_relay(world)),
    });
    faults
}

const TRANSACTIONS: &str = "__transaction_state";
const GROUPS: &str = "__consumer_offsets";

fn is_data(topic: &str) -> bool {
    topic == tables::INPUT || topic == tables::OUTPUT
}

fn is_progress(topic: &str) -> bool {
    topic.starts_with("tidelock")
}

fn every(mut all: Vec<Partition>, wanted: impl Fn(&str) -> bool) -> Vec<Partition> {
    all.retain(|partition| wanted(&partition.topic));
    all
}

fn one_of(all: Vec<Partition>, rng: &mut Rng, wanted: impl Fn(&str) -> bool) -> Vec<Partition> {
    let mut some = every(all, wanted);
    rng.shuffle(&mut some);
    some.truncate(1);
    some
}

type Choose = fn(Vec<Partition>, &mut Rng) -> Vec<Partition>;

fn moves(name: &'static str, doc: &str, inject: crate::fault::Inject) -> Fault {
    Fault {
        class: Class::Topology,
        name: name.into(),
        doc: doc.into(),
        must_hold: EXACTLY_ONCE,
        within: Some(MOVED_WITHIN),
        lasts_ms: 500..=8_000,
        touches: &[Part::Brokers],
        inject,
    }
}

/// Moves leaders about, and elects the preferred ones when healed.
fn moved(name: &'static str, what: &str, choose: Choose) -> Fault {
    let doc = format!("{what}, once or several times; the preferred leader is elected when healed");
    moves(
        name,
        &doc,
        Box::new(move |world, rng| {
            let cluster = world.lab.cluster();
            cluster.wait_in_sync()?;
            let chosen = choose(cluster.partitions()?, rng);
            if chosen.is_empty() {
                return Err("there is no such partition".into());
            }
            let before = chosen.clone();
            world.owe(name, move |world| restore(world, &before));
            let rounds = rng.u32(1..=3);
            for _ in 0..rounds {
                for partition in &chosen {
                    let led_by = world.lab.cluster().leader_of(&partition.topic, partition.index)?;
                    let mut others = partition.replicas.clone();
                    others.retain(|broker| Some(*broker) != led_by);
                    let other = *rng.choice(&others).ok_or("a partition with one replica")?;
                    world.lab.cluster().move_leader(&partition.topic, partition.index, other)?;
                }
                world.sleep(Duration::from_millis(rng.u64(0..1500)));
            }
            let what = format!("{rounds} times {}", names(&chosen));
            Ok(Ongoing::new(what, move |world| world.pay(name)))
        }),
    )
}

/// Takes the leader's replica of two partitions away, and gives it back when healed.
fn reassigned(name: &'static str, what: &str, wanted: fn(&str) -> bool) -> Fault {
    let doc = format!("{what}, which they copy again when healed");
    moves(
        name,
        &doc,
        Box::new(move |world, rng| {
            let cluster = world.lab.cluster();
            cluster.wait_in_sync()?;
            let mut chosen = every(cluster.partitions()?, wanted);
            rng.shuffle(&mut chosen);
            chosen.truncate(2);
            let before = chosen.clone();
            world.owe(name, move |world| restore(world, &before));
            for partition in &chosen {
                let mut rest = partition.replicas.clone();
                rest.retain(|broker| Some(*broker) != partition.leader);
                cluster.reassign(&partition.topic, partition.index, &rest)?;
            }
            Ok(Ongoing::new(names(&chosen), move |world| world.pay(name)))
        }),
    )
}

fn names(partitions: &[Partition]) -> String {
    let mut names: Vec<_> = partitions.iter().map(|each| format!("{}[{}]", each.topic, each.index)).collect();
    if names.len() > 3 {
        let rest = names.len() - 2;
        names.truncate(2);
        names.push(format!("{rest} more"));
    }
    names.join(", ")
}

/// The replicas and leaders that these partitions had.
fn restore(world: &World, partitions: &[Partition]) -> Result<()> {
    let cluster = world.lab.cluster();
    for Partition { topic, index, replicas, .. } in partitions {
        cluster.reassign(topic, *index, replicas)?;
    }
    cluster.wait_in_sync()?;
    for Partition { topic, index, .. } in partitions {
        cluster.elect_leaders(topic, *index)?;
    }
    Ok(())
}

fn positions_deleted(world: &World) -> Result<Ongoing> {
    let stage = Stage::set(world, "positions-deleted")?;
    let group = stage.scene.group.clone();
    stage.flow(world)?;
    stage.writes(world)?;
    world.sleep(Duration::from_secs(1));
    world.db.block_on(world.cluster.remove(&format!("tidelock.{group}.progress")))?;
    world.sleep(POSITIONS_MISSED);
    world.crew.dismiss_at_once(&group);
    stage.works(world, &group, None)?;
    world.sleep(POSITIONS_MISSED);
    stage.stops_writing(world);
    let said = stage.said(world);
    let stopped = ["the relay stopped", "stopped component"].iter().any(|what| said.contains(what));
    if !stopped {
        stage.flow(world)?;
    }
    stage.judge(world, stopped)?;
    let what = format!("{group}, which {}", if stopped { "stopped" } else { "went on" });
    Ok(Ongoing::new(what, move |world| stage.strike(world)))
}

fn deleted_under_relay(world: &World) -> Result<Ongoing> {
    const FAULT: &str = "topics-deleted-under-relay";
    let stage = Stage::set(world, FAULT)?;
    let group = stage.scene.group.clone();
    stage.flow(world)?;
    let topics = [stage.scene.input.as_str(), &stage.scene.output];
    topics.iter().try_for_each(|topic| world.db.block_on(world.cluster.delete(topic)))?;
    // Only what is written from now on is judged: the rest went with the topics.
    stage.db.run("TRUNCATE campaign.ledger, campaign.effect")?;
    stage.writes(world)?;
    world.sleep(Duration::from_secs(3));
    stage.stops_writing(world);
    let written = stage.db.ledger()?;
    for topic in topics {
        if !world.cluster.exists(topic)? {
            // The relay may be faster.
            world.db.block_on(world.cluster.create_topics(&[topic])).ok();
        }
    }
    let left = "SELECT (SELECT count(*) FROM tidelock.outbox) + (SELECT count(*) FROM tidelock.quarantine)";
    world.demand(FAULT, "that all of it was published", SAID_WITHIN, || {
        let asked = stage.db.run("UPDATE tidelock.quarantine SET release_asked = true WHERE state = 'held'");
        asked.is_ok() && stage.db.number(left).is_ok_and(|left| left == 0)
    });
    world.demand(FAULT, "that the processor says that the topic is another one", SAID_WITHIN, || {
        stage.said(world).contains("deleted and created again")
    });
    if stage.db.number("SELECT count(*) FROM campaign.effect")? > 0 {
        world.crew.find(FAULT, "something of the new topic was handled before the group began anew");
    }
    world.crew.dismiss_at_once(&group);
    stage.db.run("DELETE FROM tidelock.fence")?;
    stage.db.run("DELETE FROM tidelock.consumer_topic")?;
    stage.works(world, &group, None)?;
    stage.flow(world)?;
    stage.judge(world, false)?;
    Ok(Ongoing::new(format!("{group} with {written} messages"), move |world| stage.strike(world)))
}

/// What comes after a topic was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Nothing.
    None,
    /// A topic that ends before the offset that the group has come to.
    Shorter,
    /// One that goes on beyond it.
    Longer,
    /// The same, while nobody reads.
    Unseen,
}

fn another_life(world: &World, life: Life) -> Result<Ongoing> {
    let mut side = Side::new(world, "deleted");
    side.create(world, 2)?;
    let group = side.group.clone();
    side.hire(world, &group, 1)?;
    world.cluster.write(&side.topic, 1, 0..RECORDS)?;
    let handled = side.wait_handled(world, &group, 1, RECORDS as i64)?;
    if handled.records < RECORDS as i64 {
        return Err(format!("of {RECORDS} records {handled:?} before anything was done").into());
    }
    // The position in the log follows the database's.
    world.sleep(Duration::from_secs(1));
    let fences = side::fences(world, &side.group, &side.topic)?;
    if life == Life::Unseen {
        side.kill(world);
    }
    let deleted = SystemTime::now();
    side.delete(world)?;
    let created = SystemTime::now();
    let records = match life {
        Life::None => 0,
        Life::Shorter => RECORDS / 4,
        Life::Longer | Life::Unseen => MORE_RECORDS,
    };
    if records > 0 {
        side.create(world, 2)?;
        world.cluster.write(&side.topic, 2, 0..records)?;
    }
    if life == Life::Unseen {
        side.hire(world, &group, 1)?;
    }
    let topic = side.topic.clone();
    Ok(Ongoing::new(topic, move |world| {
        let deadline = Instant::now() + SAID_WITHIN;
        // Who heard of it before the next record was asked for holds nothing any more, and waits for the topic.
        let waits = || side.missing(world, deleted).filter(|_| life == Life::None);
        let says = || side.failed(world, deleted).or_else(waits);
        while says().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
        }
        // When it said so, which may be long before it was asked.
        let (at, said) = says().map_or((SystemTime::now(), None), |said| (said.at, Some(said.text)));
        let after = at.duration_since(created).unwrap_or_default();
        let then = side.handled(world, &group, 2)?;
        std::thread::sleep(Duration::from_secs(3));
        let (first, second) = (side.handled(world, &group, 1)?, side.handled(world, &group, 2)?);
        let below: Vec<String> = fences
            .iter()
            .map(|(partition, offset)| format!("partition = {partition} AND \"offset\" < {offset}"))
            .collect();
        let skipped = world.db.number(format!(
            "SELECT count(*) FROM campaign.side WHERE topic = '{}' AND life = 2 AND ({})",
            side.topic,
            below.join(" OR ")
        ))?;
        // Its clock may have been moved; what is far off says nothing.
        let since = (at + HANDLED_BESIDE).duration_since(UNIX_EPOCH)?.as_secs_f64();
        let later = world.db.number(format!(
            "SELECT count(*) FROM campaign.side WHERE topic = '{}' AND life = 2 \
             AND at > to_timestamp({since}) AND at < to_timestamp({since} + 600)",
            side.topic
        ))?;
        world.history.note(
            "side",
            json!({
                "topic": side.topic, "life": format!("{life:?}"), "said": said, "after_ms": after.as_millis() as u64,
                "first": format!("{first:?}"), "second": format!("{second:?}"), "below the old offset": skipped,
            }),
        )?;
        let mut wrong = Vec::new();
        let expected = i64::try_from(RECORDS)?;
        if said.is_none() {
            wrong.push(format!("says nothing within {SAID_WITHIN:?}"));
        }
        if (first.rows, first.records) != (expected, expected) {
            wrong.push(format!("has of {expected} records of the first topic {first:?}"));
        }
        if second.rows != second.records || skipped > 0 {
            wrong.push(format!("has of the second topic {second:?}, {skipped} from before its offset"));
        }
        if said.is_some() && (second != then || later > 0) {
            wrong.push(format!("went on after it said so: {then:?}, then {second:?}, {later} later than it said"));
        }
        if second.rows > 0 && after > NOT_ASKED_YET {
            wrong.push(format!("went on for {after:?} with another topic, {second:?}"));
        }
        for wrong in wrong {
            world.crew.find(&format!("the reader of {}, {life:?},", side.topic), &wrong);
        }
        side.end(world)
    })
    .after_others())
}
