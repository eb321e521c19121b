//! Each fault, and what the client sees of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tidelock::{
    error::Kind,
    log::{
        Assignor, Cleanup, Commit, Log, Rotation,
        embedded::{Call, Embedded, Fault, Operation},
    },
};

use super::{Member, committed, hangs, next_of, publish, record, seen, sent, topic};

/// A log in which the next call of that kind goes wrong.
#[derive(Clone, Default)]
struct Next(Arc<Mutex<Option<(Operation, Fault)>>>);

impl Next {
    fn log(&self) -> Embedded {
        let next = self.clone();
        Embedded::in_memory().with_faults(move |call: &Call<'_>| {
            let mut planned = next.0.lock().unwrap();
            match *planned {
                Some((operation, fault)) if operation == call.operation => {
                    *planned = None;
                    fault
                }
                _ => Fault::None,
            }
        })
    }

    fn is(&self, operation: Operation, fault: Fault) {
        *self.0.lock().unwrap() = Some((operation, fault));
    }
}

/// What a commit of one record under that fault answers, why its producer must be rotated, and what is seen after.
async fn commit_under(fault: Fault) -> (Commit, Option<Rotation>, Vec<String>) {
    let next = Next::default();
    let log = next.log();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    sent(&mut *producer, vec![record(&topic, 0, "first")]).await;
    next.is(Operation::Commit, fault);
    let outcome = producer.commit().await;
    let rotation = producer.must_rotate();
    producer.abort().await;
    let mut producer = log.producer("id").await.expect("rotation");
    publish(&mut *producer, vec![record(&topic, 0, "second")]).await;
    (outcome, rotation, seen(&log, &topic, 0, "second").await)
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_unknown_whether_its_request_or_its_answer_was_lost() {
    let (outcome, rotation, seen) = commit_under(Fault::LoseRequest).await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert_eq!((rotation, seen), (Some(Rotation::Unknown), vec!["second".to_owned()]));
    let (outcome, rotation, seen) = commit_under(Fault::LoseAnswer).await;
    assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
    assert_eq!((rotation, seen), (Some(Rotation::Unknown), vec!["first".to_owned(), "second".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_fenced_or_took_too_long_is_unknown() {
    for fault in [Fault::Fence, Fault::AbortTransaction, Fault::Delay(Duration::from_secs(20))] {
        let (outcome, rotation, seen) = commit_under(fault).await;
        assert!(matches!(outcome, Commit::Unknown(_)), "{outcome:?}");
        assert_eq!((rotation, seen), (Some(Rotation::Fenced), vec!["second".to_owned()]), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_commit_stands_but_its_producer_is_rotated() {
    let (outcome, rotation, seen) = commit_under(Fault::Delay(Duration::from_millis(300))).await;
    committed(outcome);
    assert_eq!((rotation, seen.len()), (Some(Rotation::SlowCommit), 2));
    let (outcome, rotation, _) = commit_under(Fault::Delay(Duration::from_millis(100))).await;
    committed(outcome);
    assert_eq!(rotation, None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_send_is_told_by_its_acknowledgement() {
    for (fault, kind, rotation) in [
        (Fault::LoseRequest, Kind::Timeout, None),
        (Fault::LoseAnswer, Kind::Timeout, None),
        (Fault::Fence, Kind::Fenced, Some(Rotation::Fenced)),
    ] {
        let next = Next::default();
        let log = next.log();
        let topic = topic(&log, "t", 1, Cleanup::Any).await;
        let mut producer = log.producer("id").await.expect("producer");
        producer.begin().await.expect("begin");
        next.is(Operation::Send, fault);
        producer.send(vec![record(&topic, 0, "lost")]).await.expect("the answer comes later");
        let error = producer.acknowledged().await.expect_err("not acknowledged");
        assert_eq!((error.kind(), producer.must_rotate()), (kind, rotation), "{fault:?}");
        let outcome = producer.commit().await;
        assert!(!matches!(outcome, Commit::Committed), "{outcome:?}");
        producer.abort().await;
        assert!(producer.must_rotate().is_some());
        let mut producer = log.producer("id").await.expect("rotation");
        publish(&mut *producer, vec![record(&topic, 0, "sent")]).await;
        assert_eq!(seen(&log, &topic, 0, "sent").await, ["sent"]);
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_that_failed_leave_only_an_abort() {
    for fault in [Fault::LoseRequest, Fault::LoseAnswer, Fault::Fence, Fault::AbortTransaction] {
        let next = Next::default();
        let log = next.log();
        let topic = topic(&log, "t", 1, Cleanup::Any).await;
        let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
        let held = member.assigned().await;
        let mut producer = log.producer("id").await.expect("producer");
        sent(&mut *producer, vec![record(&topic, 0, "one")]).await;
        let proof = member.consumer.metadata(&held).expect("member");
        next.is(Operation::SendOffsets, fault);
        producer.send_offsets(&next_of(&held[0], 1), proof).await.expect_err("no answer");
        assert_eq!(producer.must_rotate(), Some(Rotation::OffsetsFailed), "{fault:?}");
        assert!(matches!(producer.commit().await, Commit::Aborted(_)));
        producer.abort().await;
        let offset = member.consumer.committed(&held[0]).await.expect("decided");
        assert_eq!(offset, None, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_offsets_are_rotated_after_their_commit() {
    let next = Next::default();
    let log = next.log();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    let mut producer = log.producer("id").await.expect("producer");
    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    next.is(Operation::SendOffsets, Fault::Delay(Duration::from_millis(250)));
    producer.send_offsets(&next_of(&held[0], 1), proof).await.expect("slow");
    committed(producer.commit().await);
    assert_eq!(producer.must_rotate(), Some(Rotation::SlowOffsets));
    assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_process_dies_before_or_after_a_call_took_effect() {
    for (fault, expected) in [(Fault::Kill, vec!["next"]), (Fault::KillAfter, vec!["dead", "next"])] {
        let next = Next::default();
        let log = next.log();
        let topic = topic(&log, "t", 1, Cleanup::Any).await;
        let client = log.client("dies");
        let mut producer = client.producer("id").await.expect("producer");
        sent(&mut *producer, vec![record(&topic, 0, "dead")]).await;
        next.is(Operation::Commit, fault);
        // Short of the transaction's time-out.
        let answer = tokio::time::timeout(Duration::from_secs(5), producer.commit()).await;
        assert!(answer.is_err() && client.is_killed(), "{answer:?}");
        let mut producer = log.producer("id").await.expect("successor");
        publish(&mut *producer, vec![record(&topic, 0, "next")]).await;
        assert_eq!(seen(&log, &topic, 0, "next").await, expected, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn questions_time_out() {
    let next = Next::default();
    let log = next.log();
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    for fault in [Fault::LoseRequest, Fault::LoseAnswer] {
        next.is(Operation::LastRecord, fault);
        assert_eq!(log.last_record(&topic, 0).await.expect_err("lost").kind(), Kind::Timeout);
        next.is(Operation::Bounds, fault);
        assert_eq!(log.bounds(&topic, 0).await.expect_err("lost").kind(), Kind::Timeout);
        next.is(Operation::Init, fault);
        assert_eq!(log.producer("id").await.err().expect("lost").kind(), Kind::Timeout);
        next.is(Operation::Committed, fault);
        assert_eq!(member.consumer.committed(&held[0]).await.expect_err("lost").kind(), Kind::Timeout);
        next.is(Operation::Start, fault);
        assert_eq!(member.consumer.start(&held[0], 0).await.expect_err("lost").kind(), Kind::Timeout);
        next.is(Operation::Metadata, fault);
        assert_eq!(member.consumer.metadata(&held).expect_err("lost").kind(), Kind::Unassigned);
    }
    next.is(Operation::Metadata, Fault::Kill);
    assert_eq!(member.consumer.metadata(&held).expect_err("dead").kind(), Kind::Unassigned);
    hangs(log.check()).await;
}

#[tokio::test(start_paused = true)]
async fn faults_know_who_calls_and_what_for() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = Embedded::in_memory().with_faults({
        let calls = Arc::clone(&calls);
        move |call: &Call<'_>| {
            let Call { client, operation, about } = *call;
            calls.lock().unwrap().push(format!("{client} {operation:?} {about}"));
            Fault::None
        }
    });
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.client("one").producer("id").await.expect("producer");
    publish(&mut *producer, vec![record(&topic, 0, "x")]).await;
    let expected = [
        "main Topic t",
        "one Init id",
        "one Begin id",
        "one Send id",
        "one Acknowledged id",
        "one Commit id",
    ];
    assert_eq!(*calls.lock().unwrap(), expected);
}
