//! What a reader hands out, in which order, and when.

use sqlx::Row as _;
use tidelock::database::{Reader as _, Source as _};

use super::{Shop, next, next_batch, numbers, put, text, texts};

#[tokio::test]
async fn the_order_is_that_of_the_commits() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    assert!(next(&mut reader).await.is_empty());
    shop.commit("1").await;
    let mut rolled_back = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    put(&mut rolled_back, "k", "never").await;
    rolled_back.rollback().await.unwrap();
    shop.commit("2").await;
    assert_eq!(next(&mut reader).await, ["1", "2"]);
    let mut open = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    put(&mut open, "k", "open").await;
    assert!(next(&mut reader).await.is_empty(), "a reader does not wait for a writer, nor see it");
    open.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, ["open"]);
    assert!(next(&mut reader).await.is_empty());
}

#[tokio::test]
async fn at_most_as_many_rows_as_asked_for() {
    let shop = Shop::new().await;
    shop.commit_all(numbers(1, 1_000)).await;
    let mut reader = shop.start().await;
    let mut sizes = Vec::new();
    let mut read = Vec::new();
    while let Some(batch) = reader.read(300).await.unwrap() {
        sizes.push(batch.rows.len());
        read.extend(texts(&batch));
    }
    assert_eq!(sizes, [64, 256, 300, 300, 80]);
    assert_eq!(read, numbers(1, 1_000));
}

#[tokio::test]
async fn large_rows_come_in_small_batches() {
    let shop = Shop::new().await;
    let megabyte = "x".repeat(1 << 20);
    shop.commit_all((0..40).map(|_| megabyte.clone())).await;
    let mut reader = shop.start().await;
    let mut sizes = Vec::new();
    while let Some(batch) = reader.read(1_000).await.unwrap() {
        sizes.push(batch.rows.len());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 40);
    assert!(sizes.iter().all(|rows| *rows <= 17), "{sizes:?}");
}

/// Without AUTOINCREMENT the table would begin again at 1, below the position.
#[tokio::test]
async fn a_table_that_was_emptied_goes_on_counting() {
    let shop = Shop::new().await;
    let mut position: Option<bytes::Bytes> = None;
    for round in 0..3 {
        let mut reader = match &position {
            None => shop.start().await,
            Some(position) => shop.start_at(position).await,
        };
        shop.commit_all(numbers(1, 4)).await;
        let batch = next_batch(&mut reader, 100).await;
        assert_eq!(
            batch.rows.iter().map(|row| row.seq).collect::<Vec<_>>(),
            (1..=4).map(|n| n + 4 * round).collect::<Vec<_>>()
        );
        assert_eq!(shop.sqlite.clean(batch.published).await.unwrap(), 4);
        assert_eq!(shop.count("tidelock_outbox").await, 0);
        position = Some(batch.position);
    }
}

/// A position may pass rows only once they would survive a loss of power: the mark is a commit that was synced.
#[tokio::test]
async fn a_batch_is_durable_once_its_mark_is_written() {
    let shop = Shop::new().await;
    let mut careless = shop.pool.acquire().await.unwrap();
    sqlx::raw_sql("PRAGMA synchronous = NORMAL").execute(&mut *careless).await.unwrap();
    let mut reader = shop.start().await;
    reader.durable().await.unwrap();
    assert_eq!(shop.count("tidelock_mark").await, 0, "nothing was read");
    put(&mut careless, "k", "not synced").await;
    let batch = reader.read(10).await.unwrap().unwrap();
    assert_eq!(shop.count("tidelock_mark").await, 0);
    reader.durable().await.unwrap();
    reader.durable().await.unwrap();
    assert_eq!(shop.count("tidelock_mark").await, 1, "once");
    assert!(reader.read(10).await.unwrap().is_none());
    assert_eq!(shop.count("tidelock_mark").await, 1, "nothing new was read");
    put(&mut careless, "k", "2").await;
    assert_eq!(texts(&reader.read(10).await.unwrap().unwrap()), ["2"]);
    put(&mut careless, "k", "3").await;
    // Goes on only when the last batch is durable.
    let next = reader.read(10).await.unwrap().unwrap();
    assert_eq!(text(next.rows[0].payload.as_ref()), "3");
    assert_eq!(shop.count("tidelock_mark").await, 2);
    drop(shop.start_at(&batch.position).await);
}

#[tokio::test]
async fn a_position_that_was_not_marked_is_refused() {
    let shop = Shop::new().await;
    shop.commit("row").await;
    let batch = shop.start().await.read(10).await.unwrap().unwrap();
    assert!(shop.sqlite.reader(super::ALL, &batch.position).await.is_err());
    let left = sqlx::query("SELECT count(*) FROM tidelock_outbox").fetch_one(&shop.pool).await.unwrap();
    assert_eq!(left.get::<i64, _>(0), 1, "nothing was swept");
}
