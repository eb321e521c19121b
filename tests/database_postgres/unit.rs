//! A handler's transaction: what it lets in, and what ends it.

use std::time::Duration;

use sqlx::{Connection as _, Row};
use tidelock::{
    commit::Commit,
    database::{
        Advance, Advanced, Database as _, FenceKey, Unit as _,
        postgres::{Postgres, PostgresConfig, PostgresUnit},
    },
    error::{Kind, Result},
};

use super::{Shop, eventually};

pub(super) fn key(partition: i32) -> FenceKey {
    FenceKey { group: "group".into(), topic: "topic".into(), partition }
}

/// A shop with a fence at 0 and a table for effects.
pub(super) async fn fenced() -> Shop {
    let shop = Shop::new().await;
    shop.postgres.first_start(&key(0), 1).await.unwrap();
    shop.postgres.insert_fence(&key(0), 0, "first").await.unwrap();
    shop.run("CREATE TABLE effect (n int NOT NULL)").await;
    shop
}

pub(super) async fn effect(unit: &mut PostgresUnit) {
    run(unit, "INSERT INTO effect VALUES (1)").await;
}

pub(super) async fn run(unit: &mut PostgresUnit, statement: &'static str) {
    sqlx::raw_sql(statement).execute(unit.connection()).await.unwrap();
}

pub(super) async fn advance(unit: &mut PostgresUnit, from: i64, to: i64) -> Result<bool> {
    let key = key(0);
    unit.advance(Advance { key: &key, from, to, pending: Default::default(), owner: "owner" })
        .await
        .map(|advanced| advanced != Advanced::Stale)
}

pub(super) async fn next_offset(shop: &Shop) -> i64 {
    shop.postgres.fence(&key(0)).await.unwrap().unwrap().next_offset
}

#[tokio::test]
async fn the_fence_lets_one_of_two_owners_through() {
    let shop = fenced().await;
    let (mut first, mut second) =
        (shop.postgres.begin().await.unwrap(), shop.postgres.begin().await.unwrap());
    effect(&mut first).await;
    effect(&mut second).await;
    assert!(advance(&mut first, 0, 10).await.unwrap());
    let second = tokio::spawn(async move {
        // Waits for the row that the first one holds.
        let passed = advance(&mut second, 0, 7).await.unwrap();
        second.rollback().await;
        passed
    });
    eventually("the second owner waits", || async {
        shop.count("pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").await
            == 1
    })
    .await;
    assert!(matches!(first.commit().await, Commit::Committed));
    assert!(!second.await.unwrap());
    assert_eq!((next_offset(&shop).await, shop.count("effect").await), (10, 1));
}

#[tokio::test]
async fn a_savepoint_of_a_handler_is_its_own_affair() {
    let shop = fenced().await;
    let mut unit = shop.postgres.begin().await.unwrap();
    effect(&mut unit).await;
    let mut nested = unit.connection().begin().await.unwrap();
    sqlx::query("INSERT INTO effect VALUES (2)").execute(&mut *nested).await.unwrap();
    nested.commit().await.unwrap();
    let mut nested = unit.connection().begin().await.unwrap();
    assert!(sqlx::query("SELECT 1 / 0").execute(&mut *nested).await.is_err());
    nested.rollback().await.unwrap();
    let mut nested = unit.connection().begin().await.unwrap();
    sqlx::query("INSERT INTO effect VALUES (3)").execute(&mut *nested).await.unwrap();
    drop(nested);
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
    assert_eq!((next_offset(&shop).await, shop.count("effect").await), (1, 2));
}

