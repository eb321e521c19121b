//! R0 to R6: the relay dies, another takes up.

use super::scene::Scene;

/// Dies there with messages before and behind it, then a successor publishes the rest.
async fn dies_at(point: &str, hit: u32) {
    let scene = Scene::new(&format!("relay_{}", point.to_lowercase())).await;
    scene.enqueue(50).await;
    scene.child("relay").named("one").dies_at(point, hit).spawn().died();
    scene.enqueue(50).await;
    let successor = scene.child("relay").named("one").spawn();
    scene.published().await.assert_clean(point);
    scene.enqueue(20).await;
    scene.published().await.assert_clean(point);
    successor.stop();
    scene.judge_published().await.assert_clean(point);
}

macro_rules! points {
    ($($name:ident: $point:literal,)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            for hit in [1, 2] {
                dies_at($point, hit).await;
            }
        }
    )+};
}

points! {
    r0_batch_read_not_flushed: "R0",
    r1_batch_read: "R1",
    r2_some_sent: "R2",
    r3_delivered_without_position: "R3",
    r4_position_sent: "R4",
    r5_commit_answer_unseen: "R5",
    r6_committed_not_cleaned: "R6",
}
