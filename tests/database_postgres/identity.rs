//! A position belongs to one database's history.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use tidelock::{
    database::{Source as _, postgres::Postgres},
    error::{Error, Kind},
};

use super::{ALL, Shop, next_batch};

/// A dump keeps transaction ids, and leaves the check on them to rows that are new.
#[tokio::test]
async fn rows_that_were_loaded_from_another_server() {
    let shop = Shop::new().await;
    shop.commit("one").await;
    let batch = next_batch(&mut shop.start().await, 10).await;
    shop.run("ALTER TABLE tidelock.outbox DROP CONSTRAINT outbox_xid_own").await;
    shop.run("INSERT INTO tidelock.outbox (xid, topic, payload) VALUES ('4000000000', 't', 'loaded')").await;
    for position in [&shop.postgres.origin().await.unwrap(), &batch.position] {
        let error = refused(&shop.postgres, position).await;
        assert_eq!(error.kind(), Kind::Identity);
        assert!(error.to_string().contains("4000000000"), "{error}");
    }
    assert_eq!(shop.outbox().await, ["one", "loaded"], "nothing was deleted");
}

/// After a fail-over behind the same name, the server that deletes is not the one that was read.
#[tokio::test]
async fn what_was_published_of_one_database_is_not_deleted_in_another() {
    let (one, other) = (Shop::new().await, Shop::new().await);
    for shop in [&one, &other] {
        for n in 0..20 {
            shop.commit(&n.to_string()).await;
        }
    }
    let mut reader = one.start().await;
    for rows in [8, 100] {
        let (kept, batch) = (other.outbox().await, next_batch(&mut reader, rows).await);
        assert_eq!(other.postgres.clean(batch.published).await.unwrap_err().kind(), Kind::Identity);
        assert_eq!(other.outbox().await, kept);
    }
    one.commit("20").await;
    other.commit("20").await;
    other.commit("21").await;
    let batch = next_batch(&mut reader, 100).await;
    assert_eq!(batch.rows.len(), 1);
    assert_eq!(other.postgres.clean(batch.published).await.unwrap_err().kind(), Kind::Identity);
    assert_eq!(other.outbox().await.len(), 22);
}

/// The stored form of a position, to write one that a database with another past would have.
#[derive(Serialize, Deserialize)]
struct Stored {
    xmin: u64,
    width: u64,
    steps: Vec<u64>,
    chunks: Option<()>,
    wal: u64,
    identity: Option<(u64, u32, u32)>,
}

async fn changed(shop: &Shop, change: impl FnOnce(&mut Stored)) -> Vec<u8> {
    shop.commit("one").await;
    let batch = next_batch(&mut shop.start().await, 10).await;
    let mut stored: Stored = postcard::from_bytes(&batch.position[1..]).unwrap();
    change(&mut stored);
    let mut position = vec![batch.position[0]];
    position.extend(postcard::to_allocvec(&stored).unwrap());
    position
}

async fn refused(postgres: &Postgres, position: &[u8]) -> Error {
    match postgres.reader(ALL, position).await {
        Ok(_) => panic!("the position was accepted"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn the_position_of_another_database_of_the_server() {
    let (one, other) = (Shop::new().await, Shop::new().await);
    one.commit("row").await;
    let batch = next_batch(&mut one.start().await, 10).await;
    other.commit("not published yet").await;
    let error = refused(&other.postgres, &batch.position).await;
    assert_eq!(error.kind(), Kind::Identity);
    for shop in [&one, &other] {
        let oid: i64 = sqlx::query("SELECT oid::bigint FROM pg_database WHERE datname = current_database()")
            .fetch_one(&shop.pool)
            .await
            .unwrap()
            .get(0);
        assert!(error.to_string().contains(&oid.to_string()), "{error}");
    }
    // Refused before anything was deleted.
    assert_eq!(other.outbox().await, ["not published yet"]);
}

#[tokio::test]
async fn the_position_of_another_server() {
    let shop = Shop::new().await;
    let mut own = 0;
    let position = changed(&shop, |stored| {
        let identity = stored.identity.as_mut().unwrap();
        own = identity.0;
        identity.0 = 7_123_456_789;
    })
    .await;
    let error = refused(&shop.postgres, &position).await;
    assert_eq!(error.kind(), Kind::Identity);
    let text = error.to_string();
    assert!(text.contains("7123456789") && text.contains(&own.to_string()), "{text}");
}

#[tokio::test]
async fn the_position_of_another_timeline() {
    let shop = Shop::new().await;
    let position = changed(&shop, |stored| stored.identity.as_mut().unwrap().2 = 1_234).await;
    let error = refused(&shop.postgres, &position).await;
    assert_eq!(error.kind(), Kind::Identity);
    assert!(error.to_string().contains("1234"), "{error}");
}

#[tokio::test]
async fn transaction_ids_or_wal_that_went_back() {
    let shop = Shop::new().await;
    let position = changed(&shop, |stored| stored.width += 1_000_000).await;
    let error = refused(&shop.postgres, &position).await;
    assert_eq!(error.kind(), Kind::Identity);
    assert!(error.to_string().contains("restored"), "{error}");

    let position = changed(&shop, |stored| stored.wal += 1 << 40).await;
    let error = refused(&shop.postgres, &position).await;
    assert_eq!(error.kind(), Kind::Identity);
    assert!(error.to_string().contains("less WAL"), "{error}");
}

#[tokio::test]
async fn a_position_that_cannot_be_read_is_never_the_origin() {
    let shop = Shop::new().await;
    let position = changed(&shop, |_| {}).await;
    let cut = &position[..position.len() - 1];
    let newer = [&[9], &position[1..]].concat();
    for bytes in [&[][..], cut, &newer] {
        assert_eq!(refused(&shop.postgres, bytes).await.kind(), Kind::Corrupt);
    }
}
