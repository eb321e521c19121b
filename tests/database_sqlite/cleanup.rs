//! What is deleted: what was published, and nothing else.

use tidelock::database::{Shard, Source as _};

use super::{Shop, next_batch, numbers, put};

#[tokio::test]
async fn one_shard_never_deletes_rows_of_another() {
    let shop = Shop::new().await;
    for n in 0..60 {
        put(&mut shop.pool.acquire().await.unwrap(), &n.to_string(), &n.to_string()).await;
    }
    let shard = Shard { index: 1, count: 2 };
    let origin = shop.sqlite.origin().await.unwrap();
    let mut reader = shop.sqlite.reader(shard, &origin).await.unwrap();
    let part = next_batch(&mut reader, 10).await;
    let others = shop.count("tidelock_outbox WHERE bucket % 2 = 0").await;
    assert!(others > 10);
    assert_eq!(shop.sqlite.clean(part.published).await.unwrap(), 10);
    assert_eq!(shop.count("tidelock_outbox WHERE bucket % 2 = 0").await, others);
    let rest = next_batch(&mut reader, 100).await;
    drop(shop.sqlite.reader(shard, &rest.position).await.unwrap());
    assert_eq!(shop.count("tidelock_outbox WHERE bucket % 2 = 0").await, others);
    assert_eq!(shop.count("tidelock_outbox").await, others);
}

#[tokio::test]
async fn in_more_than_one_step() {
    let shop = Shop::new().await;
    shop.commit_all(numbers(1, 7_001)).await;
    let mut reader = shop.start().await;
    let mut rows = 0;
    let mut last = None;
    while rows < 7_001 {
        let batch = next_batch(&mut reader, 10_000).await;
        rows += batch.rows.len();
        last = Some(batch);
    }
    assert_eq!(shop.count("tidelock_mark").await, 5);
    assert_eq!(shop.sqlite.clean(last.unwrap().published).await.unwrap(), 7_001);
    assert_eq!(shop.count("tidelock_outbox").await, 0);
    assert_eq!(shop.count("tidelock_mark").await, 1, "that of the position stays");
}
