//! Shards share the rows out.

use std::collections::BTreeSet;

use tidelock::database::{Reader as _, Shard, Source as _};

use super::{Shop, put, text};

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
