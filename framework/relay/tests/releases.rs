//! Releases from the quarantine.

use super::*;

/// Its messages do not wait for it: there is nothing to write to, and nobody may change that.
#[tokio::test(start_paused = true)]
async fn a_release_asks_for_topics_that_could_not_be_created() {
    let world = World {
        troubled: [("denied", Kind::Denied), ("absent", Kind::Config)].into(),
        gone: ["denied", "absent"].into(),
        ..World::default()
    };
    let stage = Stage::start(world, &["denied", "open", "absent"]).await;
    stage.published("open", 1).await;
    let entries = stage.quarantined(2).await;
    stage.ready().await;
    // One of them can be created by now.
    stage.world().troubled.remove("absent");
    for entry in &entries {
        stage.database.release(entry.id).await.unwrap();
    }
    stage.published("absent", 1).await;
    let left = stage.quarantined(1).await;
    assert_eq!((&*left[0].topic, left[0].release_asked), ("denied", false));
    assert_eq!(left[0].reason, "something is wrong with denied");
    assert_eq!(stage.state(), Some(State::Ready));

    stage.world().troubled.clear();
    stage.database.release(of(&left, "denied")).await.unwrap();
    stage.published("denied", 1).await;
    stage.quarantined(0).await;
    stage.end().await;
}

/// It may not be looked at, or has no leader. Waited for, it would hold up the releases of all other topics.
#[tokio::test(start_paused = true)]
async fn a_release_to_a_topic_that_cannot_be_looked_at_is_refused_again() {
    for kind in [Kind::Denied, Kind::Unavailable, Kind::Timeout] {
        let world = World {
            troubled: [("shut", Kind::Config), ("absent", Kind::Config)].into(),
            gone: ["shut", "absent"].into(),
            ..World::default()
        };
        let stage = Stage::start(world, &["shut", "absent"]).await;
        let entries = stage.quarantined(2).await;
        stage.world().troubled = [("shut", kind)].into();
        stage.world().gone.clear();
        for entry in &entries {
            stage.database.release(entry.id).await.unwrap();
        }
        stage.published("absent", 1).await;
        let left = stage.quarantined(1).await;
        assert_eq!((&*left[0].topic, left[0].release_asked), ("shut", false));
        stage.ready().await;
        stage.end().await;
    }
}

/// One message of a topic that was not there, whose release waits for its leader.
async fn releasing_without_leader(before: impl FnOnce(&mut World)) -> Stage {
    let world =
        World { troubled: [("orders", Kind::Config)].into(), gone: ["orders"].into(), ..World::default() };
    let stage = Stage::start(world, &["orders"]).await;
    let entries = stage.quarantined(1).await;
    stage.world().troubled = [("orders", Kind::Unavailable)].into();
    before(&mut stage.world());
    stage.database.release(of(&entries, "orders")).await.unwrap();
    stage.recovering("something is wrong with orders").await;
    stage
}

/// It has one again after some seconds.
#[tokio::test(start_paused = true)]
async fn a_release_waits_for_a_leader_for_a_while() {
    let stage = releasing_without_leader(|world| world.gone.clear()).await;
    stage.world().troubled.clear();
    stage.published("orders", 1).await;
    stage.end().await;
}

/// It comes before a release every time: each session has one transaction.
#[tokio::test(start_paused = true)]
async fn what_is_published_with_a_new_producer_each_time_puts_no_release_off() {
    let stage = releasing().await;
    stage.world().late = None;
    stage.world().rotates = true;
    for _ in 0..100 {
        stage.enqueue("open").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage.published("orders", 1).await;
    stage.ready().await;
    stage.end().await;
}

/// While the log is away, what is asked for stays asked for.
#[tokio::test(start_paused = true)]
async fn a_release_waits_for_a_log_that_is_away() {
    let stage = releasing_without_leader(|_| {}).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(stage.quarantined(1).await[0].release_asked);
    stage.world().troubled.clear();
    stage.world().gone.clear();
    stage.published("orders", 1).await;
    stage.quarantined(0).await;
    stage.end().await;
}

/// One message that waits for its release, which fails.
async fn releasing() -> Stage {
    let stage = Stage::start(World { refused: Some("orders"), ..World::default() }, &["orders"]).await;
    let entries = stage.quarantined(1).await;
    stage.ready().await;
    stage.world().refused = None;
    stage.world().late = Some("orders");
    stage.database.release(of(&entries, "orders")).await.unwrap();
    stage.recovering("in sync").await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_releases_fail_is_not_ready() {
    let stage = releasing().await;
    stage.never_ready().await;
    // Others go on, which says nothing of it.
    for count in 1..=200 {
        stage.enqueue("open").await;
        stage.published("open", count).await;
        assert_ne!(stage.state(), Some(State::Ready));
    }
    stage.world().late = None;
    stage.published("orders", 1).await;
    stage.ready().await;
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_refused_leaves_nothing_to_publish() {
    let stage = releasing().await;
    stage.world().troubled.insert("orders", Kind::Config);
    stage.world().gone.insert("orders");
    stage.ready().await;
    assert!(!stage.quarantined(1).await[0].release_asked);
    stage.end().await;
}
