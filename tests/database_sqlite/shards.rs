//! Shards share the rows out.

use std::collections::BTreeSet;

use tidelock::{
    database::{Reader as _, Shard, Source as _},
    error::Kind,
};

use super::{Shop, bucket, next, put, text, texts};

#[tokio::test]
async fn shards_share_the_rows_out() {
    let shop = Shop::new().await;
    let mut connection = shop.pool.begin().await.unwrap();
    for n in 0..300 {
        put(&mut connection, &format!("key {}", n % 70), &n.to_string()).await;
    }
    connection.commit().await.unwrap();
    shop.run("INSERT INTO tidelock_outbox (topic, payload, bucket) SELECT 't', CAST(300 + value AS BLOB), 227 FROM json_each('[0,1,2,3,4,5,6,7,8,9]')")
        .await;
    let origin = shop.sqlite.origin().await.unwrap();
    for count in [2, 4] {
        let mut rows = Vec::new();
        let mut keys: Vec<BTreeSet<Option<String>>> = Vec::new();
        for index in 0..count {
            let mut reader = shop.sqlite.reader(Shard { index, count }, &origin).await.unwrap();
            let mut own = BTreeSet::new();
            // Small batches, so that the parts of a difference are sharded too.
            while let Some(batch) = reader.read(17).await.unwrap() {
                rows.extend(batch.rows.iter().map(|row| row.seq));
                own.extend(batch.rows.iter().map(|row| row.key.as_ref().map(|key| text(Some(key)))));
            }
            assert!(!own.is_empty(), "shard {index} of {count} has no key");
            assert!(keys.iter().all(|other| other.is_disjoint(&own)), "a key lies in two shards");
            keys.push(own);
        }
        rows.sort_unstable();
        assert_eq!(super::bucket(None), 227);
        assert_eq!(rows, (1..=310).collect::<Vec<_>>(), "{count} shards");
    }
}

/// The shard of a wrong bucket neither publishes the row nor passes it, also where it has no key.
#[tokio::test]
async fn a_row_in_another_bucket_than_its_keys_stops_the_shard() {
    for key in [Some("key"), None] {
        let shop = Shop::new().await;
        shop.sqlite.fix_shards(2).await.unwrap();
        let of_key = bucket(key);
        let (right, wrong) = (of_key as u32 % 2, (of_key + 1) as u32 % 2);
        let [right, wrong] = [right, wrong].map(|index| Shard { index, count: 2 });
        let add = async |text: &str, bucket: i64| {
            let insert = "INSERT INTO tidelock_outbox (topic, key, payload, bucket) VALUES ('t', ?1, ?2, ?3)";
            let insert = sqlx::query(insert).bind(key.map(str::as_bytes)).bind(text.as_bytes()).bind(bucket);
            insert.execute(&shop.pool).await.unwrap();
        };
        let other = (0..).map(|n| n.to_string()).find(|other| bucket(Some(other)) as u32 % 2 == wrong.index);
        put(&mut shop.pool.acquire().await.unwrap(), &other.unwrap(), "before").await;
        add("misplaced", (of_key + 1) % 256).await;
        add("after", of_key).await;

        let origin = shop.sqlite.origin().await.unwrap();
        let mut reader = shop.sqlite.reader(wrong, &origin).await.unwrap();
        let before = reader.read(10).await.unwrap().unwrap();
        assert_eq!(texts(&before), ["before"]);
        reader.durable().await.unwrap();
        let mut again = shop.sqlite.reader(wrong, &before.position).await.unwrap();
        for reader in [&mut reader, &mut again] {
            let error = reader.read(10).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            let said =
                format!("row 2 of tidelock_outbox has bucket {}, its key has {of_key}", (of_key + 1) % 256);
            assert!(error.to_string().contains(&said), "{said:?} is not in {error}");
        }
        // The other one goes on, and has passed the row's place now.
        let mut other = shop.sqlite.reader(right, &origin).await.unwrap();
        assert_eq!(next(&mut other).await, ["after"]);

        let change = format!("UPDATE tidelock_outbox SET bucket = {of_key} WHERE seq = 2");
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&shop.pool).await.unwrap_err();
        assert!(error.to_string().contains("insert the row anew"), "{error}");
        shop.run(&format!(
            "BEGIN IMMEDIATE; INSERT INTO tidelock_outbox (id, topic, key, payload, bucket) \
             SELECT id, topic, key, payload, {of_key} FROM tidelock_outbox WHERE seq = 2; \
             DELETE FROM tidelock_outbox WHERE seq = 2; COMMIT"
        ))
        .await;
        assert_eq!(next(&mut other).await, ["misplaced"]);
        let mut reader = shop.sqlite.reader(wrong, &before.position).await.unwrap();
        assert!(next(&mut reader).await.is_empty());
    }
}

/// It has every bucket.
#[tokio::test]
async fn one_shard_does_not_look_at_buckets() {
    let shop = Shop::new().await;
    shop.run(
        "INSERT INTO tidelock_outbox (topic, key, payload, bucket) VALUES ('t', x'00', CAST('1' AS BLOB), 0)",
    )
    .await;
    assert_ne!(super::bucket(Some("\0")), 0);
    shop.run("UPDATE tidelock_outbox SET bucket = 1").await;
    assert_eq!(next(&mut shop.start().await).await, ["1"]);
}
