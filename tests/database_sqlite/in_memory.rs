//! A database of the process alone, and statements that are finished on the spot.

use std::time::Duration;

use tidelock::{
    commit::Commit,
    database::{Database as _, Reader as _, Source as _, Unit as _, sqlite::Sqlite},
    outbox::Outgoing,
};

use super::{
    ALL, texts,
    unit::{advance, attempt, effect, key, next_offset, prepare},
};

async fn memory() -> Sqlite {
    let sqlite = Sqlite::in_memory().await.unwrap().inline();
    sqlite.migrate().await.unwrap();
    sqlite.check().await.unwrap();
    prepare(&sqlite).await;
    sqlite
}

async fn send(sqlite: &Sqlite, text: &'static str) {
    let mut transaction = sqlite.outbox().begin().await.unwrap();
    transaction.enqueue_message(Outgoing::raw("t", "k", Some(text.into())));
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn everything_works_without_a_file() {
    let sqlite = memory().await;
    let another = Sqlite::in_memory().await.unwrap();
    assert!(another.started(ALL).await.is_err(), "each is a database of its own");
    let mut unit = sqlite.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(advance(&mut unit, 0, 5).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
    assert_eq!(next_offset(&sqlite).await, 5);
    let mut reader = sqlite.reader(ALL, &sqlite.origin().await.unwrap()).await.unwrap();
    send(&sqlite, "1").await;
    send(&sqlite, "2").await;
    let batch = reader.read(10).await.unwrap().unwrap();
    assert_eq!(texts(&batch), ["1", "2"]);
    reader.durable().await.unwrap();
    let mut reader = sqlite.reader(ALL, &batch.position).await.unwrap();
    assert!(reader.read(10).await.unwrap().is_none());
    assert_eq!(sqlite.clean(batch.published).await.unwrap(), 0, "swept at the start");
}

/// The only connection survives whatever a handler does to its transaction.
#[tokio::test]
async fn a_handler_cannot_take_it_along() {
    let sqlite = memory().await;
    for statement in
        ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN", "COMMIT; BEGIN", "INSERT INTO effect VALUES (NULL)"]
    {
        let mut unit = sqlite.begin().await.unwrap();
        effect(&mut unit).await;
        let _ = attempt(&mut unit, statement).await;
        drop(unit);
        assert_eq!(next_offset(&sqlite).await, 0);
    }
    let mut unit = sqlite.begin().await.unwrap();
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Committed));
}

/// No statement of the framework lets another task run or the clock move.
#[tokio::test(start_paused = true)]
async fn inline_statements_take_no_time() {
    let sqlite = memory().await;
    let before = tokio::time::Instant::now();
    let ticks = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = ticks.clone();
    tokio::spawn(async move {
        loop {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    for round in 0..20 {
        let mut unit = sqlite.begin().await.unwrap();
        assert!(advance(&mut unit, round, round + 1).await.unwrap());
        assert!(matches!(unit.commit().await, Commit::Committed));
        send(&sqlite, "row").await;
    }
    assert_eq!(ticks.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

/// The turn to write is waited for, and with it the clock may move.
#[tokio::test(start_paused = true)]
async fn only_the_turn_to_write_is_waited_for() {
    let sqlite = memory().await;
    let key = key(0);
    let unit = sqlite.begin().await.unwrap();
    let before = tokio::time::Instant::now();
    let (read, ()) = tokio::join!(sqlite.fence(&key), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(unit);
    });
    assert!(read.unwrap().is_some());
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    // A handler that waits for itself does so for a minute, not for ever.
    let _unit = sqlite.begin().await.unwrap();
    let error = sqlite.outbox().begin().await.unwrap_err();
    assert_eq!(error.kind(), tidelock::error::Kind::Timeout, "{error}");
}
