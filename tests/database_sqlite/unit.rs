//! A handler's transaction: what it lets in, and what ends it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Row};
use tidelock::{
    commit::Commit,
    database::{
        Advance, Advanced, Database as _, FenceKey, Unit as _,
        sqlite::{Sqlite, SqliteUnit},
    },
    error::{Kind, Result},
};

use super::Shop;

pub(super) fn key(partition: i32) -> FenceKey {
    FenceKey { group: "group".into(), topic: "topic".into(), partition }
}

/// A shop with a fence at 0 and a table for effects.
pub(super) async fn fenced() -> Shop {
    let shop = Shop::new().await;
    prepare(&shop.sqlite).await;
    shop
}

pub(super) async fn prepare(sqlite: &Sqlite) {
    sqlite.first_start(&key(0), 1).await.unwrap();
    sqlite.insert_fence(&key(0), 0, "first").await.unwrap();
    let mut unit = sqlite.begin().await.unwrap();
    run(&mut unit, "CREATE TABLE effect (n int NOT NULL)").await;
    assert!(matches!(unit.commit().await, Commit::Committed));
}

pub(super) async fn effect(unit: &mut SqliteUnit) {
    run(unit, "INSERT INTO effect VALUES (1)").await;
}

pub(super) async fn run(unit: &mut SqliteUnit, statement: &str) {
    attempt(unit, statement).await.unwrap();
}

pub(super) async fn attempt(unit: &mut SqliteUnit, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(unit.connection()).await.map(|_| ())
}

pub(super) async fn advance(unit: &mut SqliteUnit, from: i64, to: i64) -> Result<bool> {
    let key = key(0);
    unit.advance(Advance { key: &key, from, to, pending: Default::default(), owner: "owner" })
        .await
        .map(|advanced| advanced != Advanced::Stale)
}

pub(super) async fn next_offset(sqlite: &Sqlite) -> i64 {
    sqlite.fence(&key(0)).await.unwrap().unwrap().next_offset
}

/// In two processes: the second waits for the first inside SQLite.
#[tokio::test(flavor = "multi_thread")]
async fn the_fence_lets_one_of_two_owners_through() {
    let shop = fenced().await;
    let other = shop.again().await;
    let mut first = shop.sqlite.begin().await.unwrap();
    effect(&mut first).await;
    assert!(advance(&mut first, 0, 10).await.unwrap());
    let second = tokio::spawn(async move {
        let mut second = other.begin().await.unwrap();
        effect(&mut second).await;
        let passed = advance(&mut second, 0, 7).await.unwrap();
        second.rollback().await;
        passed
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished());
    assert!(matches!(first.commit().await, Commit::Committed));
    assert!(!second.await.unwrap());
    assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (10, 1));
}

#[tokio::test]
async fn a_savepoint_of_a_handler_is_its_own_affair() {
    let shop = fenced().await;
    let mut unit = shop.sqlite.begin().await.unwrap();
    effect(&mut unit).await;
    let mut nested = unit.connection().begin().await.unwrap();
    sqlx::query("INSERT INTO effect VALUES (2)").execute(&mut *nested).await.unwrap();
    nested.commit().await.unwrap();
    let mut nested = unit.connection().begin().await.unwrap();
    assert!(sqlx::query("INSERT INTO effect VALUES (NULL)").execute(&mut *nested).await.is_err());
    nested.rollback().await.unwrap();
    let mut nested = unit.connection().begin().await.unwrap();
    sqlx::query("INSERT INTO effect VALUES (3)").execute(&mut *nested).await.unwrap();
    drop(nested);
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
    assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (1, 2));
}

