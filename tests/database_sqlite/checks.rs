//! What `check` finds in a database that cannot keep the promise.

use tidelock::{
    database::{Source as _, sqlite::Sqlite},
    error::Kind,
};

use super::Shop;

#[tokio::test]
async fn a_migrated_database_is_accepted() {
    let shop = Shop::new().await;
    shop.sqlite.check().await.unwrap();
    shop.commit("row").await;
    shop.run("DELETE FROM tidelock_outbox").await;
    shop.sqlite.check().await.unwrap();
}

#[tokio::test]
async fn every_finding_is_named_at_once() {
    let shop = Shop::new().await;
    shop.run(
        "DROP TABLE tidelock_mark; DROP TABLE tidelock_outbox; \
         CREATE TABLE tidelock_outbox (seq INTEGER PRIMARY KEY, id BLOB)",
    )
    .await;
    let error = shop.sqlite.check().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let text = error.to_string();
    for finding in
        ["table tidelock_mark is missing", "trigger tidelock_outbox_insert is missing", "not AUTOINCREMENT"]
    {
        assert!(text.contains(finding), "{finding:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn a_sequence_behind_its_rows_is_refused() {
    let shop = Shop::new().await;
    shop.commit_all(super::numbers(1, 5)).await;
    shop.run("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'tidelock_outbox'").await;
    let text = shop.sqlite.check().await.unwrap_err().to_string();
    assert!(text.contains("is at 3, a row has seq 5"), "{text}");
}

#[tokio::test]
async fn a_database_without_the_tables_is_a_matter_of_configuration() {
    let shop = Shop::bare().await;
    assert_eq!(shop.sqlite.check().await.unwrap_err().kind(), Kind::Config);
    assert_eq!(shop.sqlite.started(super::ALL).await.unwrap_err().kind(), Kind::Config);
}

#[tokio::test]
async fn a_path_that_is_none_is_a_matter_of_configuration() {
    for path in ["", ":memory:", "file:shop?mode=memory", "/no/such/folder/shop.db"] {
        assert_eq!(Sqlite::open(path).await.unwrap_err().kind(), Kind::Config, "{path:?}");
    }
}

#[tokio::test]
async fn connections_of_the_service_are_as_durable() {
    let shop = Shop::new().await;
    let row = sqlx::query(
        "SELECT synchronous, journal_mode, foreign_keys, timeout \
         FROM pragma_synchronous, pragma_journal_mode, pragma_foreign_keys, pragma_busy_timeout",
    );
    let row = row.fetch_one(&shop.pool).await.unwrap();
    use sqlx::Row as _;
    let found: (i64, String, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(found, (2, "wal".to_owned(), 1, 5_000));
}
