//! A difference that is larger than a batch is read in parts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tidelock::database::{Reader as _, Source as _};

use super::{Shop, next, next_batch, not_once, put, texts};

const INSERT_MANY: &str = "INSERT INTO tidelock.outbox (topic, key, payload) \
    SELECT 't', convert_to(n::text, 'UTF8'), convert_to(n::text, 'UTF8') FROM generate_series($1::int, $2::int) n";

async fn many(shop: &Shop, from: i32, to: i32) {
    sqlx::query(INSERT_MANY).bind(from).bind(to).execute(&shop.pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_rows_in_parts_with_restarts_and_concurrent_inserts() {
    let shop = Arc::new(Shop::new().await);
    for n in 0..10 {
        many(&shop, n * 1_000 + 1, (n + 1) * 1_000).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let inserter = {
        let (shop, done) = (shop.clone(), done.clone());
        tokio::spawn(async move {
            let mut n = 10_000;
            while !done.load(Ordering::SeqCst) && n < 14_000 {
                many(&shop, n + 1, n + 10).await;
                n += 10;
            }
            n
        })
    };
    let mut reader = shop.start().await;
    let mut found = Vec::new();
    let (mut batches, mut restarts) = (0, 0);
    let mut inserter = Some(inserter);
    let mut last = None;
    loop {
        let Some(batch) = reader.read(300).await.unwrap() else {
            match inserter.take() {
                Some(inserter) => {
                    done.store(true, Ordering::SeqCst);
                    last = Some(inserter.await.unwrap());
                    continue;
                }
                None => break,
            }
        };
        reader.durable().await.unwrap();
        assert!(batch.rows.len() <= 300, "{} rows", batch.rows.len());
        assert!(batch.rows.is_sorted_by_key(|row| row.seq));
        found.extend(texts(&batch));
        batches += 1;
        if batches % 11 == 3 {
            // As after a crash: nothing but the position is left.
            reader = shop.start_at(&batch.position).await;
            restarts += 1;
        } else if batches % 2 == 0 {
            shop.postgres.clean(batch.published).await.unwrap();
        }
    }
    assert!(restarts >= 3, "{restarts} restarts");
    let expected = (1..=last.unwrap()).map(|n| n.to_string());
    assert_eq!(not_once(expected, &found), BTreeMap::new());
}

#[tokio::test]
async fn a_row_that_commits_during_the_drain_comes_after_it() {
    let shop = Shop::new().await;
    many(&shop, 1, 20).await;
    let mut open = shop.pool.begin().await.unwrap();
    put(&mut open, "k", "late").await;
    many(&shop, 21, 40).await;
    let mut reader = shop.start().await;
    let first = next_batch(&mut reader, 10).await;
    assert_eq!(first.rows.len(), 10);
    // Its seq lies in a part that is still to be read, but it was not committed when the snapshot was taken.
    open.commit().await.unwrap();
    many(&shop, 41, 50).await;
    for restart in [false, true] {
        if restart {
            reader = shop.start_at(&first.position).await;
        }
        let mut rest = Vec::new();
        while rest.len() < 30 {
            rest.extend(texts(&next_batch(&mut reader, 10).await));
        }
        assert_eq!(rest, (11..=40).map(|n| n.to_string()).collect::<Vec<_>>(), "restart {restart}");
        let mut after = Vec::new();
        while after.len() < 11 {
            after.extend(texts(&next_batch(&mut reader, 10).await));
        }
        let expected = std::iter::once("late".to_owned()).chain((41..=50).map(|n| n.to_string()));
        assert_eq!(after, expected.collect::<Vec<_>>(), "restart {restart}");
        assert!(next(&mut reader).await.is_empty());
    }
}

#[tokio::test]
async fn late_rows_alone_may_be_more_than_a_batch() {
    let shop = Shop::new().await;
    let mut open = shop.pool.begin().await.unwrap();
    put(&mut open, "k", "0").await;
    let mut reader = shop.start().await;
    shop.commit("first").await;
    assert_eq!(next(&mut reader).await, ["first"]);
    sqlx::query(INSERT_MANY).bind(1).bind(25).execute(&mut *open).await.unwrap();
    open.commit().await.unwrap();
    let mut found = Vec::new();
    for rows in [10, 10, 6] {
        let batch = next_batch(&mut reader, 10).await;
        assert_eq!(batch.rows.len(), rows);
        found.extend(texts(&batch));
    }
    assert_eq!(found, (0..=25).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(next(&mut reader).await.is_empty());
}

#[tokio::test]
async fn batches_of_large_rows_are_cut_by_bytes() {
    let shop = Shop::new().await;
    let large = "INSERT INTO tidelock.outbox (topic, payload) \
                 SELECT 't', convert_to(repeat(chr(65 + n % 26), $1), 'UTF8') FROM generate_series(1, $2) n";
    sqlx::query(large).bind(1 << 20).bind(40).execute(&shop.pool).await.unwrap();
    sqlx::query(large).bind(20 << 20).bind(2).execute(&shop.pool).await.unwrap();
    let mut reader = shop.start().await;
    let mut seqs = Vec::new();
    while let Some(batch) = reader.read(4_000).await.unwrap() {
        let bytes: usize = batch.rows.iter().map(|row| row.payload.as_ref().unwrap().len()).sum();
        let largest = batch.rows.iter().map(|row| row.payload.as_ref().unwrap().len()).max().unwrap();
        assert!(bytes <= (16 << 20) + largest, "{bytes} bytes in {} rows", batch.rows.len());
        seqs.extend(batch.rows.iter().map(|row| row.seq));
        reader.durable().await.unwrap();
    }
    assert_eq!(seqs, (1..=42).collect::<Vec<_>>());
}
