//! The write side: what is enqueued, in which order, and when.

use sqlx::Connection as _;
use tidelock::{error::Kind, outbox::Outgoing};

use super::{Shop, next, next_batch, put, text};
use crate::conformance::made;

/// Messages are numbered after every lock: whoever committed meanwhile, and may have held the entity before, comes first.
#[tokio::test]
async fn messages_are_inserted_just_before_commit() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let mut early = shop.postgres.outbox().begin().await.unwrap();
    let id = early.enqueue(&made(1)).unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *early).await.unwrap();
    let inside: i64 = {
        use sqlx::Row;
        let count = sqlx::query("SELECT count(*) FROM tidelock.outbox");
        count.fetch_one(&mut *early).await.unwrap().get(0)
    };
    assert_eq!(inside, 0, "not inserted yet, not even to its own transaction");
    let mut other = shop.pool.begin().await.unwrap();
    put(&mut other, "k1", "other").await;
    early.commit().await.unwrap();
    other.commit().await.unwrap();
    let rows = next_batch(&mut reader, 10).await.rows;
    assert_eq!(text(rows[0].payload.as_ref()), "other");
    assert_eq!(rows[1].id, id);
}

#[tokio::test]
async fn what_is_rolled_back_was_never_there() {
    let shop = Shop::new().await;
    let mut reader = shop.start().await;
    let outbox = shop.postgres.outbox();
    let mut transaction = shop.postgres.pool().begin().await.unwrap();
    outbox.enqueue(&mut transaction, &made(1)).await.unwrap();
    transaction.rollback().await.unwrap();

    let mut dropped = outbox.begin().await.unwrap();
    dropped.enqueue(&made(2)).unwrap();
    shop.run("CREATE TABLE effect (n int)").await;
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

/// PostgreSQL answers COMMIT of a failed transaction with success, and rolls back.
#[tokio::test]
async fn a_transaction_that_failed_does_not_report_success() {
    let shop = Shop::new().await;
    for with_message in [true, false] {
        let mut transaction = shop.postgres.outbox().begin().await.unwrap();
        assert!(sqlx::query("SELECT 1 / 0").execute(&mut *transaction).await.is_err());
        if with_message {
            transaction.enqueue(&made(1)).unwrap();
        }
        assert!(transaction.commit().await.is_err(), "with a message: {with_message}");
    }
    assert!(shop.outbox().await.is_empty());
}

#[tokio::test]
async fn a_transaction_that_was_ended_enqueues_nothing() {
    let shop = Shop::new().await;
    let outbox = shop.postgres.outbox();
    for statement in ["COMMIT", "ROLLBACK"] {
        for with_message in [true, false] {
            let mut transaction = outbox.begin().await.unwrap();
            sqlx::query("SELECT pg_current_xact_id()").execute(&mut *transaction).await.unwrap();
            sqlx::raw_sql(statement).execute(&mut *transaction).await.unwrap();
            if with_message {
                transaction.enqueue(&made(1)).unwrap();
            }
            let error = transaction.commit().await.unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{statement}, with a message: {with_message}");
        }
    }
    assert!(shop.outbox().await.is_empty());
}
