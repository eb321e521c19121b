//! Several tasks, several processes, one writer.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tidelock::{
    commit::Commit,
    database::{Database as _, Source as _, Unit as _},
    error::Kind,
    outbox::Outgoing,
};

use super::{
    Shop,
    unit::{advance, effect, fenced, next_offset},
};

/// Tasks of one process wait for their turn as for any other future, on however few threads.
#[tokio::test]
async fn tasks_take_turns() {
    let shop = fenced().await;
    let write = async |n: usize| {
        let mut unit = shop.sqlite.begin().await.unwrap();
        effect(&mut unit).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        match n % 3 {
            0 => assert!(matches!(unit.commit().await, Commit::Committed)),
            1 => unit.rollback().await,
            _ => drop(unit),
        }
    };
    join_all((0..60).map(write)).await;
    assert_eq!(shop.count("effect").await, 20);
}

/// Of two processes, whoever is later sees what the earlier one did.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_advance_one_fence() {
    let shop = fenced().await;
    let other = shop.again().await;
    let work = async |sqlite: &tidelock::database::sqlite::Sqlite| {
        let mut won = 0;
        while won < 50 {
            let next = next_offset(sqlite).await;
            let mut unit = sqlite.begin().await.unwrap();
            effect(&mut unit).await;
            if !advance(&mut unit, next, next + 1).await.unwrap() {
                unit.rollback().await;
                continue;
            }
            assert!(matches!(unit.commit().await, Commit::Committed));
            won += 1;
        }
    };
    tokio::join!(work(&shop.sqlite), work(&other));
    assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (100, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_does_not_come_to_an_end_is_tried_again() {
    let shop = fenced().await;
    let open = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let started = Instant::now();
    assert_eq!(shop.sqlite.begin().await.err().unwrap().kind(), Kind::Unavailable);
    assert!(started.elapsed() > Duration::from_secs(4));
    open.rollback().await.unwrap();
    let mut unit = shop.sqlite.begin().await.unwrap();
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
}

/// Business transactions of the service's own pool, of the framework's writer and of another process, and a relay.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_writes_and_nothing_is_lost() {
    let shop = Shop::new().await;
    let other = shop.again().await;
    let mut reader = shop.start().await;
    let own_pool = async {
        let outbox = shop.sqlite.outbox();
        for n in 0..40 {
            let mut transaction = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let message = Outgoing::raw("t", "k", Some(format!("pool {n}").into()));
            outbox.enqueue_message(&mut transaction, message).await.unwrap();
            transaction.commit().await.unwrap();
        }
    };
    let writer = async |sqlite: &tidelock::database::sqlite::Sqlite, name: &str| {
        for n in 0..40 {
            let mut transaction = sqlite.outbox().begin().await.unwrap();
            transaction.enqueue_message(Outgoing::raw("t", "k", Some(format!("{name} {n}").into())));
            transaction.commit().await.unwrap();
        }
    };
    let relay = async {
        let mut read = Vec::new();
        while read.len() < 120 {
            let batch = super::next(&mut reader).await;
            if batch.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            read.extend(batch);
        }
        read
    };
    let (.., read) = tokio::join!(own_pool, writer(&shop.sqlite, "own"), writer(&other, "other"), relay);
    for name in ["pool", "own", "other"] {
        let own: Vec<&String> = read.iter().filter(|text| text.starts_with(name)).collect();
        assert_eq!(
            own,
            (0..40).map(|n| format!("{name} {n}")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
    }
    let batch = reader_position(&shop).await;
    assert_eq!(shop.sqlite.clean(batch).await.unwrap(), 120);
}

async fn reader_position(shop: &Shop) -> tidelock::database::sqlite::SqlitePublished {
    let mut reader = shop.start().await;
    let mut last = super::next_batch(&mut reader, 100).await;
    while last.rows.last().unwrap().seq < 120 {
        last = super::next_batch(&mut reader, 100).await;
    }
    last.published
}
