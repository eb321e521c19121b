//! A standby is refused, and so is the server that it becomes.

use std::fs::File;

use tidelock::{
    database::Source as _,
    error::{Error, Kind},
};
use tidelock_lab::Lab;

use super::{ALL, Shop, eventually, next_batch};

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
    tokio::task::block_in_place(|| {
        lab.postgres().stop().unwrap();
        File::create(lab.postgres().directory().join("data/standby.signal")).unwrap();
        lab.postgres().start().unwrap();
    });
    let shop = shop.again().await;
    let error = shop.postgres.check().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("standby"), "{error}");
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
    // Refused before anything was deleted.
    assert_eq!(shop.outbox().await, ["published", "not published yet"]);
    // A new outbox may well begin there.
    assert_eq!(super::next(&mut shop.start().await).await, ["published", "not published yet"]);
}
