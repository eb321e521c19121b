//! What SQLite does otherwise than PostgreSQL: the list in its documentation, line by line. The other half is in
//! `tests/database_postgres/unlike_sqlite.rs`.

use tidelock::{
    commit::Commit,
    database::{Database as _, Enqueue as _, Unit as _},
    error::Kind,
    outbox::Outgoing,
};

use super::{
    Shop,
    unit::{advance, attempt, effect, fenced, next_offset, run},
};

const RUIN: &str = "INSERT OR ROLLBACK INTO effect VALUES (NULL)";

fn message() -> Outgoing {
    Outgoing::raw("t", "k", Some("message".into()))
}

async fn done(shop: &Shop) -> (i64, i64) {
    (next_offset(&shop.sqlite).await, shop.count("effect").await)
}

#[tokio::test]
async fn a_failed_statement_is_undone_alone() {
    let shop = fenced().await;
    let mut unit = shop.sqlite.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(attempt(&mut unit, "INSERT INTO effect VALUES (NULL)").await.is_err());
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
    let mut transaction = shop.sqlite.begin_business().await.unwrap();
    assert!(sqlx::query("INSERT INTO effect VALUES (NULL)").execute(&mut *transaction).await.is_err());
    shop.sqlite.commit_business(transaction, &[message()]).await.unwrap();
    assert_eq!(done(&shop).await, (1, 1));
    assert_eq!(shop.outbox().await, ["message"]);
}

#[tokio::test]
async fn what_undid_everything_is_told_as_if_a_statement_had_ended_it() {
    let shop = fenced().await;
    let mut unit = shop.sqlite.begin().await.unwrap();
    assert!(attempt(&mut unit, RUIN).await.is_err());
    assert_eq!(advance(&mut unit, 0, 1).await.unwrap_err().kind(), Kind::Handler);
    match unit.commit().await {
        Commit::Aborted(error) => assert_eq!(error.kind(), Kind::Handler, "{error}"),
        other => panic!("{other:?}"),
    }
    let mut transaction = shop.sqlite.begin_business().await.unwrap();
    assert!(sqlx::query(RUIN).execute(&mut *transaction).await.is_err());
    let error = shop.sqlite.commit_business(transaction, &[message()]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
}

#[tokio::test]
async fn a_commit_from_within_rolls_back_and_that_is_known() {
    let shop = fenced().await;
    let mut unit = shop.sqlite.begin().await.unwrap();
    run(&mut unit, "INSERT INTO effect VALUES (1)").await;
    assert!(attempt(&mut unit, "COMMIT").await.is_err());
    assert!(matches!(unit.commit().await, Commit::Aborted(_)));
    let mut transaction = shop.sqlite.begin_business().await.unwrap();
    sqlx::query("INSERT INTO effect VALUES (1)").execute(&mut *transaction).await.unwrap();
    assert!(sqlx::raw_sql("COMMIT").execute(&mut *transaction).await.is_err());
    let error = shop.sqlite.commit_business(transaction, &[message()]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert_eq!(done(&shop).await, (0, 0));
    assert!(shop.outbox().await.is_empty());
}

#[tokio::test]
async fn nobody_notices_that_a_transaction_of_ones_own_pool_was_ended() {
    let shop = Shop::new().await;
    for statement in ["COMMIT", "ROLLBACK"] {
        let mut transaction = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::raw_sql(statement).execute(&mut *transaction).await.unwrap();
        shop.sqlite.outbox().enqueue_message(&mut transaction, message()).await.unwrap();
    }
    assert_eq!(shop.outbox().await, ["message", "message"]);
}

/// What comes of a wrong one is in `shards.rs`.
#[tokio::test]
async fn a_bucket_is_whatever_was_written() {
    let shop = Shop::new().await;
    shop.run("INSERT INTO tidelock_outbox (topic, key, bucket) VALUES ('t', CAST('key' AS BLOB), 0)").await;
    assert_ne!(super::bucket(Some("key")), 0);
    assert_eq!(shop.count("tidelock_outbox WHERE bucket = 0").await, 1);
}
