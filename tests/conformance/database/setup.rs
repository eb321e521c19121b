//! Before the first start.

use futures_util::future::join_all;
use tidelock::{
    database::{Database as _, Shard, Source as _},
    error::Kind,
};

use super::UnderTest;

pub(super) async fn ten_at_once_make_the_tables_once<U: UnderTest>() {
    let under = U::bare().await;
    let instances = join_all((0..10).map(|_| under.another())).await;
    for outcome in join_all(instances.iter().map(U::migrate)).await {
        outcome.unwrap();
    }
    let (alone, migrations) = (U::bare().await, format!("{}migration", U::PREFIX));
    U::migrate(alone.own()).await.unwrap();
    assert_eq!(under.count(&migrations).await, alone.count(&migrations).await);
    U::migrate(under.own()).await.unwrap();
    under.own().check().await.unwrap();
}

pub(super) async fn a_database_without_the_tables_is_refused<U: UnderTest>() {
    let under = U::bare().await;
    assert_eq!(under.own().check().await.unwrap_err().kind(), Kind::Config);
    assert_eq!(under.own().check_durable().await.unwrap_err().kind(), Kind::Config);
}

pub(super) async fn a_migrated_database_will_do<U: UnderTest>() {
    let under = U::new().await;
    under.own().check().await.unwrap();
    under.own().check_durable().await.unwrap();
    under.commit_one("row").await;
    under.own().check().await.unwrap();
}

pub(super) async fn the_number_of_shards_is_fixed_at_the_first_start<U: UnderTest>() {
    let under = U::new().await;
    let fix = async |count| (count, under.own().fix_shards(count).await);
    let outcomes = join_all((1..=8).map(fix)).await;
    let accepted = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(count, _)| *count);
    let fixed: Vec<u32> = accepted.collect();
    assert_eq!(fixed.len(), 1, "several numbers were accepted: {fixed:?}");
    under.own().fix_shards(fixed[0]).await.unwrap();
    let error = under.own().fix_shards(64).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let text = error.to_string();
    assert!(text.contains(&format!("{} shards", fixed[0])) && text.contains("64"), "{text}");
}

pub(super) async fn a_shard_is_started_once_it_is_marked<U: UnderTest>() {
    let under = U::new().await;
    let (first, second) = (Shard { index: 0, count: 2 }, Shard { index: 1, count: 2 });
    assert!(!under.own().started(first).await.unwrap());
    for _ in 0..2 {
        under.own().mark_started(first).await.unwrap();
    }
    assert!(under.own().started(first).await.unwrap());
    assert!(!under.own().started(second).await.unwrap());
}
