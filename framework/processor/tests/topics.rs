//! Topics that are late, others, or gone.

use super::*;

/// What was asked before does not count: the log may have been set up anew since.
#[tokio::test(start_paused = true)]
async fn a_topic_that_was_created_again_is_noticed_at_every_take_over() {
    let member = Member::reading(Trouble::Recreated).await;
    member.tell(ConsumerEvent::Revoked { partitions: vec![at()], lost: false, handback: Handback::new(()) });
    member.tell(ConsumerEvent::Assigned(vec![at()]));
    member.sees_another_topic().await;
    member.end().await;
}

/// A topic that was created again under the consumer has other records at the same offsets.
#[tokio::test(start_paused = true)]
async fn a_topic_that_was_created_again_stops_the_partition_before_the_next_batch() {
    let member = Member::reading(Trouble::Recreated).await;
    member.tell(record(0));
    until("handled", || member.begins() == 2).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    member.tell(record(1));
    member.sees_another_topic().await;
    member.tell(record(2));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(member.begins(), 2, "records of the other topic were handled");
    member.end().await;
}

/// A topic with fewer records than the first one had shows as an offset that is not there.
#[tokio::test]
async fn a_partition_that_cannot_be_read_on_says_that_its_topic_is_another_one() {
    let member = Member::reading(Trouble::Recreated).await;
    member.tell(ConsumerEvent::Failed(at(), Error::new(Kind::Config, "no such offset")));
    member.sees_another_topic().await;
    member.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_tell_the_id_again_stops_nothing() {
    let member = Member::reading(Trouble::NoId).await;
    for offset in 0..3 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        member.tell(record(offset));
        until("handled", || member.begins() == 2 + offset as usize).await;
    }
    assert_eq!(
        member.told.0.ids.load(Ordering::SeqCst),
        4 + 1,
        "the take-over, each batch, and the look at all topics"
    );
    assert!(member.health.is_ready());
    // For ever is another thing.
    let topic = "processor group topic topic";
    tokio::time::sleep(Duration::from_secs(10)).await;
    let state = member.health.report().remove(topic);
    assert!(matches!(state, Some(State::Recovering(text)) if text == "nobody answers"));
    let health = member.end().await;
    assert!(health.report().is_empty(), "{:?}", health.report());
}

/// The start of a new group asks for its topic's partitions.
#[tokio::test]
async fn a_take_over_that_looks_misconfigured_is_tried_again() {
    let member = Member::start(Trouble::LateTopic).await;
    member.seen(|state| matches!(state, State::Failed(_))).await;
    until("started", || member.starts() == 1).await;
    until("ready", || member.health.is_ready()).await;
    member.end().await;
}

#[tokio::test]
async fn a_topic_is_asked_for_again_before_its_records_are_refused() {
    let (late, never) = (Told::new(Trouble::LateTopic), Told::new(Trouble::NoTopic));
    late.0.topics.store(1, Ordering::SeqCst);
    assert_eq!(KnownTopics::new(Arc::new(late)).refusal(&"late".into()).await.unwrap(), None);
    let mut known = KnownTopics::new(Arc::new(never.clone()));
    for _ in 0..1_000 {
        let refusal = known.refusal(&"never".into()).await.unwrap();
        assert_eq!(refusal.as_deref(), Some("there is no such topic"));
    }
    assert_eq!(never.0.topics.load(Ordering::SeqCst), 4, "for a thousand records");
}
