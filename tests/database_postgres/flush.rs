//! Nothing is published that a crash of the server could take back, and no transaction id that was seen comes again.

use sqlx::{Connection as _, PgConnection, Row};
use tidelock::{
    database::{Reader as _, Source as _},
    error::Kind,
};
use tidelock_lab::Lab;

use super::{ALL, Shop, connect, next, next_batch, put, texts};

/// A server that flushes nothing by itself.
async fn lazy() -> Lab {
    tokio::task::spawn_blocking(|| {
        let lab = Lab::builder().kafka(false);
        let lab = lab.postgres_setting("wal_writer_delay", "10s").postgres_setting("autovacuum", "off");
        lab.start().unwrap()
    })
    .await
    .unwrap()
}

async fn crash(lab: &Lab) {
    tokio::task::block_in_place(|| {
        lab.postgres().stop_immediate().unwrap();
        lab.postgres().start().unwrap();
    });
}

async fn careless(shop: &Shop) -> PgConnection {
    let mut connection = PgConnection::connect(&shop.url).await.unwrap();
    sqlx::query("SET synchronous_commit = off").execute(&mut connection).await.unwrap();
    connection
}

async fn next_xid(shop: &Shop) -> i64 {
    let mut connection = PgConnection::connect(&shop.url).await.unwrap();
    let xid = sqlx::query("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
    xid.fetch_one(&mut connection).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_durable_survives_a_crash() {
    let lab = lazy().await;
    let shop = Shop::on(&lab.database_url()).await;
    shop.postgres.migrate().await.unwrap();
    let mut writer = careless(&shop).await;
    let mut reader = shop.start().await;
    put(&mut writer, "k", "durable").await;
    let batch = next_batch(&mut reader, 10).await;
    assert_eq!(super::texts(&batch), ["durable"]);
    put(&mut writer, "k", "forgotten").await;
    crash(&lab).await;
    // Whether the second one is there is the server's luck.
    assert_eq!(shop.again().await.outbox().await[0], "durable");
}

/// Transactions that roll back, in a session that does not wait for the flush.
async fn take_ids(shop: &Shop) {
    let mut writer = careless(shop).await;
    for _ in 0..100 {
        let mut transaction = writer.begin().await.unwrap();
        sqlx::query("SELECT pg_current_xact_id()").execute(&mut *transaction).await.unwrap();
        transaction.rollback().await.unwrap();
    }
}

/// Attack 1: the last transactions before the crash were rolled back, or only took an id, and were never flushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_were_seen_do_not_come_again_after_a_crash() {
    let lab = lazy().await;
    let shop = Shop::on(&lab.database_url()).await;
    shop.postgres.migrate().await.unwrap();
    // The scene first: without the rule they do come again, unless the server happened to flush.
    let mut attempts = 0;
    loop {
        let shop = shop.again().await;
        take_ids(&shop).await;
        let before = next_xid(&shop).await;
        crash(&lab).await;
        if next_xid(&shop).await < before {
            break;
        }
        attempts += 1;
        assert!(attempts < 20, "the scene is wrong: ids never come again");
    }
    let shop = shop.again().await;
    let mut reader = shop.start().await;
    shop.commit("published").await;
    take_ids(&shop).await;
    let batch = next_batch(&mut reader, 10).await;
    let before = next_xid(&shop).await;
    crash(&lab).await;
    let shop = shop.again().await;
    let after = next_xid(&shop).await;
    assert!(after >= before, "{before} before the crash, {after} after it");
    for n in ["1", "2", "3"] {
        shop.commit(n).await;
    }
    let mut reader = shop.start_at(&batch.position).await;
    assert_eq!(next(&mut reader).await, ["1", "2", "3"]);
}

/// What a look saw without finding rows dies with the reader: the position from before the crash finds everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_does_not_outlive_a_crash() {
    let lab = lazy().await;
    let shop = Shop::on(&lab.database_url()).await;
    shop.postgres.migrate().await.unwrap();
    let mut reader = shop.start().await;
    shop.commit("published").await;
    let batch = next_batch(&mut reader, 10).await;
    take_ids(&shop).await;
    assert!(next(&mut reader).await.is_empty());
    crash(&lab).await;
    let shop = shop.again().await;
    assert!(reader.read(10).await.is_err(), "its connection is gone: it must not go on");
    for n in ["1", "2", "3"] {
        shop.commit(n).await;
    }
    let mut reader = shop.start_at(&batch.position).await;
    assert_eq!(next(&mut reader).await, ["1", "2", "3"]);
    assert_eq!(shop.postgres.clean(batch.published).await.unwrap(), 0, "swept at the start");
}

/// Behind a pooler that exchanges the server's connection, as it does unasked when the server has crashed.
#[tokio::test]
async fn the_word_of_another_backend_does_not_count() {
    let shop = Shop::new().await;
    shop.run(
        "CREATE FUNCTION public.pg_backend_pid() RETURNS int LANGUAGE sql VOLATILE AS \
         $$ SELECT (random() * 1000000000)::int $$",
    )
    .await;
    let exchanged = connect(&format!("{}?options=-c%20search_path%3Dpublic,pg_catalog", shop.url)).await;
    let mut reader = exchanged.reader(ALL, &exchanged.origin().await.unwrap()).await.unwrap();
    shop.commit("one").await;
    assert_eq!(texts(&reader.read(10).await.unwrap().unwrap()), ["one"]);
    let error = reader.durable().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("backend"), "{error}");
}
