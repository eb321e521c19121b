//! The database server is stopped hard under load: nothing it forgot is published, nothing it kept is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::postgres::PgPoolOptions;
use tidelock_lab::Lab;

use super::scene::Scene;

const CRASHES: u32 = 10;

async fn stopped_hard(synchronous_commit: &str) {
    let lab =
        Arc::new(tokio::task::spawn_blocking(|| Lab::builder().kafka(false).start()).await.unwrap().unwrap());
    let kafka = tokio::task::spawn_blocking(|| Lab::shared().kafka_url()).await.unwrap();
    let scene = Arc::new(Scene::on(&format!("hard_{synchronous_commit}"), kafka, lab.database_url()).await);
    let relay = scene.child("relay").spawn();
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let (scene, done) = (scene.clone(), done.clone());
            let options = format!("SET synchronous_commit = {synchronous_commit}");
            tokio::spawn(async move {
                let pool = PgPoolOptions::new()
                    .max_connections(1)
                    .after_connect(move |connection, _| {
                        let options = options.clone();
                        Box::pin(async move {
                            sqlx::query(sqlx::AssertSqlSafe(options)).execute(connection).await.map(|_| ())
                        })
                    })
                    .connect_lazy(&scene.database)
                    .unwrap();
                while !done.load(Ordering::Relaxed) {
                    if scene.enqueue_with(&pool, 20).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            })
        })
        .collect();
    for round in 0..CRASHES {
        tokio::time::sleep(Duration::from_millis(u64::from(300 + 97 * round % 400))).await;
        let lab = lab.clone();
        tokio::task::spawn_blocking(move || {
            lab.postgres().stop_immediate().unwrap();
            lab.postgres().start().unwrap();
        })
        .await
        .unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    scene.published().await.assert_clean(synchronous_commit);
    relay.stop();
    scene.judge_published().await.assert_clean(synchronous_commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn r0_server_stopped_hard_with_synchronous_commit() {
    stopped_hard("on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r0_server_stopped_hard_without_synchronous_commit() {
    stopped_hard("off").await;
}
