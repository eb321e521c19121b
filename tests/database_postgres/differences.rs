//! Every committed row exactly once, whatever the order of commits; nothing that was rolled back.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::Row;
use tidelock::database::Reader as _;

use super::{Shop, next, not_once, put, text};

#[tokio::test]
async fn commits_out_of_order() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let (mut first, mut second) = (shop.pool.begin().await.unwrap(), shop.pool.begin().await.unwrap());
    put(&mut first, "k", "first").await;
    put(&mut second, "k", "second").await;
    assert!(next(&mut reader).await.is_empty(), "nothing is committed");
    second.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, ["second"]);
    first.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, ["first"]);
    assert!(next(&mut reader).await.is_empty());
}

#[tokio::test]
async fn rows_of_interleaved_transactions_come_in_order_of_seq() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let (mut late, mut new) = (shop.pool.begin().await.unwrap(), shop.pool.begin().await.unwrap());
    put(&mut late, "k", "1").await;
    put(&mut new, "k", "2").await;
    // The position knows `late` as running: its rows come by another statement than those of `new`.
    shop.commit("between").await;
    assert_eq!(next(&mut reader).await, ["between"]);
    let mut newest = shop.pool.begin().await.unwrap();
    put(&mut newest, "k", "3").await;
    put(&mut late, "k", "4").await;
    put(&mut newest, "k", "5").await;
    put(&mut new, "k", "6").await;
    for transaction in [newest, new, late] {
        transaction.commit().await.unwrap();
    }
    assert_eq!(next(&mut reader).await, ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn a_long_transaction_holds_nothing_back_and_loses_nothing() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let mut long = shop.pool.begin().await.unwrap();
    put(&mut long, "k", "long 1").await;
    for round in 0..20 {
        let text = round.to_string();
        shop.commit(&text).await;
        assert_eq!(next(&mut reader).await, [text]);
    }
    put(&mut long, "k", "long 2").await;
    long.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, ["long 1", "long 2"]);
    assert!(next(&mut reader).await.is_empty());
}

#[tokio::test]
async fn savepoints_and_rollbacks() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let mut transaction = shop.pool.begin().await.unwrap();
    let mut expected = Vec::new();
    // More subtransactions than the server caches, all in one xid.
    for n in 0..80 {
        sqlx::query("SAVEPOINT s").execute(&mut *transaction).await.unwrap();
        put(&mut transaction, "k", &n.to_string()).await;
        if n % 3 == 0 {
            sqlx::query("ROLLBACK TO s").execute(&mut *transaction).await.unwrap();
        } else {
            expected.push(n.to_string());
        }
        if n == 70 {
            shop.commit("other").await;
            assert_eq!(next(&mut reader).await, ["other"], "read while 70 subtransactions are open");
        }
    }
    transaction.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, expected);

    let mut undone = shop.pool.begin().await.unwrap();
    put(&mut undone, "k", "undone").await;
    undone.rollback().await.unwrap();
    assert!(next(&mut reader).await.is_empty());
}

#[tokio::test]
async fn prepared_transactions() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let mut connection = shop.pool.acquire().await.unwrap();
    for (name, text) in [("kept", "kept"), ("given_up", "given up")] {
        sqlx::query("BEGIN").execute(&mut *connection).await.unwrap();
        put(&mut connection, "k", text).await;
        let name = format!("PREPARE TRANSACTION '{name}_{}'", std::process::id());
        sqlx::query(sqlx::AssertSqlSafe(name)).execute(&mut *connection).await.unwrap();
    }
    shop.commit("other").await;
    assert_eq!(next(&mut reader).await, ["other"]);
    shop.run(&format!("ROLLBACK PREPARED 'given_up_{}'", std::process::id())).await;
    assert!(next(&mut reader).await.is_empty());
    shop.run(&format!("COMMIT PREPARED 'kept_{}'", std::process::id())).await;
    assert_eq!(next(&mut reader).await, ["kept"]);
    assert!(next(&mut reader).await.is_empty());
}

#[tokio::test]
async fn a_new_reader_goes_on_where_the_position_stands() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let mut open = shop.pool.begin().await.unwrap();
    put(&mut open, "k", "open").await;
    shop.commit("published").await;
    let batch = super::next_batch(&mut reader, 100).await;
    shop.commit("new").await;
    open.commit().await.unwrap();
    let mut reader = shop.start_at(&batch.position).await;
    assert_eq!(next(&mut reader).await, ["open", "new"]);
}

/// Writers lock their entity, raise its version, then insert; some roll back. A reader reads meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_per_key_under_concurrent_writers() {
    const WRITERS: i32 = 4;
    const ROUNDS: i32 = 60;
    let shop = Arc::new(Shop::new().await);
    shop.run("CREATE TABLE entity (id int PRIMARY KEY, version int NOT NULL); INSERT INTO entity VALUES (0, 0), (1, 0)")
        .await;
    let running = Arc::new(AtomicU32::new(WRITERS as u32));
    for writer in 0..WRITERS {
        let (shop, running) = (shop.clone(), running.clone());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let mut transaction = shop.pool.begin().await.unwrap();
                // Takes its xid before it waits for the lock: xids are no order.
                sqlx::query("SELECT pg_current_xact_id()").execute(&mut *transaction).await.unwrap();
                let id = (writer + round) % 2;
                let raise = "UPDATE entity SET version = version + 1 WHERE id = $1 RETURNING version";
                let row = sqlx::query(raise).bind(id).fetch_one(&mut *transaction).await.unwrap();
                put(&mut transaction, &id.to_string(), &row.get::<i32, _>(0).to_string()).await;
                match round % 7 {
                    6 => transaction.rollback().await.unwrap(),
                    _ => transaction.commit().await.unwrap(),
                }
            }
            running.fetch_sub(1, Ordering::SeqCst);
        });
    }
    let mut reader = shop.start().await;
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        let over = running.load(Ordering::SeqCst) == 0;
        let Some(batch) = reader.read(1_000).await.unwrap() else {
            if over {
                break;
            }
            continue;
        };
        for row in &batch.rows {
            versions.entry(text(row.key.as_ref())).or_default().push(text(row.payload.as_ref()));
        }
    }
    assert_eq!(versions.len(), 2);
    for (key, found) in versions {
        let row = sqlx::query("SELECT version FROM entity WHERE id = $1::text::int").bind(&key);
        let last: i32 = row.fetch_one(&shop.pool).await.unwrap().get(0);
        let expected: Vec<String> = (1..=last).map(|version| version.to_string()).collect();
        assert_eq!(not_once(expected.clone(), &found), BTreeMap::new(), "key {key}");
        assert_eq!(found, expected, "key {key}");
    }
}
