//! P1 to P6: the processor dies, a successor takes over. P7 to P9 are in `zombies.rs`.

use super::scene::Scene;

/// Dies there; then the same instance, or another one, finishes.
async fn dies_at(point: &str, hit: u32, successor: &str) {
    let test = point.to_lowercase().replace('.', "_");
    let scene = Scene::new(&format!("processor_{test}_{successor}")).await;
    scene.topics().await;
    scene.feed(1, 40).await;
    scene.child("processor").named("one").dies_at(point, hit).spawn().died();
    scene.feed(41, 60).await;
    let successor = scene.child("processor").named(successor).spawn();
    let (effects, outputs) = scene.processed(60).await;
    effects.assert_clean(point);
    outputs.assert_clean(point);
    successor.stop();
    let (effects, outputs) = scene.judge_processed(60).await;
    effects.assert_clean(point);
    outputs.assert_clean(point);
}

macro_rules! points {
    ($($name:ident: $point:literal,)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            dies_at($point, 2, "one").await;
            dies_at($point, 3, "two").await;
        }
    )+};
}

points! {
    p1_before_the_database_commit: "P1",
    p2_database_commit_unseen: "P2",
    p3_before_begin: "P3.begin",
    p3_some_sent: "P3.send",
    p3_before_the_offsets: "P3.offsets",
    p3_before_the_commit: "P3.commit",
    p4_commit_unseen: "P4",
    p5_after_the_commit: "P5",
    p6_inside_the_handler: "P6",
}
