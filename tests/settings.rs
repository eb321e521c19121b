//! Settings from the environment: all problems at once, and no secret anywhere.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::Assignor,
    processor::{StartAt, Unhandled},
    settings::Settings,
};

fn read(vars: &[(&str, &str)]) -> tidelock::error::Result<Settings> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Settings::from_vars("APP_", vars.iter().map(owned))
}

const ENOUGH: [(&str, &str); 2] =
    [("APP_KAFKA_BROKERS", "127.0.0.1:9092"), ("APP_DATABASE_URL", "postgres://me:hush@127.0.0.1/shop")];

#[test]
fn every_part_is_read() {
    let more = [
        ("APP_RELAY_NAME", "shop"),
        ("APP_RELAY_SHARDS", "4"),
        ("APP_RELAY_POLL_IDLE", "20ms"),
        ("APP_PROCESSOR_START", "latest"),
        ("APP_PROCESSOR_UNHANDLED", "fail"),
        ("APP_PROCESSOR_ASSIGNOR", "eager"),
        ("APP_PROCESSOR_INBOX", "false"),
        ("APP_TEST_KAFKA", "not ours"),
        ("OTHER_KAFKA_BROKERS", "not ours"),
    ];
    let settings = read(&[&ENOUGH[..], &more].concat()).unwrap();
    assert_eq!(settings.kafka.brokers, "127.0.0.1:9092");
    assert_eq!(settings.relay.name, "shop");
    assert_eq!(settings.relay.shards, 4);
    assert_eq!(settings.relay.poll_idle, Duration::from_millis(20));
    assert_eq!(settings.processor.start, StartAt::Latest);
    assert_eq!(settings.processor.unhandled, Unhandled::Fail);
    assert_eq!(settings.processor.assignor, Assignor::Eager);
    assert!(!settings.processor.inbox);
}

#[test]
fn every_problem_is_named_at_once() {
    let wrong = [
        ("APP_RELAY_SHARDS", "many"),
        ("APP_RELAY_MAX_ROWS", "0"),
        ("APP_KAFKA_BROKRES", "a typo"),
        ("APP_PROCESSOR_START", "yesterday"),
        ("APP_DATABASE_SCHEMA", "Robert'); DROP TABLE"),
    ];
    let error = read(&[&ENOUGH[..], &wrong].concat()).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let text = error.to_string();
    for part in [
        "APP_RELAY_SHARDS=\"many\": expected a whole number",
        "relay max_rows = 0, expected 1 to 100000",
        "unknown setting APP_KAFKA_BROKRES",
        "APP_PROCESSOR_START=\"yesterday\": expected earliest or latest",
        "database schema \"Robert'); DROP TABLE\" is not a plain identifier",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let secret = [("APP_KAFKA_SASL_PASSWORD", "whisper"), ("APP_KAFKA_OPTIONS", "ssl.key.password=mumble")];
    let settings = read(&[&ENOUGH[..], &secret].concat()).unwrap();
    let shown = format!("{settings:?}");
    for secret in ["hush", "whisper", "mumble"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// A mistyped name, or a value in the wrong place, may hold a secret.
#[test]
fn secrets_are_not_shown_in_errors() {
    let secret = [
        ("APP_DATABASE_PASSWORD", "hush"),
        ("APP_KAFKA_SASL_PASSWROD", "whisper"),
        ("APP_KAFKA_SASL_PASSWORD", "breathe"),
        ("APP_KAFKA_OPTIONS", "ssl.key.password mumble"),
        ("APP_RELAY_SHARDS", "0"),
    ];
    let text = read(&[&ENOUGH[..], &secret].concat()).unwrap_err().to_string();
    for name in ["APP_DATABASE_PASSWORD", "APP_KAFKA_SASL_PASSWROD", "APP_KAFKA_OPTIONS", "shards = 0"] {
        assert!(text.contains(name), "{name:?} is not in {text:?}");
    }
    for secret in ["hush", "whisper", "breathe", "mumble"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_database_that_cannot_be_right() {
    let wrong = [
        ("APP_DATABASE_MAX_CONNECTIONS", "0"),
        ("APP_DATABASE_CONNECT_TIMEOUT", "0s"),
        ("APP_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT", "10us"),
        ("APP_DATABASE_ANSWER_TIMEOUT", "0s"),
        ("APP_DATABASE_SCHEMA", ""),
    ];
    let text = read(&[&ENOUGH[..], &wrong].concat()).unwrap_err().to_string();
    for part in [
        "max_connections = 0",
        "connect_timeout = 0",
        "idle_in_transaction_timeout = 10",
        "answer_timeout = 0",
        "schema \"\"",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_not_shown_either() {
    use tidelock::database::postgres::{Postgres, PostgresConfig};
    for url in ["postgres://me:hush@[nonsense", "postgres://me:hush@127.0.0.1:1/shop"] {
        let config = PostgresConfig {
            url: url.into(),
            connect_timeout: Duration::from_millis(300),
            ..PostgresConfig::default()
        };
        let error = Postgres::connect(config).await.unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
