//! Processes that were away longer than every time-out, and come back at the worst moment.

use std::time::Duration;

use nix::sys::signal::Signal;
use tidelock::database::Database as _;

use super::{child::Child, scene::Scene};

/// Longer than the children's session and transaction time-outs, and than the broker's sweep.
const LONG: Duration = Duration::from_secs(9);
/// Long enough for a zombie to do what it was about to do.
const AFTERMATH: Duration = Duration::from_secs(3);

/// Stopped as a whole at the point where it stands, for longer than every time-out; then everything at once.
async fn sleeps(zombie: &Child) {
    zombie.stands();
    zombie.signal(Signal::SIGSTOP);
    tokio::time::sleep(LONG).await;
}

fn wakes(zombie: &Child) {
    zombie.go_on();
    zombie.signal(Signal::SIGCONT);
}

/// A processor sleeps at `point`; another one takes its partitions over meanwhile.
async fn processor_sleeps_at(point: &str) {
    let test = point.to_lowercase().replace('.', "_");
    let scene = Scene::new(&format!("zombie_{test}")).await;
    scene.topics().await;
    scene.feed(1, 30).await;
    let zombie = scene.child("processor").waits_at(point, 3).spawn();
    zombie.stands();
    let successor = scene.child("processor").spawn();
    sleeps(&zombie).await;
    scene.feed(31, 40).await;
    let (effects, outputs) = scene.processed(40).await;
    effects.assert_clean(point);
    outputs.assert_clean(point);
    wakes(&zombie);
    tokio::time::sleep(AFTERMATH).await;
    scene.feed(41, 50).await;
    let (effects, outputs) = scene.processed(50).await;
    effects.assert_clean(point);
    outputs.assert_clean(point);
    successor.stop();
    zombie.stop();
    let (effects, outputs) = scene.judge_processed(50).await;
    effects.assert_clean(point);
    outputs.assert_clean(point);
}

/// The same, but it goes to sleep and wakes alone: nobody takes over, its group and transaction are gone when it wakes.
async fn processor_sleeps_alone_at(point: &str) {
    let test = point.to_lowercase().replace('.', "_");
    let scene = Scene::new(&format!("alone_{test}")).await;
    scene.topics().await;
    scene.feed(1, 30).await;
    let sleeper = scene.child("processor").named("one").waits_at(point, 3).spawn();
    sleeps(&sleeper).await;
    wakes(&sleeper);
    scene.feed(31, 40).await;
    let (effects, outputs) = scene.processed(40).await;
    effects.assert_clean(point);
    outputs.assert_clean(point);
    sleeper.stop();
}

/// A relay sleeps at `point`; another one takes its shard over meanwhile.
async fn relay_sleeps_at(point: &str) {
    let scene = Scene::new(&format!("zombie_{}", point.to_lowercase())).await;
    scene.enqueue(50).await;
    let zombie = scene.child("relay").waits_at(point, 2).spawn();
    zombie.stands();
    let successor = scene.child("relay").spawn();
    sleeps(&zombie).await;
    scene.enqueue(50).await;
    scene.published().await.assert_clean(point);
    wakes(&zombie);
    tokio::time::sleep(AFTERMATH).await;
    scene.enqueue(50).await;
    scene.published().await.assert_clean(point);
    successor.stop();
    zombie.stop();
    scene.judge_published().await.assert_clean(point);
}

macro_rules! zombies {
    ($($run:ident: $($name:ident: $point:literal,)+;)+) => {$($(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            $run($point).await;
        }
    )+)+};
}

zombies! {
    processor_sleeps_at:
        p6_asleep_in_the_handler: "P6",
        p6_asleep_before_the_database_commit: "P1",
        p6_asleep_after_the_database_commit: "P3.begin",
        p6_asleep_before_the_offsets: "P3.offsets",
        p6_asleep_before_the_commit: "P3.commit",;
    processor_sleeps_alone_at:
        p6_alone_before_the_database_commit: "P1",
        p6_alone_before_the_commit: "P3.commit",;
    relay_sleeps_at:
        relay_asleep_after_reading: "R1",
        relay_asleep_before_the_position: "R3",
        relay_asleep_before_the_commit: "R4",;
}

