//! A right of the database that is missing: told at once where the service connects, and waited for where it runs.

use std::{
    fs,
    time::{Duration, Instant},
};

use tidelock::{
    database::postgres::{Postgres, PostgresConfig},
    error::{Error, Kind},
    log::{Cleanup, Log as _, TopicSpec},
    prelude::*,
};
use tidelock_lab::Lab;

use super::{Shop, connect, eventually, recovering};
use crate::conformance::{seen, within};

/// An operator who gives a right, or gives it back, need not start anything again.
#[tokio::test]
async fn a_relay_that_waits_for_a_right_goes_on_when_it_is_there() {
    let shop = Shop::new().await;
    let role = format!("relay_without_rights_{}", std::process::id());
    shop.run(&format!("CREATE ROLE {role}")).await;
    let log = Embedded::in_memory();
    let spec = TopicSpec { name: "t".to_owned(), partitions: Some(1), cleanup: Cleanup::Any };
    log.topic(&spec).await.unwrap();
    let postgres = connect(&format!("{}?options=-c%20role%3D{role}", shop.url)).await;
    let pipeline =
        Pipeline::builder(log.clone(), postgres).relay(RelayConfig::new("rights")).build().unwrap();
    shop.commit("1").await;
    pipeline.start().await.unwrap();
    // Before it has joined.
    recovering(&pipeline, "permission denied for schema tidelock").await;
    shop.run(&format!(
        "GRANT USAGE ON SCHEMA tidelock TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tidelock TO {role}"
    ))
    .await;
    assert_eq!(within(30, seen(&log, "t", 0, "1")).await, ["1"]);
    within(30, pipeline.ready()).await;
    // While it reads.
    shop.run(&format!("REVOKE SELECT ON tidelock.outbox FROM {role}")).await;
    shop.commit("2").await;
    recovering(&pipeline, "permission denied for table outbox").await;
    shop.run(&format!("GRANT SELECT ON tidelock.outbox TO {role}")).await;
    assert_eq!(within(30, seen(&log, "t", 0, "2")).await, ["1", "2"]);
    within(30, pipeline.ready()).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
    shop.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

async fn log_in(url: String) -> Result<Postgres, Error> {
    Postgres::connect(PostgresConfig { url: url.into(), ..PostgresConfig::default() }).await
}

/// A service that cannot log in says so before it does anything, and does not wait for `connect_timeout` either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_log_in_is_told_at_once() {
    let lab = tokio::task::block_in_place(|| Lab::builder().kafka(false).start().unwrap());
    let shop = Shop::on(&lab.database_url()).await;
    let rules = lab.postgres().directory().join("data/pg_hba.conf");
    let others = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, format!("host all ada all scram-sha-256\nhost all eve all reject\n{others}")).unwrap();
    shop.run("CREATE ROLE ada LOGIN PASSWORD 'right'; CREATE ROLE eve LOGIN; CREATE ROLE bob").await;
    shop.run("SELECT pg_reload_conf()").await;
    let (_, place) = shop.url.split_once('@').unwrap();
    let wrong = format!("postgres://ada:guessed@{place}");
    eventually("the rules are read", async || log_in(wrong.clone()).await.is_err()).await;
    let (server, _) = shop.url.rsplit_once('/').unwrap();
    for (url, kind, reason) in [
        (wrong, Kind::Denied, "password authentication failed"),
        (format!("postgres://eve@{place}"), Kind::Denied, "pg_hba.conf rejects connection"),
        (format!("postgres://bob@{place}"), Kind::Denied, "not permitted to log in"),
        (format!("postgres://nobody@{place}"), Kind::Denied, "role \"nobody\" does not exist"),
        (format!("{server}/nothing"), Kind::Config, "database \"nothing\" does not exist"),
    ] {
        let began = Instant::now();
        let error = log_in(url).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(reason) && text.contains("connect to PostgreSQL at 127.0.0.1"), "{text}");
        assert!(!text.contains("guessed"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(5), "{text} after {:?}", began.elapsed());
    }
    log_in(format!("postgres://ada:right@{place}")).await.unwrap();
}
