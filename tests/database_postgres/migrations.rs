//! The framework's own tables are made once, by whoever comes first.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Transaction, postgres::PgPoolOptions};
use tidelock::{
    database::{
        Database as _, Reader as _, Source as _, Unit as _,
        postgres::{Postgres, PostgresConfig},
    },
    error::Kind,
    outbox::Outgoing,
};

use super::{ALL, Shop, eventually};
use crate::conformance::within;

async fn in_schema(shop: &Shop, schema: &str) -> Postgres {
    let config = PostgresConfig {
        url: shop.url.clone().into(),
        schema: schema.to_owned(),
        ..PostgresConfig::default()
    };
    Postgres::connect(config).await.unwrap()
}

/// Where transactions are REPEATABLE READ by default, whoever waited for the lock must still see what was done.
#[tokio::test]
async fn ten_at_once_whatever_the_default_isolation() {
    let shop = Shop::bare().await;
    let (_, name) = shop.url.rsplit_once('/').unwrap();
    shop.run(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")).await;
    let instances = join_all((0..10).map(|_| shop.again())).await;
    for outcome in join_all(instances.iter().map(|each| each.postgres.migrate())).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn in_a_schema_of_another_name() {
    let shop = Shop::bare().await;
    let postgres = in_schema(&shop, "mail_2").await;
    postgres.migrate().await.unwrap();
    postgres.check().await.unwrap();
    assert_eq!(shop.count("pg_namespace WHERE nspname = 'tidelock'").await, 0);
    let outbox = postgres.outbox();
    let mut transaction = outbox.begin().await.unwrap();
    transaction.enqueue_message(Outgoing::raw("t", "k", None));
    transaction.commit().await.unwrap();
    let mut reader = postgres.reader(ALL, &postgres.origin().await.unwrap()).await.unwrap();
    assert_eq!(reader.read(10).await.unwrap().unwrap().rows.len(), 1);
    let mut unit = postgres.begin().await.unwrap();
    assert!(unit.admit("g", &[]).await.unwrap().is_empty());
    assert!(matches!(unit.commit().await, tidelock::commit::Commit::Committed));
    // A second one beside it.
    let other = in_schema(&shop, "tidelock").await;
    other.migrate().await.unwrap();
    assert_eq!(shop.count("tidelock.outbox").await, 0);
}

#[tokio::test]
async fn a_newer_version_is_refused_unless_it_only_added() {
    let shop = Shop::new().await;
    shop.run("INSERT INTO tidelock.migration (version, needs) VALUES (976, 1)").await;
    shop.postgres.migrate().await.unwrap();
    shop.run("INSERT INTO tidelock.migration (version, needs) VALUES (977, 975)").await;
    let error = shop.postgres.migrate().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let text = error.to_string();
    assert!(
        text.contains("version 977")
            && text.contains("version 975 or later")
            && text.contains("up to version "),
        "{text}"
    );
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing() {
    let shop = Shop::bare().await;
    shop.run("CREATE SCHEMA tidelock; CREATE TABLE tidelock.inbox (not_ours int)").await;
    assert!(shop.postgres.migrate().await.is_err());
    assert_eq!(shop.count("pg_tables WHERE schemaname = 'tidelock'").await, 1);
    shop.run("DROP TABLE tidelock.inbox").await;
    shop.postgres.migrate().await.unwrap();
    shop.postgres.check().await.unwrap();
}

const VERSION_4: &str = "tidelock.migration WHERE version = 4";

/// As before version 4, which changes a table that somebody is reading.
async fn in_use() -> (Shop, Transaction<'static, sqlx::Postgres>) {
    let shop = Shop::new().await;
    shop.run(&format!("ALTER TABLE tidelock.fence DROP COLUMN claim; DELETE FROM {VERSION_4}")).await;
    let mut reader = shop.postgres.pool().begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM tidelock.fence").execute(&mut *reader).await.unwrap();
    (shop, reader)
}

async fn waits(shop: &Shop) {
    let waiting = "pg_locks WHERE relation = 'tidelock.fence'::regclass AND NOT granted";
    eventually("the upgrade waits", async || shop.count(waiting).await > 0).await;
}

/// Whoever needs the table goes on while an upgrade waits for a transaction that is open for long.
#[tokio::test]
async fn an_upgrade_that_waits_keeps_nobody_waiting() {
    let (shop, reader) = in_use().await;
    let upgraded = shop.again().await.postgres;
    let upgrade = tokio::spawn(async move { upgraded.migrate().await });
    waits(&shop).await;
    let others = shop.count("tidelock.fence");
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), others).await, Ok(0));
    assert_eq!(shop.count(VERSION_4).await, 0);
    reader.rollback().await.unwrap();
    upgrade.await.unwrap().unwrap();
    assert_eq!(shop.count(VERSION_4).await, 1);
    shop.postgres.check().await.unwrap();
}

/// A process that is stopped in the middle of it holds its locks until the server ends its transaction.
#[tokio::test]
async fn a_frozen_upgrade_is_ended_by_the_server() {
    let (shop, reader) = in_use().await;
    let stopped = shop.again().await.postgres;
    let mut frozen = pin!(stopped.migrate());
    tokio::select! {
        outcome = &mut frozen => panic!("it did not wait: {outcome:?}"),
        () = waits(&shop) => {}
    }
    // From here on nobody polls it. It gets the table now, and does no more.
    reader.rollback().await.unwrap();
    within(30, shop.postgres.migrate()).await.unwrap();
    assert_eq!(within(5, shop.count("tidelock.fence")).await, 0);
    assert_eq!(shop.count(VERSION_4).await, 1);
    let error = within(5, frozen).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    shop.postgres.check().await.unwrap();
}

#[tokio::test]
async fn another_instance_is_waited_for_and_not_for_ever() {
    let shop = Shop::new().await;
    let mut other = shop.pool.acquire().await.unwrap();
    let lock = "SELECT pg_advisory_lock(hashtextextended('tidelock migrate tidelock', 0))";
    sqlx::query(lock).execute(&mut *other).await.unwrap();
    let began = Instant::now();
    let error = within(20, shop.postgres.migrate_in_turn(Duration::from_secs(1))).await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let text = error.to_string();
    assert!(text.contains("waited 1s for another session that is migrating it"), "{text}");
    let patient = shop.again().await.postgres;
    let patient = tokio::spawn(async move { patient.migrate().await });
    let waiting = "pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("it waits", async || shop.count(waiting).await > 0).await;
    sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut *other).await.unwrap();
    within(20, patient).await.unwrap().unwrap();
}

/// A service whose role may not create anything calls `migrate` at every start, after somebody else has run it.
#[tokio::test]
async fn nothing_to_do_needs_no_privilege_to_create() {
    let shop = Shop::new().await;
    let role = format!("service_{}", std::process::id());
    shop.run(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA tidelock TO {role}; GRANT SELECT ON tidelock.migration TO {role}"
    ))
    .await;
    let become_it = format!("SET ROLE {role}");
    let pool = PgPoolOptions::new()
        .after_connect(move |connection, _| {
            let become_it = become_it.clone();
            Box::pin(
                async move { sqlx::raw_sql(AssertSqlSafe(become_it)).execute(connection).await.map(|_| ()) },
            )
        })
        .connect(&shop.url)
        .await
        .unwrap();
    let service = Postgres::from_pool(pool, PostgresConfig::default()).unwrap();
    service.migrate().await.unwrap();
    service.pool().close().await;
    shop.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
