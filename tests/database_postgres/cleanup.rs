//! What is deleted: what was published, and nothing else.

use tidelock::database::Source as _;

use super::{Shop, next, next_batch, put};

async fn numbered(shop: &Shop, from: i32, to: i32) {
    for n in from..=to {
        shop.commit(&n.to_string()).await;
    }
}

fn numbers(from: i32, to: i32) -> Vec<String> {
    (from..=to).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_batch_deletes_its_rows() {
    let shop = Shop::new().await;
    numbered(&shop, 1, 3).await;
    let mut open = shop.pool.begin().await.unwrap();
    put(&mut open, "k", "open").await;
    numbered(&shop, 4, 6).await;
    let mut reader = shop.start().await;
    let batch = next_batch(&mut reader, 100).await;
    shop.commit("later").await;
    assert_eq!(shop.postgres.clean(batch.published).await.unwrap(), 6);
    open.commit().await.unwrap();
    assert_eq!(shop.outbox().await, ["open", "later"]);
    assert_eq!(next(&mut reader).await, ["open", "later"]);
}

#[tokio::test]
async fn a_part_deletes_what_its_snapshot_saw_in_its_range() {
    let shop = Shop::new().await;
    numbered(&shop, 1, 4).await;
    let mut open = shop.pool.begin().await.unwrap();
    put(&mut open, "k", "open").await;
    numbered(&shop, 5, 20).await;
    let mut reader = shop.start().await;
    let first = next_batch(&mut reader, 8).await;
    // Committed before the deletion, but after the snapshot: its seq lies in the range.
    open.commit().await.unwrap();
    assert_eq!(shop.postgres.clean(first.published).await.unwrap(), 8);
    assert_eq!(shop.outbox().await, [vec!["open".to_owned()], numbers(9, 20)].concat());
    for deleted in [8, 4] {
        let batch = next_batch(&mut reader, 8).await;
        assert_eq!(shop.postgres.clean(batch.published).await.unwrap(), deleted);
    }
    assert_eq!(shop.outbox().await, ["open"]);
    assert_eq!(next(&mut reader).await, ["open"]);
}

#[tokio::test]
async fn the_sweep_at_the_start_deletes_what_the_position_passed() {
    let shop = Shop::new().await;
    numbered(&shop, 1, 5).await;
    let mut open = shop.pool.begin().await.unwrap();
    put(&mut open, "k", "open").await;
    numbered(&shop, 6, 10).await;
    let batch = next_batch(&mut shop.start().await, 100).await;
    shop.commit("later").await;
    open.commit().await.unwrap();
    let mut reader = shop.start_at(&batch.position).await;
    assert_eq!(shop.outbox().await, ["open", "later"]);
    assert_eq!(next(&mut reader).await, ["open", "later"]);
}

#[tokio::test]
async fn the_sweep_inside_a_difference_stops_at_the_part() {
    let shop = Shop::new().await;
    shop.commit("published before").await;
    let mut reader = shop.start().await;
    assert_eq!(next(&mut reader).await, ["published before"]);
    numbered(&shop, 1, 4).await;
    let mut open = shop.pool.begin().await.unwrap();
    put(&mut open, "k", "open").await;
    numbered(&shop, 5, 20).await;
    let part = next_batch(&mut reader, 8).await;
    assert_eq!(part.rows.len(), 8);
    shop.commit("later").await;
    open.commit().await.unwrap();
    let mut reader = shop.start_at(&part.position).await;
    let left = [vec!["open".to_owned()], numbers(9, 20), vec!["later".to_owned()]].concat();
    assert_eq!(shop.outbox().await, left);
    assert_eq!(next(&mut reader).await, numbers(9, 20));
    assert_eq!(next(&mut reader).await, ["open", "later"]);
}
