//! A position belongs to one database and to no older state of it.

use tidelock::{
    database::{Reader as _, Source as _, sqlite::Sqlite},
    error::{Error, Kind},
};

use super::{ALL, Shop, next, next_batch, numbers, pool, put};

async fn refused(sqlite: &Sqlite, position: &[u8]) -> Error {
    match sqlite.reader(ALL, position).await {
        Ok(_) => panic!("the position was accepted"),
        Err(error) => error,
    }
}

async fn restored(shop: &Shop, copy: &std::path::Path) -> Sqlite {
    let path = shop.folder.join("restored.db");
    std::fs::copy(copy, &path).unwrap();
    Sqlite::open(path).await.unwrap()
}

#[tokio::test]
async fn a_position_of_another_database_is_refused() {
    let (shop, other) = (Shop::new().await, Shop::new().await);
    shop.commit("row").await;
    other.commit("not published yet").await;
    let position = next_batch(&mut shop.start().await, 10).await.position;
    let error = refused(&other.sqlite, &position).await;
    assert_eq!(error.kind(), Kind::Identity);
    assert!(error.to_string().contains("another database"), "{error}");
    assert_eq!(other.outbox().await, ["not published yet"], "nothing was swept");
    drop(shop.start_at(&position).await);
}

#[tokio::test]
async fn a_backup_with_fewer_rows_is_refused() {
    let shop = Shop::new().await;
    shop.commit_all(numbers(1, 3)).await;
    let copy = shop.back_up().await;
    shop.commit_all(numbers(4, 6)).await;
    let position = next_batch(&mut shop.start().await, 10).await.position;
    let error = refused(&restored(&shop, &copy).await, &position).await;
    assert_eq!(error.kind(), Kind::Identity);
    assert!(error.to_string().contains("is 3, the position has already passed 6"), "{error}");
}

/// The numbers alone would not tell: rows of the restored database stand below the position, and were never published.
#[tokio::test]
async fn a_backup_that_was_written_to_since_is_refused() {
    let shop = Shop::new().await;
    shop.commit_all(numbers(1, 3)).await;
    let copy = shop.back_up().await;
    shop.commit_all(numbers(4, 6)).await;
    let position = next_batch(&mut shop.start().await, 10).await.position;
    let restored = restored(&shop, &copy).await;
    for n in 4..20 {
        put(&mut pool(&restored).acquire().await.unwrap(), "k", &format!("other {n}")).await;
    }
    let error = refused(&restored, &position).await;
    assert_eq!(error.kind(), Kind::Identity);
    assert!(error.to_string().contains("mark of position 6"), "{error}");
}

/// A copy that holds everything the position speaks of is the same database.
#[tokio::test]
async fn a_backup_from_after_the_position_is_accepted() {
    let shop = Shop::new().await;
    shop.commit_all(numbers(1, 3)).await;
    let batch = next_batch(&mut shop.start().await, 10).await;
    shop.sqlite.clean(batch.published).await.unwrap();
    shop.commit("later").await;
    let restored = restored(&shop, &shop.back_up().await).await;
    let mut reader = restored.reader(ALL, &batch.position).await.unwrap();
    assert_eq!(next(&mut reader).await, ["later"]);
}

/// As found in recipes that reset the numbers of a table.
#[tokio::test]
async fn a_sequence_that_was_reset_stops_the_reader() {
    let shop = Shop::new().await;
    shop.commit_all(numbers(1, 3)).await;
    let mut reader = shop.start().await;
    let batch = next_batch(&mut reader, 10).await;
    shop.sqlite.clean(batch.published).await.unwrap();
    shop.run("DELETE FROM sqlite_sequence").await;
    assert_eq!(reader.read(10).await.unwrap_err().kind(), Kind::Identity);
    shop.commit("would be passed over").await;
    assert_eq!(reader.read(10).await.unwrap_err().kind(), Kind::Identity);
    assert_eq!(refused(&shop.sqlite, &batch.position).await.kind(), Kind::Identity);
}

#[tokio::test]
async fn bytes_that_are_no_position_are_refused() {
    let shop = Shop::new().await;
    for bytes in [&b""[..], &[1, 0, 0], b"s", &[b's', 0xff]] {
        assert_eq!(refused(&shop.sqlite, bytes).await.kind(), Kind::Corrupt, "{bytes:?}");
    }
}
