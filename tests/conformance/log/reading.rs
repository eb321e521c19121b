//! Reading: from where, until when, and what comes.

use tidelock::{
    error::Kind,
    log::{Assignor, Cleanup, ConsumerEvent, Record},
};

use super::{Limits, LogUnderTest, Member, publish, publish_once, record, text, topic, unique};

fn numbered(topic: &str, numbers: std::ops::Range<i32>) -> Vec<Record> {
    numbers.map(|number| record(topic, 0, number.to_string())).collect()
}

pub(super) async fn a_start_delivers_exactly_from_its_offset(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    publish_once(&*log, numbered(&topic, 0..50)).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Cooperative).await;
    let held = member.assigned().await;
    let [assignment] = held.as_slice() else { panic!("{held:?}") };
    assert_eq!((&*assignment.topic, assignment.partition), (topic.as_str(), 0));
    for offset in [20, 0, 49] {
        member.consumer.start(assignment, offset).await.expect("start");
        let records =
            member.records(assignment, |all| all.last().is_some_and(|record| text(record) == "49")).await;
        let expected: Vec<String> = (offset..50).map(|number| number.to_string()).collect();
        assert_eq!(records.iter().map(text).collect::<Vec<_>>(), expected);
    }
    publish_once(&*log, numbered(&topic, 50..51)).await;
    let records = member.records(assignment, |all| !all.is_empty()).await;
    assert_eq!((records[0].offset, text(&records[0])), (51, "50".to_owned()), "the marker takes offset 50");
    member.close().await;
}

pub(super) async fn each_start_has_a_flow_of_its_own(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    publish_once(&*log, numbered(&topic, 0..3)).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Cooperative).await;
    let assignment = member.assigned().await.remove(0);
    let mut last = 0;
    for _ in 0..5 {
        let started = member.consumer.start(&assignment, 0).await.expect("start");
        assert!(started > last, "{started} after {last}");
        last = started;
        let mut next = 0;
        while next < 3 {
            let ConsumerEvent::Records { flow, records, .. } = member.event().await else {
                panic!("records")
            };
            // Those of earlier flows may still be on their way.
            if flow == started {
                assert_eq!(records[0].offset, next);
                next += records.len() as i64;
            }
        }
        member.consumer.start(&assignment, 1).await.expect("start, read by nobody");
        last += 1;
    }
    member.close().await;
}

pub(super) async fn a_start_at_the_end_waits_for_what_comes(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    publish_once(&*log, numbered(&topic, 0..3)).await;
    let end = log.bounds(&topic, 0).await.expect("bounds").end;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Cooperative).await;
    let assignment = member.assigned().await.remove(0);
    member.consumer.start(&assignment, end).await.expect("start");
    member.quiet(1).await;
    publish_once(&*log, numbered(&topic, 3..4)).await;
    let records = member.records(&assignment, |all| !all.is_empty()).await;
    assert_eq!((records.len(), text(&records[0])), (1, "3".to_owned()));
    member.close().await;
}

pub(super) async fn nothing_flows_before_a_start(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    publish_once(&*log, vec![record(&topic, 0, "0"), record(&topic, 1, "1")]).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let held = member.gained(2).await;
    member.quiet(2).await;
    let one = held.iter().find(|each| each.partition == 1).expect("held");
    member.consumer.start(one, 0).await.expect("start");
    let records = member.records(one, |all| !all.is_empty()).await;
    assert_eq!(text(&records[0]), "1");
    member.quiet(1).await;
    member.close().await;
}

pub(super) async fn what_comes_during_a_pause_comes_after_it(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    publish_once(&*log, numbered(&topic, 0..5)).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Cooperative).await;
    let assignment = member.assigned().await.remove(0);
    member.consumer.start(&assignment, 0).await.expect("start");
    member.records(&assignment, |all| all.len() == 5).await;
    member.consumer.pause(&assignment).expect("pause");
    publish_once(&*log, numbered(&topic, 5..15)).await;
    member.quiet(1).await;
    member.consumer.resume(&assignment).expect("resume");
    let records = member.records(&assignment, |all| all.len() >= 10).await;
    let expected: Vec<String> = (5..15).map(|number| number.to_string()).collect();
    assert_eq!(records.iter().map(text).collect::<Vec<_>>(), expected);
    member.close().await;
}

pub(super) async fn pauses_and_resumes_neither_lose_nor_repeat(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    for round in 0..5 {
        publish(&*log, &mut producer, numbered(&topic, round * 4_000..(round + 1) * 4_000)).await;
    }
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let assignment = member.assigned().await.remove(0);
    member.consumer.start(&assignment, 0).await.expect("start");
    let (mut next, mut chunks) = (0, 0);
    while next < 20_000 {
        let ConsumerEvent::Records { records, .. } = member.event().await else { panic!("expected records") };
        for record in records {
            assert_eq!(text(&record), next.to_string());
            next += 1;
        }
        chunks += 1;
        if chunks % 3 == 0 {
            member.consumer.pause(&assignment).expect("pause");
            tokio::task::yield_now().await;
            member.consumer.resume(&assignment).expect("resume");
        }
    }
    member.close().await;
}

pub(super) async fn an_offset_outside_of_the_partition_fails_it(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    let mut member = Member::join(&*log, &unique("group"), &topic, Assignor::Eager).await;
    let mut held = member.gained(2).await;
    held.sort();
    member.consumer.start(&held[1], 1_000).await.expect("start only seeks");
    match member.event().await {
        ConsumerEvent::Failed(failed, error) => {
            assert_eq!((failed, error.kind()), (held[1].clone(), Kind::Identity), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(member.consumer.holds(&held[1]), "the partition is still ours, to start elsewhere");
    publish_once(&*log, vec![record(&topic, 1, "later")]).await;
    // Only a new assignment starts it again, and asking for it brings one.
    let refused = member.consumer.start(&held[1], 0).await;
    assert_eq!(refused.expect_err("failed before").kind(), Kind::Unassigned);
    let (revoked, lost, handback) = member.revoked().await;
    assert_eq!((revoked.len(), lost), (2, false));
    drop(handback);
    let mut again = member.gained(2).await;
    again.sort();
    member.consumer.start(&again[1], 0).await.expect("start");
    let records = member.records(&again[1], |all| !all.is_empty()).await;
    assert_eq!(text(&records[0]), "later");
    member.close().await;
}
