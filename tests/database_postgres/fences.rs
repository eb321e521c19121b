//! What the database knows of a partition.

use std::time::Duration;

use tidelock::database::Database as _;

use super::Shop;

#[tokio::test]
async fn old_inbox_entries_of_one_group_are_forgotten() {
    let shop = Shop::new().await;
    shop.run(
        "INSERT INTO tidelock.inbox SELECT g, gen_random_uuid(), now() - n * interval '1 minute' \
         FROM unnest(ARRAY['mine', 'other']) g, generate_series(0, 11999) n",
    )
    .await;
    // In more than one step.
    let forgotten = shop.postgres.clean_inbox("mine", Duration::from_secs(100 * 60 - 30)).await.unwrap();
    assert_eq!(forgotten, 11_900);
    assert_eq!(shop.count("tidelock.inbox WHERE \"group\" = 'mine'").await, 100);
    assert_eq!(shop.count("tidelock.inbox WHERE \"group\" = 'other'").await, 12_000);
}
