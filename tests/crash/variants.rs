//! Tests of the tests: each rule of the protocol left out is noticed, and the same history is clean with it.

use std::time::Duration;

use bytes::Bytes;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tidelock::{
    commit::Commit,
    database::{Advance, Advanced, Database as _, Unit as _},
};
use tidelock_lab::Lab;

use super::{
    child::Child,
    scene::{Scene, input_topic},
    verdict::Verdict,
};

/// Longer than the children's session time-out, shorter than their transaction time-out.
const AWAY: Duration = Duration::from_secs(5);

/// What happened, with the rule or without it.
#[track_caller]
fn judge(verdict: &Verdict, left_out: bool, what: &str) {
    if left_out {
        assert!(!verdict.is_clean(), "{what} was left out and nobody noticed");
    } else {
        verdict.assert_clean(what);
    }
}

/// Dies between the commit of the rows and the position.
async fn position(left_out: bool) {
    let scene = Scene::new("variant_position").await;
    scene.enqueue(50).await;
    let mut dying = scene.child("relay").dies_at("R4", 2);
    if left_out {
        dying = dying.leaves_out("position-outside");
    }
    dying.spawn().died();
    let successor = scene.child("relay").spawn();
    judge(&scene.published().await, left_out, "position in the transaction");
    successor.stop();
}

/// The server forgets commits that were not flushed; the relay had read them.
async fn flush(left_out: bool) {
    let lab = tokio::task::spawn_blocking(|| Lab::builder().kafka(false).start().unwrap()).await.unwrap();
    let kafka = tokio::task::spawn_blocking(|| Lab::shared().kafka_url()).await.unwrap();
    let scene = Scene::on("variant_flush", kafka, lab.database_url()).await;
    let mut relay = scene.child("relay").waits_at("R6", 2);
    if left_out {
        relay = relay.leaves_out("no-flush");
    }
    let relay = relay.spawn();
    scene.enqueue(1).await;
    scene.published().await.assert_clean("the first message");
    // Else it may flush by itself just now, and then there is nothing to forget.
    let wal_writer: i32 =
        sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
            .fetch_one(&scene.pool)
            .await
            .unwrap();
    kill(Pid::from_raw(wal_writer), Signal::SIGSTOP).unwrap();
    let mut connection = scene.pool.acquire().await.unwrap();
    sqlx::query("SET synchronous_commit = off").execute(&mut *connection).await.unwrap();
    scene.enqueue_on(&mut connection, 9).await.unwrap();
    relay.stands();
    // Kept until the end: its server is asked afterwards.
    let _lab = tokio::task::spawn_blocking(move || {
        lab.postgres().stop_immediate().unwrap();
        lab.postgres().start().unwrap();
        lab
    })
    .await
    .unwrap();
    if left_out {
        let verdict = scene.judge_published().await;
        assert!(!verdict.phantom.is_empty(), "the flush rule was left out and nobody noticed");
        return;
    }
    // What the server had flushed by itself, further than the relay had read, is still to come.
    relay.go_on();
    scene.published().await.assert_clean("flush rule");
    relay.stop();
}

/// While a processor stands before its compare, somebody else handles the same batch.
async fn compare(left_out: bool) {
    let scene = Scene::new("variant_compare").await;
    scene.topics().await;
    // The fifth message of a key emits nothing, so that the rival need not either.
    scene.feed(5, 5).await;
    let mut processor = scene.child("processor").waits_at("P1", 3);
    if left_out {
        processor = processor.leaves_out("no-compare");
    }
    let processor = processor.spawn();
    processor.stands();
    let records = scene.committed(input_topic(&scene.name)).await;
    let (partition, fence) = scene.untouched_fence().await;
    let batch: Vec<_> = records.iter().filter(|record| record.partition == partition.partition).collect();
    let mut rival = scene.postgres.begin().await.unwrap();
    for record in &batch {
        sqlx::query("INSERT INTO effect (key, n) VALUES ($1, 5)")
            .bind(&record.key)
            .execute(rival.connection())
            .await
            .unwrap();
    }
    let advance = Advance {
        key: &partition,
        from: fence.next_offset,
        to: batch.last().unwrap().offset + 1,
        pending: Bytes::new(),
        owner: "rival",
    };
    assert_ne!(rival.advance(advance).await.unwrap(), Advanced::Stale);
    assert!(matches!(rival.commit().await, Commit::Committed));
    processor.go_on();
    scene.settled().await;
    processor.stop();
    judge(&scene.judge_effects(5, 5).await, left_out, "compare on the fence");
}

/// A processor sleeps with its outputs sent, loses its partitions, joins again, and only then sends its offsets.
async fn metadata(left_out: bool) {
    let scene = Scene::new("variant_metadata").await;
    scene.topics().await;
    scene.feed(1, 30).await;
    let mut zombie = long_transaction(&scene).waits_at("P3.offsets", 3);
    if left_out {
        zombie = zombie.leaves_out("unchecked-metadata");
    }
    let zombie = zombie.spawn();
    zombie.stands();
    // It does not end the zombie's transaction, so that this rule stands alone.
    let successor = scene.child("processor").leaves_out("no-owner-fence").spawn();
    zombie.signal(Signal::SIGSTOP);
    tokio::time::sleep(AWAY).await;
    scene.settled().await;
    zombie.signal(Signal::SIGCONT);
    tokio::time::sleep(AWAY).await;
    zombie.go_on();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (_, outputs) = scene.judge_processed(30).await;
    judge(&outputs, left_out, "checked metadata");
    drop(zombie);
    drop(successor);
}

/// A processor sleeps with its offsets sent; its successor must wait for the outcome.
async fn stable_offsets(left_out: bool) {
    let scene = Scene::new("variant_offsets").await;
    scene.topics().await;
    scene.feed(1, 30).await;
    let zombie = long_transaction(&scene).waits_at("P3.commit", 3).spawn();
    zombie.stands();
    let rules = if left_out { "no-owner-fence;uncommitted-offset" } else { "no-owner-fence" };
    let successor = scene.child("processor").leaves_out(rules).spawn();
    zombie.signal(Signal::SIGSTOP);
    tokio::time::sleep(AWAY).await;
    tokio::time::sleep(AWAY).await;
    wake(&zombie);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (_, outputs) = scene.processed(30).await;
    judge(&outputs, left_out, "stable offsets");
    drop(zombie);
    drop(successor);
}

fn wake(zombie: &Child) {
    zombie.go_on();
    zombie.signal(Signal::SIGCONT);
}

fn long_transaction(scene: &Scene) -> super::child::Spec {
    scene.child("processor").env("TIDELOCK_KAFKA_TRANSACTION_TIMEOUT", "60s")
}

macro_rules! rules {
    ($($rule:ident: $on:ident, $off:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $on() {
            $rule(false).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn $off() {
            $rule(true).await;
        }
    )+};
}

rules! {
    position: with_the_position_inside, without_the_position_inside;
    flush: with_the_flush_rule, without_the_flush_rule;
    compare: with_the_compare, without_the_compare;
    metadata: with_checked_metadata, without_checked_metadata;
    stable_offsets: with_stable_offsets, without_stable_offsets;
}
