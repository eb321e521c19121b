//! A position belongs to one database.

use tidelock::{
    database::Source as _,
    error::{Error, Kind},
};

use super::{ALL, UnderTest, next, numbers};

async fn refused<U: UnderTest>(own: &U::Own, position: &[u8]) -> Error {
    match own.reader(ALL, position).await {
        Ok(_) => panic!("the position was accepted"),
        Err(error) => error,
    }
}

pub(super) async fn the_position_of_another_database_is_refused<U: UnderTest>() {
    let (under, other) = (U::new().await, U::new().await);
    under.commit_one("row").await;
    other.commit_one("not published yet").await;
    let position = next::<U>(&mut under.start().await, 10).await.unwrap().position;
    assert_eq!(refused::<U>(other.own(), &position).await.kind(), Kind::Identity);
    assert_eq!(other.outbox().await, ["not published yet"], "nothing was swept");
    drop(under.start_at(&position).await);
}

pub(super) async fn bytes_that_are_no_position_are_refused<U: UnderTest>() {
    let under = U::new().await;
    under.commit_one("row").await;
    let position = next::<U>(&mut under.start().await, 10).await.unwrap().position;
    let cut = &position[..position.len() - 1];
    for bytes in [&[][..], &[0], cut] {
        assert_eq!(refused::<U>(under.own(), bytes).await.kind(), Kind::Corrupt, "{bytes:?}");
    }
}

/// After a fail-over behind the same name, the server that deletes is not the one that was read.
pub(super) async fn what_one_database_published_is_not_deleted_in_another<U: UnderTest>() {
    let (one, other) = (U::new().await, U::new().await);
    one.commit(&numbers(1, 5)).await;
    other.commit(&numbers(1, 5)).await;
    let batch = next::<U>(&mut one.start().await, 10).await.unwrap();
    let error = other.own().clean(batch.published).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Identity, "{error}");
    assert_eq!(other.outbox().await, numbers(1, 5));
}
