//! What `check` finds in a database that cannot keep the promise.

use std::time::Duration;

use tidelock::{
    database::{
        Database as _, Source as _,
        postgres::{Postgres, PostgresConfig},
    },
    error::Kind,
};

use super::Shop;

#[tokio::test]
async fn every_finding_is_named_at_once() {
    let shop = Shop::new().await;
    let findings = [
        ("ALTER TABLE tidelock.outbox SET UNLOGGED", "tidelock.outbox is not permanent (persistence u)"),
        ("DROP INDEX tidelock.outbox_xid", "no valid index on xid"),
        ("ALTER TABLE tidelock.outbox DROP CONSTRAINT outbox_pkey", "no valid index on seq"),
        ("ALTER TABLE tidelock.outbox ALTER seq SET CACHE 32", "cache 32"),
        (
            "ALTER TABLE tidelock.outbox DROP CONSTRAINT outbox_xid_own",
            "outbox_xid_own of tidelock.outbox is gone",
        ),
        (
            "ALTER TABLE tidelock.outbox ALTER xid DROP DEFAULT",
            "column xid of tidelock.outbox has lost its default",
        ),
        (
            "ALTER TABLE tidelock.outbox ALTER bucket DROP EXPRESSION",
            "column bucket of tidelock.outbox is no longer computed",
        ),
        (
            "ALTER TABLE tidelock.quarantine ALTER bucket DROP EXPRESSION",
            "column bucket of tidelock.quarantine is no longer computed",
        ),
    ];
    for (number, (statement, finding)) in findings.iter().enumerate() {
        shop.run(statement).await;
        let error = shop.postgres.check().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let text = error.to_string();
        assert!(text.contains(finding), "{finding:?} is not in {text:?}");
        for (_, before) in &findings[..number] {
            assert!(text.contains(before), "{before:?} is no longer in {text:?}");
        }
    }
}

/// What a processor's tables must be like, and the server with them.
#[tokio::test]
async fn a_processors_tables_must_outlive_a_crash() {
    let shop = Shop::new().await;
    shop.postgres.check_durable().await.unwrap();
    shop.run("ALTER TABLE tidelock.fence SET UNLOGGED; ALTER TABLE tidelock.inbox SET UNLOGGED").await;
    let error = shop.postgres.check_durable().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    for table in ["tidelock.fence", "tidelock.inbox"] {
        let finding = format!("table {table} is not permanent (persistence u)");
        assert!(error.to_string().contains(&finding), "{finding:?} is not in {error}");
    }
    let bare = Shop::bare().await;
    assert_eq!(bare.postgres.check_durable().await.unwrap_err().kind(), Kind::Config);
}

#[tokio::test]
async fn a_sequence_that_turns_round_or_runs_backwards_is_refused() {
    for statement in [
        "ALTER TABLE tidelock.outbox ALTER seq SET CYCLE",
        "ALTER TABLE tidelock.outbox ALTER seq SET INCREMENT BY -1 SET MINVALUE -1000",
    ] {
        let shop = Shop::new().await;
        shop.run(statement).await;
        let text = shop.postgres.check().await.unwrap_err().to_string();
        assert!(text.contains("sequence of tidelock.outbox"), "{text}");
    }
}

/// The relay's connections ask for durable commits whatever the database's default is.
#[tokio::test]
async fn the_relays_sessions_do_not_depend_on_defaults() {
    let shop = Shop::new().await;
    let (_, name) = shop.url.rsplit_once('/').unwrap();
    shop.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    shop.run(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")).await;
    let again = shop.again().await;
    again.postgres.check().await.unwrap();
    shop.commit("one").await;
    let mut reader = again.start().await;
    assert_eq!(super::next(&mut reader).await, ["one"]);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_with_the_reason() {
    let connect = async |url: &str| {
        let connect_timeout = Duration::from_secs(1);
        let config =
            PostgresConfig { url: url.to_owned().into(), connect_timeout, ..PostgresConfig::default() };
        Postgres::connect(config).await.expect_err("nobody is there")
    };
    let error = connect("postgres://ada:secret@127.0.0.1:1/shop").await;
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("refused") && !text.contains("secret"), "{text}");
    for (url, expected) in [
        (
            "mysql://ada:secret@127.0.0.1/shop",
            "database url begins with mysql://, expected postgres://user@host:port/database",
        ),
        ("shop", "database url has no scheme, expected postgres://user@host:port/database"),
    ] {
        let error = connect(url).await;
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Config, expected));
    }
}
