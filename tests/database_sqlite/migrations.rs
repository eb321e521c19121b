//! The framework's own tables are made once, by whoever comes first.

use futures_util::future::join_all;
use tidelock::{
    database::{Source as _, sqlite::Sqlite},
    error::Kind,
};

use super::Shop;

/// As many processes would: the file is created, put into WAL mode and migrated at once.
#[tokio::test(flavor = "multi_thread")]
async fn ten_at_once_and_again() {
    let shop = Shop::bare().await;
    let path = shop.folder.join("new.db");
    let start = async || {
        let sqlite = Sqlite::open(&path).await?;
        sqlite.migrate().await?;
        Ok::<_, tidelock::error::Error>(sqlite)
    };
    let instances = join_all((0..10).map(|_| start())).await;
    for instance in instances {
        let sqlite = instance.unwrap();
        sqlite.migrate().await.unwrap();
        sqlite.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_newer_version_is_refused_unless_it_only_added() {
    let shop = Shop::new().await;
    shop.run("INSERT INTO tidelock_migration (version, needs) VALUES (976, 1)").await;
    shop.sqlite.migrate().await.unwrap();
    shop.run("INSERT INTO tidelock_migration (version, needs) VALUES (977, 975)").await;
    let error = shop.sqlite.migrate().await.unwrap_err();
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
    shop.run("CREATE TABLE tidelock_inbox (not_ours int)").await;
    assert!(shop.sqlite.migrate().await.is_err());
    assert_eq!(shop.count("sqlite_schema WHERE name LIKE 'tidelock%'").await, 1);
    shop.run("DROP TABLE tidelock_inbox").await;
    shop.sqlite.migrate().await.unwrap();
    shop.sqlite.check().await.unwrap();
}

/// Where nothing is to do, somebody's long transaction is not waited for.
#[tokio::test]
async fn nothing_to_do_needs_no_turn_to_write() {
    let shop = Shop::new().await;
    let _open = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    shop.sqlite.migrate().await.unwrap();
}
