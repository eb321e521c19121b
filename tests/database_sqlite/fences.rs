//! What the database knows of a partition.

use std::time::Duration;

use futures_util::future::join_all;
use tidelock::database::{Advance, Database as _, Fence, FenceKey, FirstStart, Unit as _};

use super::{Shop, unit::key};

#[tokio::test]
async fn the_first_start_is_recorded_once() {
    let shop = Shop::new().await;
    let key = key(0);
    let firsts = join_all((3..10).map(|partitions| shop.sqlite.first_start(&key, partitions))).await;
    let firsts: Vec<FirstStart> = firsts.into_iter().map(Result::unwrap).collect();
    assert!(firsts.iter().all(|first| *first == firsts[0]), "{firsts:?}");
    let later = shop.sqlite.first_start(&FenceKey { partition: 12, ..key.clone() }, 13).await.unwrap();
    assert_eq!(later, FirstStart { partitions: firsts[0].partitions, fenced: false });
    let other = FenceKey { group: "another".into(), ..key };
    assert_eq!(
        shop.sqlite.first_start(&other, 2).await.unwrap(),
        FirstStart { partitions: 2, fenced: false }
    );
}

#[tokio::test]
async fn a_fence_is_inserted_if_absent_and_remembered_when_it_is_gone() {
    let shop = Shop::new().await;
    let (key, other) = (key(3), key(4));
    assert_eq!(shop.sqlite.fence(&key).await.unwrap(), None);
    assert!(!shop.sqlite.first_start(&key, 8).await.unwrap().fenced);
    shop.sqlite.insert_fence(&key, 17, "first").await.unwrap();
    shop.sqlite.insert_fence(&key, 99, "second").await.unwrap();
    let fence = Fence { next_offset: 17, owner: "first".to_owned(), ..Fence::default() };
    assert_eq!(shop.sqlite.fence(&key).await.unwrap(), Some(fence));
    assert!(shop.sqlite.first_start(&key, 8).await.unwrap().fenced);
    assert!(!shop.sqlite.first_start(&other, 8).await.unwrap().fenced);
    shop.run("DELETE FROM tidelock_fence").await;
    assert_eq!(shop.sqlite.fence(&key).await.unwrap(), None);
    assert!(shop.sqlite.first_start(&key, 8).await.unwrap().fenced, "the loss must be noticed");
}

#[tokio::test]
async fn fences_of_many_partitions_at_once() {
    let shop = Shop::new().await;
    shop.sqlite.first_start(&key(0), 32).await.unwrap();
    let keys: Vec<FenceKey> = (0..32).map(key).collect();
    for outcome in join_all(keys.iter().map(|key| shop.sqlite.insert_fence(key, 0, "o"))).await {
        outcome.unwrap();
    }
    for key in &keys {
        assert!(shop.sqlite.first_start(key, 32).await.unwrap().fenced, "partition {}", key.partition);
    }
}

#[tokio::test]
async fn old_inbox_entries_of_one_group_are_forgotten() {
    let shop = Shop::new().await;
    shop.run(
        "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 11999) \
         INSERT INTO tidelock_inbox SELECT value, randomblob(16), \
         CAST(unixepoch('subsec') * 1000000 AS INTEGER) - n * 60000000 FROM json_each('[\"mine\", \"other\"]'), n",
    )
    .await;
    // In more than one step.
    let forgotten = shop.sqlite.clean_inbox("mine", Duration::from_secs(100 * 60 - 30)).await.unwrap();
    assert_eq!(forgotten, 11_900);
    assert_eq!(shop.count("tidelock_inbox WHERE \"group\" = 'mine'").await, 100);
    assert_eq!(shop.count("tidelock_inbox WHERE \"group\" = 'other'").await, 12_000);
}

#[tokio::test]
async fn an_advance_writes_the_whole_row() {
    let shop = Shop::new().await;
    let key = key(0);
    shop.sqlite.first_start(&key, 1).await.unwrap();
    shop.sqlite.insert_fence(&key, 5, "first").await.unwrap();
    let mut unit = shop.sqlite.begin().await.unwrap();
    let advance = Advance { key: &key, from: 5, to: 9, pending: "outputs".into(), owner: "second" };
    assert!(unit.advance(advance).await.unwrap());
    assert!(matches!(unit.commit().await, tidelock::commit::Commit::Committed));
    let expected = Fence {
        next_offset: 9,
        pending_from: Some(5),
        pending: "outputs".into(),
        owner: "second".to_owned(),
    };
    assert_eq!(shop.sqlite.fence(&key).await.unwrap(), Some(expected));
}
