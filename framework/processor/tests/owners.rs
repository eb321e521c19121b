//! Transactions of whoever had the partition before.

use super::*;
use crate::database::{FenceKey, sqlite::Sqlite};

/// Whoever is alive loses the transactions of all its partitions by it.
#[tokio::test]
async fn an_owner_whose_transaction_keeps_nothing_back_is_not_fenced_without_a_pause() {
    let database = Sqlite::in_memory().await.unwrap().inline();
    database.migrate().await.unwrap();
    let key = FenceKey { group: "group".into(), topic: "topic".into(), partition: 0 };
    database.insert_fence(&key, 0, "another").await.unwrap();
    let member = Member::over(database, Trouble::NeverStable).await;
    member.seen(|state| matches!(state, State::Recovering(text) if text.contains("not stable"))).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let fenced = member.told.0.producers.lock().unwrap().iter().filter(|&id| id == "another").count();
    assert!((1..12).contains(&fenced), "{fenced} times in 0.3 s");
    member.end().await;
}
