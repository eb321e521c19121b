//! Three brokers as one cluster: leaders, coordinators, replicas, rules and quotas.

use std::error::Error;
use std::time::{Duration, Instant};

use tidelock_lab::{Builder, Lab, Right, proxy::request::FIND_COORDINATOR};

use crate::wire::{Wire, short, text};

type Outcome = Result<(), Box<dyn Error>>;

fn three() -> Builder {
    Lab::builder().brokers(3).postgres(false)
}

/// Which broker coordinates the transactions of this id, once there is one.
fn coordinator(lab: &Lab, id: &str) -> Result<usize, Box<dyn Error>> {
    // Asking is what makes the brokers create their topic.
    let body = [&text(id)[..], &[1]].concat();
    Wire::connect(lab.broker(0).address())?.call(FIND_COORDINATOR, 1, &body)?;
    let start = Instant::now();
    loop {
        match lab.cluster().transaction_coordinator_of(id)? {
            Some(broker) => return Ok(broker),
            None => assert!(start.elapsed() < Duration::from_secs(20), "no coordinator"),
        }
    }
}

/// Once the brokers tell of it too: until then nothing of it can be out of sync.
fn create_topic(lab: &Lab, name: &str, partitions: i32) -> Outcome {
    Wire::connect(lab.broker(0).address())?.create_topic(name, partitions, 3)?;
    let start = Instant::now();
    while lab.cluster().describe(name)?.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "no topic {name}");
    }
    Ok(lab.cluster().wait_in_sync()?)
}

#[test]
fn leaders_move_and_brokers_restart_in_turn() -> Outcome {
    let lab = three().start()?;
    let cluster = lab.cluster();
    let mut wire = Wire::connect(lab.broker(0).address())?;
    create_topic(&lab, "in", 2)?;
    let partitions = cluster.describe("in")?;
    assert_eq!(partitions.len(), 2);
    assert!(partitions.iter().all(|partition| partition.replicas.len() == 3), "{partitions:?}");
    assert!(cluster.describe("none")?.is_empty());

    for broker in 0..3 {
        cluster.move_leader("in", 1, broker)?;
        assert_eq!(cluster.leader_of("in", 1)?, Some(broker));
    }
    cluster.elect_leaders("in", 1)?;
    cluster.reassign("in", 0, &[2])?;
    cluster.wait_in_sync()?;
    let start = Instant::now();
    while cluster.describe("in")?[0].replicas != [2] && start.elapsed() < Duration::from_secs(20) {}
    let alone = cluster.describe("in")?.swap_remove(0);
    assert_eq!((alone.leader, alone.in_sync), (Some(2), vec![2]));
    assert!(cluster.reassign("in", 7, &[2]).is_err());
    assert!(cluster.move_leader("in", 7, 2).is_err());

    // The coordinator is where a client is sent.
    let coordinator = coordinator(&lab, "relay-é")?;
    Wire::connect(lab.broker(coordinator).address())?.init_producer("relay-é")?;
    let body = [&text("relay-é")[..], &[1]].concat();
    let answer = wire.call(FIND_COORDINATOR, 1, &body)?;
    // Its number stands behind the error and the error's text.
    let at = 8 + usize::try_from(short(&answer, 6))?;
    let told = i32::from_be_bytes(answer[at..at + 4].try_into()?);
    assert_eq!(coordinator + 1, usize::try_from(told)?);
    let place = cluster.coordinator_partition("__transaction_state", "relay-é")?.ok_or("no partition")?;
    let other = (coordinator + 1) % 3;
    cluster.move_leader("__transaction_state", place, other)?;
    assert_eq!(cluster.transaction_coordinator_of("relay-é")?, Some(other));
    assert_eq!(cluster.group_coordinator_of("nobody's")?, None, "no group, no topic");

    let before: Vec<_> = lab.brokers().iter().map(|broker| broker.pid()).collect();
    cluster.restart_one_by_one()?;
    assert!(before.iter().zip(lab.brokers()).all(|(pid, broker)| *pid != broker.pid()));
    let listed = lab.java_tool(
        "org.apache.kafka.tools.TopicCommand",
        ["--bootstrap-server", &lab.kafka_url(), "--list"],
    )?;
    assert!(listed.lines().any(|line| line == "in"), "{listed}");
    Ok(())
}

#[test]
fn writes_are_refused_and_slowed_while_replicas_follow() -> Outcome {
    let lab = three().authorizer(true).start()?;
    let cluster = lab.cluster();
    create_topic(&lab, "in", 1)?;
    let coordinator = coordinator(&lab, "writer")?;
    let mut wire = Wire::connect(lab.broker(coordinator).address())?;
    let owner = wire.init_producer("writer")?;
    let wait_for = |wire: &mut Wire, code: i16| -> Outcome {
        let start = Instant::now();
        loop {
            let seen = wire.add_partition("writer", &owner, "in")?;
            if seen == code {
                return Ok(());
            }
            assert!(start.elapsed() < Duration::from_secs(10), "error {seen}, not {code}");
        }
    };
    wait_for(&mut wire, 0)?;
    cluster.deny(Right::Write("in"))?;
    wait_for(&mut wire, 29)?;
    // Replication goes on. Which broker the coordinator is differs from run to run; the connection to it must stay.
    let other = lab.broker((coordinator + 1) % 3);
    other.stop()?;
    other.start()?;
    cluster.wait_in_sync()?;
    cluster.allow(Right::Write("in"))?;
    wait_for(&mut wire, 0)?;

    let url = format!("bootstrap.servers={}", lab.kafka_url());
    let produce = || -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        let size = ["--topic", "in", "--num-records", "20", "--record-size", "1000", "--throughput", "-1"];
        let settings =
            ["--producer-props", &url, "batch.size=1000", "max.in.flight.requests.per.connection=1"];
        let tool = "org.apache.kafka.tools.ProducerPerformance";
        lab.java_tool(tool, size.into_iter().chain(settings))?;
        Ok(start.elapsed())
    };
    let free = produce()?;
    cluster.limit_produce(Some(1_000.0))?;
    let slow = produce()?;
    cluster.limit_produce(None)?;
    assert!(slow > free + Duration::from_secs(3), "{free:?} and {slow:?}");
    cluster.set_topic("in", "max.message.bytes", Some("2000"))?;
    cluster.set_topic("in", "max.message.bytes", None)?;
    assert!(cluster.set_topic("in", "no.such.setting", Some("1")).is_err());
    Ok(())
}
