//! What is said of a commit is true.

use tidelock::{
    commit::Commit,
    database::{Database as _, Unit as _, sqlite::SqliteUnit},
};

use super::{
    Shop,
    unit::{advance, attempt, effect, fenced, next_offset, run},
};

async fn ready(shop: &Shop) -> SqliteUnit {
    let mut unit = shop.sqlite.begin().await.unwrap();
    effect(&mut unit).await;
    assert!(advance(&mut unit, 0, 1).await.unwrap());
    unit
}

async fn nothing_happened(shop: &Shop) {
    assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (0, 0));
}

/// Such a statement takes the whole transaction along, as SQLITE_FULL and SQLITE_IOERR may: whatever the handler does
/// after it would be committed by itself.
#[tokio::test]
async fn a_statement_that_rolled_everything_back_leaves_no_half_batch() {
    let shop = fenced().await;
    shop.run("CREATE TABLE once (n int UNIQUE)").await;
    let fatal = "INSERT INTO once VALUES (1); INSERT OR ROLLBACK INTO once VALUES (1)";
    for after_the_fence in [true, false] {
        let mut unit = shop.sqlite.begin().await.unwrap();
        effect(&mut unit).await;
        assert!(!after_the_fence || advance(&mut unit, 0, 1).await.unwrap());
        assert!(attempt(&mut unit, fatal).await.is_err());
        assert!(attempt(&mut unit, "INSERT INTO effect VALUES (2)").await.is_err(), "committed by itself");
        if !after_the_fence {
            assert!(advance(&mut unit, 0, 1).await.is_err());
        }
        assert!(matches!(unit.commit().await, Commit::Aborted(_)));
        nothing_happened(&shop).await;
    }
    assert!(matches!(ready(&shop).await.commit().await, Commit::Committed));
}

/// The file may not grow: SQLite's own way of a full disk.
#[tokio::test]
async fn a_full_disk_leaves_no_half_batch() {
    let shop = fenced().await;
    let mut unit = shop.sqlite.begin().await.unwrap();
    effect(&mut unit).await;
    run(&mut unit, "PRAGMA max_page_count = 1").await;
    let fill = "INSERT INTO effect SELECT value FROM json_each('[' || substr(replace(hex(zeroblob(40000)), '00', ',1'), 2) || ']')";
    assert!(attempt(&mut unit, fill).await.is_err());
    let advanced = advance(&mut unit, 0, 1).await;
    match unit.commit().await {
        Commit::Committed => {
            assert!(advanced.unwrap());
            assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (1, 1));
        }
        Commit::Aborted(_) | Commit::Unknown(_) => nothing_happened(&shop).await,
    }
    let mut unit = shop.sqlite.begin().await.unwrap();
    run(&mut unit, "PRAGMA max_page_count = 1073741823").await;
}

#[tokio::test]
async fn a_savepoint_left_open_is_not_committed() {
    let shop = fenced().await;
    for statement in ["SAVEPOINT mine", "SAVEPOINT _sqlx_savepoint_1"] {
        let mut unit = ready(&shop).await;
        run(&mut unit, statement).await;
        // One that SQLite knows and sqlx does not is committed along with the transaction.
        assert!(matches!(unit.commit().await, Commit::Committed), "{statement}");
        shop.run("DELETE FROM effect; UPDATE tidelock_fence SET next_offset = 0").await;
    }
    let mut unit = ready(&shop).await;
    #[expect(
        clippy::mem_forget,
        reason = "as a handler might that moves its transaction into a task that hangs"
    )]
    std::mem::forget(sqlx::Connection::begin(unit.connection()).await.unwrap());
    assert!(matches!(unit.commit().await, Commit::Aborted(_)));
    nothing_happened(&shop).await;
    assert!(matches!(ready(&shop).await.commit().await, Commit::Committed));
}

/// A process that dies in the middle leaves nothing; what was reported committed is there.
#[tokio::test]
async fn a_commit_is_there_for_the_next_process() {
    let shop = fenced().await;
    assert!(matches!(ready(&shop).await.commit().await, Commit::Committed));
    let open = shop.sqlite.begin().await.unwrap();
    // The files as they lie on disk now.
    for end in ["", "-wal"] {
        let from = format!("{}{end}", shop.path().display());
        std::fs::copy(from, shop.folder.join(format!("crashed.db{end}"))).unwrap();
    }
    drop(open);
    let crashed = tidelock::database::sqlite::Sqlite::open(shop.folder.join("crashed.db")).await.unwrap();
    assert_eq!(next_offset(&crashed).await, 1);
}

/// sqlx counts two transactions there, SQLite none.
#[tokio::test]
async fn a_connection_beyond_repair_is_replaced() {
    let shop = fenced().await;
    let mut unit = ready(&shop).await;
    #[expect(clippy::mem_forget, reason = "no handler should; the next one must not suffer for it")]
    std::mem::forget(sqlx::Connection::begin(unit.connection()).await.unwrap());
    run(&mut unit, "ROLLBACK").await;
    assert!(matches!(unit.commit().await, Commit::Aborted(_)));
    nothing_happened(&shop).await;
    assert!(matches!(ready(&shop).await.commit().await, Commit::Committed));
    assert_eq!((next_offset(&shop.sqlite).await, shop.count("effect").await), (1, 1));
}
