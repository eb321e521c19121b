//! The outbox as services in other languages use it: plain SQL.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row};
use uuid::Uuid;

use super::{Shop, next_batch};

/// The error's code, or nothing.
async fn code(shop: &Shop, statement: &str) -> Option<String> {
    let error = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&shop.pool).await.err()?;
    Some(error.as_database_error().unwrap().code().unwrap().into_owned())
}

#[tokio::test]
async fn enqueue_from_plain_literals() {
    let shop = Shop::new().await;
    let mut ids = Vec::new();
    for call in [
        r#"SELECT tidelock.enqueue('t', 'k', '{"a": 1}')"#,
        r#"SELECT tidelock.enqueue('t', 'k', '{"a": 1}', '{"traceparent": "00"}', 'Made')"#,
        r#"SELECT tidelock.enqueue('t', 'k', '{"a": 1}', type => 'Made')"#,
        "SELECT tidelock.enqueue('t', NULL, '[]')",
        "SELECT tidelock.enqueue('t', 'k', NULL)",
        r"SELECT tidelock.enqueue('t', '\x00ff'::bytea, '\xfe01'::bytea)",
        r"SELECT tidelock.enqueue('t', 'k', '\xfe01'::bytea)",
    ] {
        let row = sqlx::query(AssertSqlSafe(call)).fetch_one(&shop.pool).await;
        ids.push(row.unwrap_or_else(|error| panic!("{call}: {error}")).get::<Uuid, _>(0));
    }
    let rows = next_batch(&mut shop.start().await, 10).await.rows;
    assert_eq!(rows.iter().map(|row| Uuid::from(row.id)).collect::<Vec<_>>(), ids);
    assert!(rows.iter().all(|row| &*row.topic == "t"));
    let keys: Vec<_> = rows.iter().map(|row| row.key.as_deref()).collect();
    let k = Some(&b"k"[..]);
    assert_eq!(keys, [k, k, k, None, k, Some(&[0, 0xff]), k]);
    let payloads: Vec<_> = rows.iter().map(|row| row.payload.as_deref()).collect();
    let (json, bytes) = (Some(&br#"{"a": 1}"#[..]), Some(&[0xfe, 1][..]));
    assert_eq!(payloads, [json, json, json, Some(b"[]"), None, bytes, bytes]);
    let types: Vec<_> = rows.iter().map(|row| row.event_type.as_deref()).collect();
    assert_eq!(types, [None, Some("Made"), Some("Made"), None, None, None, None]);
    assert_eq!(rows[1].headers.clone().map(serde_json::Value::Object), Some(json!({"traceparent": "00"})));
}

#[tokio::test]
async fn insert_of_topic_key_and_payload() {
    let shop = Shop::new().await;
    shop.run("INSERT INTO tidelock.outbox (topic, key, payload) VALUES ('t', 'k', 'p'), ('t', NULL, NULL)")
        .await;
    let rows = next_batch(&mut shop.start().await, 10).await.rows;
    assert_eq!((rows[0].key.as_deref(), rows[0].payload.as_deref()), (Some(&b"k"[..]), Some(&b"p"[..])));
    assert_eq!((rows[1].key.as_deref(), rows[1].payload.as_deref()), (None, None));
    assert_ne!(rows[0].id, rows[1].id);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    assert!((now - rows[0].time_us).abs() < 3_600_000_000, "{} is not the time", rows[0].time_us);
}

#[tokio::test]
async fn a_forged_transaction_id_is_stopped() {
    let shop = Shop::new().await;
    for statement in [
        "INSERT INTO tidelock.outbox (xid, topic) VALUES ('1', 't')",
        "INSERT INTO tidelock.outbox (xid, topic) VALUES ('0', 't')",
    ] {
        assert_eq!(code(&shop, statement).await.as_deref(), Some("23514"), "{statement}");
    }
    shop.commit("one").await;
    let rewritten = "UPDATE tidelock.outbox SET topic = 'u'";
    assert_eq!(code(&shop, rewritten).await.as_deref(), Some("23514"), "a row keeps its id");
    let numbered = "INSERT INTO tidelock.outbox (seq, topic) VALUES (1000, 't')";
    assert_eq!(code(&shop, numbered).await.as_deref(), Some("428C9"));
    // As re-anchoring does it.
    assert_eq!(code(&shop, "UPDATE tidelock.outbox SET xid = pg_current_xact_id()").await, None);
}

#[tokio::test]
async fn headers_are_an_object() {
    let shop = Shop::new().await;
    for headers in ["[]", "1", "null", "\"text\""] {
        let statement = format!("INSERT INTO tidelock.outbox (topic, headers) VALUES ('t', '{headers}')");
        assert_eq!(code(&shop, &statement).await.as_deref(), Some("23514"), "{headers}");
    }
    shop.run(
        r#"INSERT INTO tidelock.outbox (topic, headers) VALUES ('t', NULL), ('t', '{"a": null, "b": 2}')"#,
    )
    .await;
    let rows = next_batch(&mut shop.start().await, 10).await.rows;
    assert_eq!(rows[0].headers, None);
    assert_eq!(rows[1].headers.clone().map(serde_json::Value::Object), Some(json!({"a": null, "b": 2})));
}

#[tokio::test]
async fn times_that_are_no_times_stop_nothing() {
    let shop = Shop::new().await;
    shop.run("INSERT INTO tidelock.outbox (topic, created_at) VALUES ('t', 'infinity'), ('t', '-infinity')")
        .await;
    assert_eq!(next_batch(&mut shop.start().await, 10).await.rows.len(), 2);
}

/// The grants that the migration recommends are enough for a writer, and no more.
#[tokio::test]
async fn a_writer_with_the_recommended_grants() {
    let shop = Shop::new().await;
    let role = format!("writer_{}", std::process::id());
    shop.run(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA tidelock TO {role};\
         GRANT INSERT (id, topic, key, payload, type, headers), SELECT (id) ON tidelock.outbox TO {role}"
    ))
    .await;
    let mut writer = PgConnection::connect(&shop.url).await.unwrap();
    let mut run = async |statement: &str| {
        let outcome = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut writer).await;
        outcome.err().map(|error| error.as_database_error().unwrap().code().unwrap().into_owned())
    };
    assert_eq!(run(&format!("SET ROLE {role}")).await, None);
    assert_eq!(run("SELECT tidelock.enqueue('t', 'k', '{}')").await, None);
    assert_eq!(run("INSERT INTO tidelock.outbox (topic, key) VALUES ('t', 'k')").await, None);
    for forbidden in [
        "INSERT INTO tidelock.outbox (xid, topic) VALUES ('1', 't')",
        "DELETE FROM tidelock.outbox",
        "SELECT payload FROM tidelock.outbox",
        "INSERT INTO tidelock.fence VALUES ('g', 't', 0, 0, NULL, '', 'o')",
    ] {
        assert_eq!(run(forbidden).await.as_deref(), Some("42501"), "{forbidden}");
    }
    assert_eq!(run("RESET ROLE").await, None);
    shop.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
