//! What business transactions can be like.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _};
use tidelock_campaign::Result;

use crate::writer::{Desk, Style};

/// How many transactions are open at once where they are committed in reverse order.
const CROSSED: usize = 5;

/// One attempt, or one group of them.
pub(crate) async fn transact(desk: &mut Desk) -> Result<()> {
    match desk.options.style {
        Style::Plain => plain(desk, 0.05).await,
        Style::RolledBack => plain(desk, 0.5).await,
        Style::Savepoints => savepoints(desk).await,
        Style::Crossed => crossed(desk).await,
        Style::Held => held(desk).await,
        Style::Prepared => prepared(desk).await,
    }
}

/// Locks, writes, enqueues just before COMMIT: as the framework would have it.
async fn plain(desk: &mut Desk, rolled_back: f64) -> Result<()> {
    let of = fastrand::u32(1..=5);
    desk.pace.wait(of).await;
    let mut transaction = desk.database.outbox().begin().await?;
    let txn = desk.book.transaction();
    for message in desk.book.enter(&mut transaction, txn, of, of).await? {
        transaction.enqueue_message(message);
    }
    if fastrand::f64() >= rolled_back {
        transaction.commit().await?;
    }
    Ok(())
}

/// Some messages, some more inside a savepoint that is given up or kept, and the rest.
async fn savepoints(desk: &mut Desk) -> Result<()> {
    let outbox = desk.database.outbox();
    let (kept, inner) = (fastrand::u32(1..=3), fastrand::u32(1..=2));
    let given_up = fastrand::bool();
    let of = if given_up { kept } else { kept + inner };
    desk.pace.wait(of).await;
    let mut transaction = desk.database.pool().begin().await?;
    let txn = desk.book.transaction();
    let mut nested = transaction.begin().await?;
    let messages = desk.book.enter(&mut nested, txn, of, inner).await?;
    outbox.enqueue_messages(&mut nested, &messages).await?;
    if given_up {
        nested.rollback().await?;
    } else {
        nested.commit().await?;
    }
    let messages = desk.book.enter(&mut transaction, txn, of, kept).await?;
    outbox.enqueue_messages(&mut transaction, &messages).await?;
    transaction.commit().await?;
    Ok(())
}

/// Several transactions draw their numbers one after the other, and commit in the reverse order.
async fn crossed(desk: &mut Desk) -> Result<()> {
    let outbox = desk.database.outbox();
    let mut open = Vec::new();
    for _ in 0..CROSSED {
        let of = fastrand::u32(1..=3);
        desk.pace.wait(of).await;
        let mut transaction = desk.database.pool().begin().await?;
        // One that waits for an entity of the others would wait for ever.
        sqlx::query("SET LOCAL lock_timeout = '200ms'").execute(&mut *transaction).await?;
        let txn = desk.book.transaction();
        let messages = match desk.book.enter(&mut transaction, txn, of, of).await {
            Ok(messages) => messages,
            Err(_) => continue,
        };
        outbox.enqueue_messages(&mut transaction, &messages).await?;
        open.push(transaction);
    }
    while let Some(transaction) = open.pop() {
        transaction.commit().await?;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..50))).await;
    }
    Ok(())
}

/// Enqueues, and commits only when the time is over or the process is told to stop.
async fn held(desk: &mut Desk) -> Result<()> {
    let outbox = desk.database.outbox();
    let of = fastrand::u32(1..=5);
    let mut transaction = desk.database.pool().begin().await?;
    let txn = desk.book.transaction();
    let messages = desk.book.enter(&mut transaction, txn, of, of).await?;
    outbox.enqueue_messages(&mut transaction, &messages).await?;
    let until = Instant::now() + Duration::from_millis(desk.options.hold);
    while desk.open() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    transaction.commit().await?;
    Ok(())
}

/// In two phases, with some time between them; one in five is rolled back in the second.
async fn prepared(desk: &mut Desk) -> Result<()> {
    let outbox = desk.database.outbox();
    let of = fastrand::u32(1..=5);
    desk.pace.wait(of).await;
    let mut transaction = desk.database.pool().begin().await?;
    let txn = desk.book.transaction();
    let messages = desk.book.enter(&mut transaction, txn, of, of).await?;
    outbox.enqueue_messages(&mut transaction, &messages).await?;
    let id = format!("{}-{}-{txn}", desk.options.run, desk.book.producer());
    let prepare = format!("PREPARE TRANSACTION '{id}'");
    sqlx::query(AssertSqlSafe(prepare)).execute(&mut *transaction).await?;
    // The server has none open any more; this tells the driver.
    transaction.rollback().await?;
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..desk.options.hold.max(1)))).await;
    let verb = if fastrand::f64() < 0.2 { "ROLLBACK" } else { "COMMIT" };
    sqlx::query(AssertSqlSafe(format!("{verb} PREPARED '{id}'"))).execute(desk.database.pool()).await?;
    Ok(())
}
