//! A standby is refused until it is promoted, and whatever belongs to the time before is refused then too.

use std::{fs::File, time::Duration};

use tidelock::{
    database::{Database as _, Source as _},
    error::{Error, Kind},
    prelude::*,
};
use tidelock_lab::Lab;

use super::{ALL, Shop, eventually, next_batch, recovering, unit::key};
use crate::conformance::within;

/// Starts the server again as a standby, of nobody.
fn demote(lab: &Lab) {
    tokio::task::block_in_place(|| {
        lab.postgres().stop().unwrap();
        File::create(lab.postgres().directory().join("data/standby.signal")).unwrap();
        lab.postgres().start().unwrap();
    });
}

async fn refused(shop: &Shop, position: &[u8]) -> Error {
    match shop.postgres.reader(ALL, position).await {
        Ok(_) => panic!("the reader was opened"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_and_its_promotion() {
    let lab = tokio::task::block_in_place(|| Lab::builder().kafka(false).start().unwrap());
    let shop = Shop::on(&lab.database_url()).await;
    shop.postgres.migrate().await.unwrap();
    shop.commit("published").await;
    let batch = next_batch(&mut shop.start().await, 10).await;
    shop.commit("not published yet").await;
    shop.postgres.first_start(&key(0), 1).await.unwrap();
    shop.postgres.insert_fence(&key(0), 7, "owner").await.unwrap();
    demote(&lab);
    let shop = shop.again().await;
    for error in [
        shop.postgres.check().await.unwrap_err(),
        shop.postgres.check_durable().await.unwrap_err(),
        // Its rows may be old ones.
        shop.postgres.fence(&key(0)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(error.to_string().contains("standby"), "{error}");
    }
    let origin = shop.postgres.origin().await.unwrap();
    for position in [&batch.position, &origin] {
        let error = refused(&shop, position).await;
        assert!(error.to_string().contains("recovery"), "{error}");
    }

    shop.run("SELECT pg_promote()").await;
    eventually("the promotion", || async { shop.postgres.check().await.is_ok() }).await;
    let error = refused(&shop, &batch.position).await;
    assert_eq!(error.kind(), Kind::Identity);
    let text = error.to_string();
    assert!(text.contains("timeline 2") && text.contains("timeline 1"), "{text}");
    assert_eq!(shop.postgres.fence(&key(0)).await.unwrap().unwrap().next_offset, 7);
    // Refused before anything was deleted.
    assert_eq!(shop.outbox().await, ["published", "not published yet"]);
    // A new outbox may well begin there.
    assert_eq!(super::next(&mut shop.start().await).await, ["published", "not published yet"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_before_the_promotion_is_at_work_after_it() {
    let lab = tokio::task::block_in_place(|| Lab::builder().kafka(false).start().unwrap());
    let shop = Shop::on(&lab.database_url()).await;
    shop.postgres.migrate().await.unwrap();
    shop.commit("1").await;
    let broken = Shop::on(&lab.database_url()).await;
    broken.postgres.migrate().await.unwrap();
    broken.run("DROP INDEX tidelock.outbox_xid").await;
    demote(&lab);
    let (shop, broken) = (shop.again().await, broken.again().await);
    // What a promotion does not mend is told before it.
    let error = broken.postgres.check().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(
        ["standby", "no valid index on xid"].iter().all(|part| error.to_string().contains(part)),
        "{error}"
    );
    let log = Embedded::in_memory();
    let pipeline =
        Pipeline::builder(log, shop.postgres.clone()).relay(RelayConfig::new("promoted")).build().unwrap();
    pipeline.start().await.unwrap();
    recovering(&pipeline, "the server is a standby").await;
    shop.run("SELECT pg_promote()").await;
    within(30, pipeline.ready()).await;
    eventually("the row is published", async || shop.outbox().await.is_empty()).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}