#[tokio::test]
async fn a_unit_that_is_dropped_rolls_back_before_the_next_one() {
    let shop = fenced().await;
    for _ in 0..20 {
        let mut unit = shop.sqlite.begin().await.unwrap();
        effect(&mut unit).await;
        assert!(advance(&mut unit, 0, 1).await.unwrap());
        drop(unit);
        let mut unit = shop.sqlite.begin().await.unwrap();
        let count = sqlx::query("SELECT count(*) FROM effect").fetch_one(unit.connection()).await.unwrap();
        assert_eq!(count.get::<i64, _>(0), 0);
        unit.rollback().await;
        assert_eq!(next_offset(&shop.sqlite).await, 0);
    }
}

const SLOW: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) \
                    INSERT INTO effect SELECT max(i) FROM n";

#[tokio::test]
async fn dropped_in_the_middle_of_a_statement() {
    let shop = fenced().await;
    for _ in 0..3 {
        let mut unit = shop.sqlite.begin().await.unwrap();
        effect(&mut unit).await;
        assert!(advance(&mut unit, 0, 1).await.unwrap());
        let slow = attempt(&mut unit, SLOW);
        assert!(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err());
        drop(unit);
    }
    let mut unit = shop.sqlite.begin().await.unwrap();
    assert_eq!(shop.count("effect").await, 0);
    effect(&mut unit).await;
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
    assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (1, 1));
}

/// What a handler began and did not wait for belongs to its transaction all the same.
#[tokio::test]
async fn a_statement_that_was_not_waited_for_is_done_before_the_commit() {
    let shop = fenced().await;
    let mut unit = shop.sqlite.begin().await.unwrap();
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    let slow = attempt(&mut unit, SLOW);
    assert!(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err());
    assert!(matches!(unit.commit().await, Commit::Committed));
    assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (1, 1));
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_is_noticed() {
    for statement in ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN", "COMMIT; BEGIN", "ROLLBACK; BEGIN IMMEDIATE"] {
        let shop = fenced().await;
        let mut unit = shop.sqlite.begin().await.unwrap();
        effect(&mut unit).await;
        // COMMIT is refused, and rolls back.
        assert_eq!(attempt(&mut unit, statement).await.is_err(), statement.starts_with("COMMIT"));
        // Whatever it does next is not committed by itself.
        let _ = attempt(&mut unit, "INSERT INTO effect VALUES (2)").await;
        let error = advance(&mut unit, 0, 1).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Handler, "{statement}: {error}");
        unit.rollback().await;
        nothing_happened(&shop, statement).await;
        // The same in a transaction that has nothing to advance, and after a look at the fence.
        for looks in [false, true] {
            let mut unit = shop.sqlite.begin().await.unwrap();
            effect(&mut unit).await;
            assert!(!looks || advance(&mut unit, 0, 1).await.unwrap());
            let _ = attempt(&mut unit, statement).await;
            match unit.commit().await {
                Commit::Aborted(error) => assert_eq!(error.kind(), Kind::Handler, "{statement}: {error}"),
                other => panic!("{statement}: {other:?}"),
            }
            nothing_happened(&shop, statement).await;
        }
        let mut unit = shop.sqlite.begin().await.unwrap();
        effect(&mut unit).await;
        assert!(advance(&mut unit, 0, 1).await.unwrap());
        assert!(matches!(unit.commit().await, Commit::Committed), "the connection is as good as new");
        assert_eq!(shop.count("effect").await, 1);
    }
}

async fn nothing_happened(shop: &Shop, statement: &str) {
    assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (0, 0), "{statement}");
}

/// The commit looks whether the transaction is still its own after everything that was begun before.
#[tokio::test]
async fn a_statement_that_was_not_waited_for_may_end_the_transaction() {
    let shop = fenced().await;
    let mut unit = shop.sqlite.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    for statement in [SLOW, "ROLLBACK", "BEGIN"] {
        let begun = attempt(&mut unit, statement);
        assert!(tokio::time::timeout(Duration::ZERO, begun).await.is_err());
    }
    assert!(matches!(unit.commit().await, Commit::Aborted(_)));
    nothing_happened(&shop, "ROLLBACK; BEGIN").await;
}
