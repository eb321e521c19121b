//! A handler's transaction: what is said of its end is true.

use tidelock::{
    commit::Commit,
    database::{Database as _, Unit as _},
    error::Kind,
};

use super::{UnderTest, advance, committed, effect, key};

pub(super) async fn a_commit_is_there_for_the_next_process<U: UnderTest>() {
    let under = U::new().await;
    committed(under.ready().await.commit().await);
    under.done(true).await;
    let other = under.another().await;
    assert_eq!(other.fence(&key(0)).await.unwrap().unwrap().next_offset, 1);
}

pub(super) async fn a_unit_without_any_statement_commits<U: UnderTest>() {
    let under = U::new().await;
    for _ in 0..3 {
        committed(under.own().begin().await.unwrap().commit().await);
    }
}

pub(super) async fn what_is_rolled_back_or_dropped_was_never_there<U: UnderTest>() {
    let under = U::new().await;
    for round in 0..10 {
        let unit = under.ready().await;
        match round % 2 {
            0 => unit.rollback().await,
            _ => drop(unit),
        }
        committed(under.own().begin().await.unwrap().commit().await);
        under.done(false).await;
    }
}

pub(super) async fn a_savepoint_of_a_handler_is_its_own_affair<U: UnderTest>() {
    let under = U::new().await;
    let mut unit = under.ready().await;
    U::run(unit.connection(), "SAVEPOINT mine").await.unwrap();
    effect::<U>(&mut unit).await;
    U::run(unit.connection(), "INSERT INTO effect VALUES (NULL)").await.unwrap_err();
    U::run(unit.connection(), "ROLLBACK TO mine").await.unwrap();
    U::run(unit.connection(), "RELEASE mine").await.unwrap();
    committed(unit.commit().await);
    under.done(true).await;
}

/// Whether the whole transaction has failed, or the statement alone, is the database's affair.
pub(super) async fn a_failed_statement_leaves_no_half_batch<U: UnderTest>() {
    let under = U::new().await;
    let mut unit = under.own().begin().await.unwrap();
    effect::<U>(&mut unit).await;
    U::run(unit.connection(), "INSERT INTO effect VALUES (NULL)").await.unwrap_err();
    let advanced = advance::<U>(&mut unit, 0, 1).await;
    match unit.commit().await {
        Commit::Committed => {
            assert!(advanced.unwrap());
            under.done(true).await;
        }
        Commit::Aborted(_) => under.done(false).await,
        Commit::Unknown(error) => panic!("{error}"),
    }
}

pub(super) async fn a_ruined_transaction_is_never_committed<U: UnderTest>() {
    let under = U::new().await;
    for after_the_fence in [true, false] {
        let mut unit = under.own().begin().await.unwrap();
        effect::<U>(&mut unit).await;
        assert!(!after_the_fence || advance::<U>(&mut unit, 0, 1).await.unwrap());
        U::run(unit.connection(), U::RUIN).await.unwrap_err();
        // Whatever comes after it is not committed by itself.
        U::run(unit.connection(), "INSERT INTO effect VALUES (2)").await.unwrap_err();
        if !after_the_fence {
            advance::<U>(&mut unit, 0, 1).await.unwrap_err();
        }
        let outcome = unit.commit().await;
        assert!(matches!(outcome, Commit::Aborted(_)), "{outcome:?}");
        under.done(false).await;
    }
    committed(under.ready().await.commit().await);
    under.done(true).await;
}

pub(super) async fn what_is_refused_at_commit_is_aborted<U: UnderTest>() {
    let under = U::new().await;
    under
        .execute(
            "CREATE TABLE parent (n INTEGER PRIMARY KEY); \
             CREATE TABLE child (n int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        )
        .await;
    let mut unit = under.ready().await;
    U::run(unit.connection(), "INSERT INTO child VALUES (7)").await.unwrap();
    let outcome = unit.commit().await;
    assert!(matches!(outcome, Commit::Aborted(_)), "{outcome:?}");
    under.done(false).await;
    committed(under.ready().await.commit().await);
}

pub(super) async fn a_handler_that_ends_the_transaction_is_noticed<U: UnderTest>() {
    for statement in ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN", "COMMIT; BEGIN"] {
        let under = U::new().await;
        let mut unit = under.own().begin().await.unwrap();
        let _ = U::run(unit.connection(), statement).await;
        let error = advance::<U>(&mut unit, 0, 1).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Handler, "{statement}: {error}");
        unit.rollback().await;
        assert_eq!(under.next_offset().await, 0, "{statement}");
        // The same in a transaction that has nothing to advance.
        let mut unit = under.own().begin().await.unwrap();
        let _ = U::run(unit.connection(), statement).await;
        match unit.commit().await {
            Commit::Committed => panic!("{statement}"),
            Commit::Aborted(error) | Commit::Unknown(error) => {
                assert_eq!(error.kind(), Kind::Handler, "{statement}: {error}");
            }
        }
        committed(under.ready().await.commit().await);
        under.done(true).await;
    }
}
