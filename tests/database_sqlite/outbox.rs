//! The write side: what is enqueued, in which order, and when.

use sqlx::Connection as _;
use tidelock::outbox::Outgoing;

use super::{Shop, next, next_batch, put, text};
use crate::conformance::made;

#[tokio::test]
async fn messages_are_inserted_just_before_commit() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let mut early = shop.sqlite.outbox().begin().await.unwrap();
    let id = early.enqueue(&made(1)).unwrap();
    put(&mut early, "k1", "by hand").await;
    early.commit().await.unwrap();
    let rows = next_batch(&mut reader, 10).await.rows;
    assert_eq!(text(rows[0].payload.as_ref()), "by hand");
    assert_eq!(rows[1].id, id);
}

#[tokio::test]
async fn what_is_rolled_back_was_never_there() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let outbox = shop.sqlite.outbox();
    let mut transaction = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    outbox.enqueue(&mut transaction, &made(1)).await.unwrap();
    transaction.rollback().await.unwrap();

    shop.run("CREATE TABLE effect (n int)").await;
    let mut dropped = outbox.begin().await.unwrap();
    dropped.enqueue(&made(2)).unwrap();
    sqlx::query("INSERT INTO effect VALUES (1)").execute(&mut *dropped).await.unwrap();
    drop(dropped);

    // A savepoint of one's own inside.
    let mut kept = outbox.begin().await.unwrap();
    let mut nested = kept.begin().await.unwrap();
    outbox.enqueue(&mut nested, &made(3)).await.unwrap();
    nested.rollback().await.unwrap();
    kept.enqueue_message(Outgoing::raw("t", "k", Some("kept".into())));
    kept.commit().await.unwrap();

    assert_eq!(next(&mut reader).await, ["kept"]);
    assert_eq!(shop.count("effect").await, 0);
}

/// As a full disk does, and `OR ROLLBACK`.
#[tokio::test]
async fn a_transaction_that_failed_does_not_report_success() {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE effect (n int UNIQUE)").await;
    for with_message in [true, false] {
        let mut transaction = shop.sqlite.outbox().begin().await.unwrap();
        sqlx::query("INSERT INTO effect VALUES (1)").execute(&mut *transaction).await.unwrap();
        let twice = sqlx::query("INSERT OR ROLLBACK INTO effect VALUES (1)").execute(&mut *transaction).await;
        assert!(twice.is_err());
        if with_message {
            transaction.enqueue(&made(1)).unwrap();
        }
        assert!(transaction.commit().await.is_err(), "with a message: {with_message}");
    }
    assert!(shop.outbox().await.is_empty());
    assert_eq!(shop.count("effect").await, 0);
}

/// Rows that a trigger or another program writes.
#[tokio::test]
async fn a_row_written_by_hand_has_an_id_and_a_time() {
    let shop = Shop::new().await;
    shop.run(
        "INSERT INTO tidelock_outbox (topic, payload, headers, bucket) VALUES ('t', x'00', '{\"a\": 1}', 227)",
    )
    .await;
    let batch = next_batch(&mut shop.start().await, 10).await;
    let row = &batch.rows[0];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    assert!(
        (now - 60_000_000..=now + 1_000_000).contains(&row.time_us),
        "{} is not about {now}",
        row.time_us
    );
    assert_eq!(row.headers.as_ref().unwrap()["a"], 1);
}

#[tokio::test]
async fn rows_that_cannot_be_published_in_order_are_refused() {
    let shop = Shop::new().await;
    shop.commit_all(super::numbers(1, 3)).await;
    for statement in [
        "INSERT INTO tidelock_outbox (seq, topic, bucket) VALUES (0, 't', 0)",
        "INSERT OR REPLACE INTO tidelock_outbox (seq, topic, bucket) VALUES (2, 't', 0)",
        "UPDATE tidelock_outbox SET seq = 9 WHERE seq = 1",
        "INSERT INTO tidelock_outbox (topic, bucket) VALUES ('t', 256)",
        "INSERT INTO tidelock_outbox (topic) VALUES ('t')",
        "INSERT INTO tidelock_outbox (topic, bucket, headers) VALUES ('t', 0, '[]')",
        "INSERT INTO tidelock_outbox (topic, bucket, headers) VALUES ('t', 0, 'a: b')",
        "INSERT INTO tidelock_outbox (topic, bucket, id) VALUES ('t', 0, 'short')",
    ] {
        assert!(sqlx::raw_sql(statement).execute(&shop.pool).await.is_err(), "{statement}");
    }
    assert_eq!(shop.outbox().await, super::numbers(1, 3));
}

/// Also as the very first row, when nothing was given out yet: below 1 the relay would never read it.
#[tokio::test]
async fn a_first_row_cannot_name_its_place_below_the_first() {
    for seq in ["0", "-1", "-9223372036854775808"] {
        let shop = Shop::new().await;
        let first = format!("INSERT INTO tidelock_outbox (seq, topic, bucket) VALUES ({seq}, 't', 0)");
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(first)).execute(&shop.pool).await.unwrap_err();
        assert!(error.to_string().contains("seq of tidelock_outbox is given by the database"), "{error}");
        assert!(shop.outbox().await.is_empty());
        shop.commit("first").await;
        assert_eq!(next(&mut shop.start().await).await, ["first"]);
    }
}
