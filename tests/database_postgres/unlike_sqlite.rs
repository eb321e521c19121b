//! What PostgreSQL does otherwise than SQLite: the list in that one's documentation, line by line. The other half is in
//! `tests/database_sqlite/unlike_postgres.rs`.

use tidelock::{
    commit::Commit,
    database::{Database as _, Enqueue as _, Unit as _},
    error::Kind,
    outbox::Outgoing,
};

use super::{
    Shop,
    unit::{advance, effect, fenced, next_offset, run},
};

const RUIN: &str = "INSERT INTO effect VALUES (NULL)";

fn message() -> Outgoing {
    Outgoing::raw("t", "k", Some("message".into()))
}

async fn done(shop: &Shop) -> (i64, i64) {
    (next_offset(shop).await, shop.count("effect").await)
}

/// And it is told for what it is.
#[tokio::test]
async fn a_failed_statement_takes_its_transaction_along() {
    let shop = fenced().await;
    let mut unit = shop.postgres.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(sqlx::query(RUIN).execute(unit.connection()).await.is_err());
    assert_eq!(advance(&mut unit, 0, 1).await.unwrap_err().kind(), Kind::Unavailable);
    match unit.commit().await {
        Commit::Aborted(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
        other => panic!("{other:?}"),
    }
    let mut transaction = shop.postgres.begin_business().await.unwrap();
    assert!(sqlx::query(RUIN).execute(&mut *transaction).await.is_err());
    let error = shop.postgres.commit_business(transaction, &[message()]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert_eq!(done(&shop).await, (0, 0));
    assert!(shop.outbox().await.is_empty());
}

#[tokio::test]
async fn what_was_committed_from_within_is_not_known() {
    let shop = fenced().await;
    let mut unit = shop.postgres.begin().await.unwrap();
    effect(&mut unit).await;
    run(&mut unit, "COMMIT").await;
    match unit.commit().await {
        Commit::Unknown(error) => assert_eq!(error.kind(), Kind::Handler, "{error}"),
        other => panic!("{other:?}"),
    }
    let mut transaction = shop.postgres.begin_business().await.unwrap();
    sqlx::query("INSERT INTO effect VALUES (1)").execute(&mut *transaction).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut *transaction).await.unwrap();
    let error = shop.postgres.commit_business(transaction, &[message()]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert_eq!(done(&shop).await, (0, 2), "both effects are there");
    assert!(shop.outbox().await.is_empty());
}

#[tokio::test]
async fn a_transaction_of_ones_own_pool_that_was_ended_is_noticed() {
    let shop = Shop::new().await;
    for statement in ["COMMIT", "ROLLBACK"] {
        let mut transaction = shop.pool.begin().await.unwrap();
        sqlx::raw_sql(statement).execute(&mut *transaction).await.unwrap();
        let error = shop.postgres.outbox().enqueue_message(&mut transaction, message()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{statement}: {error}");
    }
    assert!(shop.outbox().await.is_empty());
}

#[tokio::test]
async fn a_bucket_is_computed_by_the_database() {
    let shop = Shop::new().await;
    shop.commit("1").await;
    for statement in [
        "INSERT INTO tidelock.outbox (topic, bucket) VALUES ('t', 0)",
        "UPDATE tidelock.outbox SET bucket = 0",
        "INSERT INTO tidelock.quarantine (origin, state, bucket, message_id, topic, record, reason) \
         VALUES ('outbox', 'held', 0, gen_random_uuid(), 't', '', '')",
    ] {
        let error = sqlx::raw_sql(statement).execute(&shop.pool).await.unwrap_err();
        // generated_always
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "428C9", "{statement}: {error}");
    }
    assert_eq!(shop.count("tidelock.outbox WHERE bucket = get_byte(sha256('key'), 0)").await, 1);
}
