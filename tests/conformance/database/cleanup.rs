//! What is deleted: what was published, and nothing else.

use tidelock::{
    database::{Enqueue as _, Shard, Source as _},
    outbox::Outgoing,
};

use super::{UnderTest, next, numbers, rest};

pub(super) async fn a_batch_deletes_its_rows_and_no_others<U: UnderTest>() {
    let under = U::new().await;
    under.commit(&numbers(1, 6)).await;
    let mut reader = under.start().await;
    let batch = next::<U>(&mut reader, 4).await.unwrap();
    assert_eq!(batch.rows.len(), 4);
    under.commit_one("later").await;
    assert_eq!(under.own().clean(batch.published).await.unwrap(), 4);
    assert_eq!(under.outbox().await, ["5", "6", "later"]);
    assert_eq!(rest::<U>(&mut reader).await, ["5", "6", "later"]);
}

pub(super) async fn a_reader_sweeps_what_its_position_has_passed<U: UnderTest>() {
    let under = U::new().await;
    under.commit(&numbers(1, 5)).await;
    let batch = next::<U>(&mut under.start().await, 100).await.unwrap();
    under.commit_one("later").await;
    assert_eq!(under.outbox().await.len(), 6);
    let mut reader = under.start_at(&batch.position).await;
    assert_eq!(under.outbox().await, ["later"]);
    assert_eq!(rest::<U>(&mut reader).await, ["later"]);
}

pub(super) async fn the_origin_has_passed_nothing<U: UnderTest>() {
    let under = U::new().await;
    under.commit(&numbers(1, 3)).await;
    let mut reader = under.start().await;
    assert_eq!(under.outbox().await, numbers(1, 3));
    assert_eq!(rest::<U>(&mut reader).await, numbers(1, 3));
}

pub(super) async fn one_shard_never_deletes_rows_of_another<U: UnderTest>() {
    let under = U::new().await;
    let messages: Vec<Outgoing> =
        (0..60).map(|n| Outgoing::raw("t", n.to_string(), Some(n.to_string().into()))).collect();
    let transaction = under.own().begin_business().await.unwrap();
    under.own().commit_business(transaction, &messages).await.unwrap();
    let (shard, other) = (Shard { index: 1, count: 2 }, Shard { index: 0, count: 2 });
    let origin = under.own().origin().await.unwrap();
    let others = rest::<U>(&mut under.own().reader(other, &origin).await.unwrap()).await;
    assert!(others.len() > 10);
    let mut reader = under.own().reader(shard, &origin).await.unwrap();
    let part = next::<U>(&mut reader, 10).await.unwrap();
    assert_eq!(under.own().clean(part.published).await.unwrap(), 10);
    assert_eq!(rest::<U>(&mut under.own().reader(other, &origin).await.unwrap()).await, others);
    let left = next::<U>(&mut reader, 100).await.unwrap();
    // The other way: its sweep.
    drop(under.own().reader(shard, &left.position).await.unwrap());
    assert_eq!(under.outbox().await, others);
}