#[tokio::test]
async fn dropped_in_the_middle_of_a_query() {
    let shop = fenced().await;
    let config =
        PostgresConfig { url: shop.url.clone().into(), max_connections: 1, ..PostgresConfig::default() };
    let postgres = Postgres::connect(config).await.unwrap();
    for _ in 0..3 {
        let mut unit = postgres.begin().await.unwrap();
        effect(&mut unit).await;
        assert!(advance(&mut unit, 0, 1).await.unwrap());
        let sleeping = sqlx::query("SELECT pg_sleep(0.2)").execute(unit.connection());
        assert!(tokio::time::timeout(Duration::from_millis(50), sleeping).await.is_err());
        drop(unit);
    }
    // The only connection of the pool, as good as new.
    let mut unit = postgres.begin().await.unwrap();
    let count = sqlx::query("SELECT count(*) FROM effect").fetch_one(unit.connection()).await.unwrap();
    assert_eq!((count.get::<i64, _>(0), next_offset(&shop).await), (0, 0));
    effect(&mut unit).await;
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
    assert_eq!(shop.count("effect").await, 1);
}

#[tokio::test]
async fn a_handler_that_sleeps_too_long_loses_its_transaction() {
    let shop = fenced().await;
    let config = PostgresConfig {
        url: shop.url.clone().into(),
        idle_in_transaction_timeout: Duration::from_millis(100),
        ..PostgresConfig::default()
    };
    let postgres = Postgres::connect(config).await.unwrap();
    let mut unit = postgres.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    let session = "pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    eventually("the server ends it", || async { shop.count(session).await == 0 }).await;
    assert!(!matches!(unit.commit().await, Commit::Committed));
    assert_eq!((next_offset(&shop).await, shop.count("effect").await), (0, 0));
    // Statements that take longer are no sleep, and the setting does not outlive the transaction.
    let mut unit = postgres.begin().await.unwrap();
    run(&mut unit, "SELECT pg_sleep(0.3)").await;
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
    let left = sqlx::query("SELECT current_setting('idle_in_transaction_session_timeout')");
    assert_eq!(left.fetch_one(postgres.pool()).await.unwrap().get::<String, _>(0), "0");
}

/// The log has the outputs and the offset when the server crashes: the effect must be there too. What merely waits for
/// more or fewer standbys is the service's own choice.
#[tokio::test]
async fn commits_are_durable_whatever_the_default_is() {
    let shop = fenced().await;
    let (_, name) = shop.url.rsplit_once('/').unwrap();
    for (default, expected) in
        [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply", "remote_apply")]
    {
        shop.run(&format!("ALTER DATABASE {name} SET synchronous_commit = {default}")).await;
        let again = shop.again().await;
        let setting = "SELECT current_setting('synchronous_commit')";
        let mut unit = again.postgres.begin().await.unwrap();
        let from = next_offset(&shop).await;
        assert!(advance(&mut unit, from, from + 1).await.unwrap());
        let row = sqlx::query(setting).fetch_one(unit.connection()).await.unwrap();
        assert_eq!(row.get::<String, _>(0), expected, "where the default is {default}");
        assert!(matches!(unit.commit().await, Commit::Committed));
        let row = sqlx::query(setting).fetch_one(again.postgres.pool()).await.unwrap();
        assert_eq!(row.get::<String, _>(0), default, "outside of a handler's transaction");
    }
    let mut unit = shop.postgres.begin().await.unwrap();
    run(&mut unit, "SET synchronous_commit = off").await;
    assert!(advance(&mut unit, 4, 5).await.unwrap());
    let row = sqlx::query("SELECT current_setting('synchronous_commit')").fetch_one(unit.connection()).await;
    assert_eq!(row.unwrap().get::<String, _>(0), "on", "though a handler turned it off");
    unit.rollback().await;
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_is_noticed() {
    for statement in ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN", "COMMIT; BEGIN", "ROLLBACK AND CHAIN"] {
        let shop = fenced().await;
        let mut unit = shop.postgres.begin().await.unwrap();
        run(&mut unit, statement).await;
        let error = advance(&mut unit, 0, 1).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Handler, "{statement}: {error}");
        unit.rollback().await;
        assert_eq!(next_offset(&shop).await, 0, "{statement}");
        // The same in a transaction that has nothing to advance.
        let mut unit = shop.postgres.begin().await.unwrap();
        run(&mut unit, statement).await;
        match unit.commit().await {
            Commit::Unknown(error) => assert_eq!(error.kind(), Kind::Handler, "{statement}: {error}"),
            other => panic!("{statement}: {other:?}"),
        }
    }
}
