//! What is said of a commit is true.

use sqlx::Row;
use tidelock::{
    commit::Commit,
    database::{Database as _, Unit as _, postgres::PostgresUnit},
};

use super::{
    Shop,
    unit::{advance, effect, fenced, next_offset, run},
};

async fn ready(shop: &Shop) -> PostgresUnit {
    let mut unit = shop.postgres.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    unit
}

async fn nothing_happened(shop: &Shop) {
    assert_eq!((next_offset(shop).await, shop.count("effect").await), (0, 0));
}

/// PostgreSQL answers COMMIT of a failed transaction with success, and rolls back.
#[tokio::test]
async fn a_transaction_that_failed_is_never_committed() {
    let shop = fenced().await;
    let mut unit = shop.postgres.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(sqlx::query("SELECT 1 / 0").execute(unit.connection()).await.is_err());
    assert!(advance(&mut unit, 0, 1).await.is_err());
    assert!(matches!(unit.commit().await, Commit::Aborted(_)));
    nothing_happened(&shop).await;
    // Without a look at the fence.
    let mut unit = shop.postgres.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(sqlx::query("SELECT 1 / 0").execute(unit.connection()).await.is_err());
    assert!(matches!(unit.commit().await, Commit::Aborted(_)));
    nothing_happened(&shop).await;
    // After it.
    let mut unit = ready(&shop).await;
    assert!(sqlx::query("SELECT 1 / 0").execute(unit.connection()).await.is_err());
    assert!(matches!(unit.commit().await, Commit::Aborted(_)));
    nothing_happened(&shop).await;
}

#[tokio::test]
async fn what_the_server_refuses_at_commit_is_aborted() {
    let shop = fenced().await;
    shop.run("ALTER TABLE effect ADD UNIQUE (n) DEFERRABLE INITIALLY DEFERRED").await;
    let mut unit = shop.postgres.begin().await.unwrap();
    effect(&mut unit).await;
    effect(&mut unit).await;
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Aborted(_)));
    nothing_happened(&shop).await;
}

/// As a pooler between us and the server answers when it has lost the server: nobody knows.
#[tokio::test]
async fn an_error_about_the_connection_is_no_answer() {
    let shop = fenced().await;
    shop.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'server conn crashed?' USING ERRCODE = '08P01'; END $$;\
         CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    assert!(matches!(ready(&shop).await.commit().await, Commit::Unknown(_)));
    nothing_happened(&shop).await;
}

#[tokio::test]
async fn a_session_that_was_ended_is_never_committed() {
    let shop = fenced().await;
    let mut unit = ready(&shop).await;
    let row = sqlx::query("SELECT pg_backend_pid()").fetch_one(unit.connection()).await.unwrap();
    // So that nothing is sent between the look at the fence and COMMIT.
    assert!(!advance(&mut unit, 0, 1).await.unwrap());
    assert!(advance(&mut unit, 1, 2).await.unwrap());
    let end = sqlx::query("SELECT pg_terminate_backend($1, 10000)").bind(row.get::<i32, _>(0));
    end.execute(&shop.pool).await.unwrap();
    match unit.commit().await {
        Commit::Committed => panic!("the session had ended"),
        Commit::Aborted(_) | Commit::Unknown(_) => nothing_happened(&shop).await,
    }
    // The pool has got over it.
    assert!(matches!(ready(&shop).await.commit().await, Commit::Committed));
    assert_eq!(next_offset(&shop).await, 1);
}

#[tokio::test]
async fn a_conflict_of_serializable_transactions_is_aborted() {
    let shop = fenced().await;
    let begin = async || {
        let mut unit = shop.postgres.begin().await.unwrap();
        run(&mut unit, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await;
        run(&mut unit, "SELECT count(*) FROM effect").await;
        unit
    };
    let (mut one, mut other) = (begin().await, begin().await);
    effect(&mut one).await;
    effect(&mut other).await;
    assert!(matches!(one.commit().await, Commit::Committed));
    assert!(matches!(other.commit().await, Commit::Aborted(_)));
    assert_eq!(shop.count("effect").await, 1);
}