/// P7: partitions are taken away while batches run, again and again, under both protocols.
async fn revoked_while_running(assignor: &str) {
    let scene = Scene::new(&format!("revoked_{assignor}")).await;
    scene.topics().await;
    let start = || scene.child("processor").env("TIDELOCK_PROCESSOR_ASSIGNOR", assignor).spawn();
    let first = start();
    let mut fed = 0;
    for round in 0..4 {
        scene.feed(fed + 1, fed + 60).await;
        fed += 60;
        let second = start();
        tokio::time::sleep(Duration::from_millis(700 + 400 * round)).await;
        second.stop();
    }
    let (effects, outputs) = scene.processed(fed).await;
    effects.assert_clean(assignor);
    outputs.assert_clean(assignor);
    first.stop();
    let (effects, outputs) = scene.judge_processed(fed).await;
    effects.assert_clean(assignor);
    outputs.assert_clean(assignor);
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_revoked_cooperatively() {
    revoked_while_running("cooperative").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_revoked_eagerly() {
    revoked_while_running("eager").await;
}

/// P7: dies inside the revocation.
#[tokio::test(flavor = "multi_thread")]
async fn p7_dies_while_revoked() {
    let scene = Scene::new("p7_dies").await;
    scene.topics().await;
    scene.feed(1, 60).await;
    let dying = scene.child("processor").dies_at("P7", 1).spawn();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let successor = scene.child("processor").spawn();
    dying.died();
    let (effects, outputs) = scene.processed(60).await;
    effects.assert_clean("P7");
    outputs.assert_clean("P7");
    successor.stop();
}

/// P8: dies while it resends what its predecessor left pending.
#[tokio::test(flavor = "multi_thread")]
async fn p8_dies_while_resending() {
    let scene = Scene::new("p8").await;
    scene.topics().await;
    scene.feed(1, 40).await;
    scene.child("processor").named("one").dies_at("P3.commit", 3).spawn().died();
    scene.child("processor").named("one").dies_at("P8", 1).spawn().died();
    scene.child("processor").named("one").dies_at("P3.offsets", 1).spawn().died();
    let last = scene.child("processor").named("one").spawn();
    let (effects, outputs) = scene.processed(40).await;
    effects.assert_clean("P8");
    outputs.assert_clean("P8");
    last.stop();
}

/// A scene whose outputs are refused.
async fn refusing(test: &str) -> Scene {
    let scene = Scene::new(test).await;
    scene.topics().await;
    scene.limit_outputs(100).await;
    scene.feed(1, 3).await;
    scene
}

/// Releases what was refused, and judges after a few messages more.
async fn judge_released(scene: &Scene) {
    let relay = scene.child("relay").spawn();
    scene.released().await;
    scene.feed(4, 10).await;
    scene.settled().await;
    // What came meanwhile may have waited behind what was released.
    scene.released().await;
    let (effects, outputs) = scene.judge_processed(10).await;
    effects.assert_clean("P9");
    outputs.assert_clean("P9");
    relay.stop();
}

/// P9: refused, and asleep before the outputs are moved to the quarantine, while a successor gets them through.
#[tokio::test(flavor = "multi_thread")]
async fn p9_asleep_before_the_quarantine() {
    let scene = refusing("p9_asleep").await;
    let zombie = scene.child("processor").waits_at("P9", 1).spawn();
    zombie.stands();
    let stale = scene.pending().await;
    let successor = scene.child("processor").spawn();
    scene.limit_outputs(1_000_000).await;
    sleeps(&zombie).await;
    scene.settled().await;
    wakes(&zombie);
    tokio::time::sleep(AFTERMATH).await;
    let mut sent_again = 0;
    for (key, submitted) in stale {
        let fence = scene.postgres.fence(&key).await.unwrap().unwrap();
        // What got through before it fell asleep was not sent again.
        if fence.claim != submitted.claim {
            // What it was about to do, had it not learnt of its loss before.
            let moved = scene.postgres.quarantine_outputs(&key, &submitted, Default::default(), &[]).await;
            assert!(!moved.unwrap(), "{key:?} {submitted:?}");
            sent_again += 1;
        }
    }
    assert!(sent_again > 0, "nobody has claimed what it stood before");
    // Partitions that did not wait may have moved something in any case.
    judge_released(&scene).await;
    successor.stop();
    zombie.stop();
}

/// P9: refused, and dead before the outputs are moved to the quarantine; a successor gets them through.
#[tokio::test(flavor = "multi_thread")]
async fn p9_dies_before_the_quarantine() {
    let scene = refusing("p9_dies").await;
    scene.child("processor").dies_at("P9", 1).spawn().died();
    scene.limit_outputs(1_000_000).await;
    let successor = scene.child("processor").spawn();
    scene.settled().await;
    judge_released(&scene).await;
    successor.stop();
}

/// Two relays with one name, by mistake: one of them is fenced, nothing is published twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_relays_with_one_identity() {
    let scene = Scene::new("twins").await;
    let one = scene.child("relay").named("same").spawn();
    scene.enqueue(50).await;
    let two = scene.child("relay").named("same").spawn();
    for _ in 0..10 {
        scene.enqueue(50).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    scene.published().await.assert_clean("two relays with one name");
    drop((one, two));
    scene.judge_published().await.assert_clean("two relays with one name");
}

/// Two relays share four shards; one dies, the other takes over.
#[tokio::test(flavor = "multi_thread")]
async fn shards_move_to_another_instance() {
    let scene = Scene::new("shards").await;
    let start = || scene.child("relay").env("TIDELOCK_RELAY_SHARDS", "4").spawn();
    let (one, two) = (start(), start());
    scene.enqueue(200).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    one.signal(Signal::SIGKILL);
    scene.enqueue(200).await;
    scene.published().await.assert_clean("four shards");
    two.stop();
    drop(one);
}
