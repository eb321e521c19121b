//! What the database knows of a partition.

use std::time::Duration;

use tidelock::database::Database as _;

use super::Shop;

#[tokio::test]
async fn old_inbox_entries_of_one_group_are_forgotten() {
    let shop = Shop::new().await;
    shop.run(
        "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 11999) \
         INSERT INTO tidelock_inbox SELECT value, randomblob(16), \
         CAST(unixepoch('subsec') * 1000000 AS INTEGER) - n * 60000000 FROM json_each('[\"mine\", \"other\"]'), n",
    )
    .await;
    // In more than one step.
    let forgotten = shop.sqlite.clean_inbox("mine", Duration::from_secs(100 * 60 - 30)).await.unwrap();
    assert_eq!(forgotten, 11_900);
    assert_eq!(shop.count("tidelock_inbox WHERE \"group\" = 'mine'").await, 100);
    assert_eq!(shop.count("tidelock_inbox WHERE \"group\" = 'other'").await, 12_000);
}
