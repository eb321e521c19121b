//! What a reader hands out, in which order, and when.

use std::collections::BTreeSet;

use tidelock::{
    database::{Enqueue as _, Shard, Source as _},
    outbox::Outgoing,
};

use super::{UnderTest, message, next, numbers, rest, texts};

pub(super) async fn nothing_new_is_nothing<U: UnderTest>() {
    let under = U::new().await;
    let mut reader = under.start().await;
    assert!(next::<U>(&mut reader, 10).await.is_none());
    under.commit_one("row").await;
    assert_eq!(rest::<U>(&mut reader).await, ["row"]);
    for _ in 0..3 {
        assert!(next::<U>(&mut reader, 10).await.is_none());
    }
}

pub(super) async fn rows_come_in_the_order_of_their_commits<U: UnderTest>() {
    let under = U::new().await;
    let other = under.another().await;
    let mut reader = under.start().await;
    for round in 0..5 {
        under.commit(&numbers(round * 10, round * 10 + 4)).await;
        let transaction = other.begin_business().await.unwrap();
        let messages: Vec<Outgoing> =
            numbers(round * 10 + 5, round * 10 + 9).iter().map(|number| message("k", number)).collect();
        other.commit_business(transaction, &messages).await.unwrap();
        if round % 2 == 0 {
            let from = if round == 0 { 0 } else { round * 10 - 10 };
            assert_eq!(rest::<U>(&mut reader).await, numbers(from, round * 10 + 9));
        }
    }
}

pub(super) async fn an_open_transaction_is_not_waited_for_and_not_lost<U: UnderTest>() {
    let under = U::new().await;
    let mut reader = under.start().await;
    under.commit_one("before").await;
    let mut open = under.own().begin_business().await.unwrap();
    under.own().insert(&mut open, &[message("k", "open")]).await.unwrap();
    let batch = reader_batch::<U>(&mut reader).await;
    assert_eq!(batch, ["before"]);
    under.own().commit_business(open, &[]).await.unwrap();
    assert_eq!(rest::<U>(&mut reader).await, ["open"]);
}

/// One read, without waiting until it is durable: that may need the right to write.
async fn reader_batch<U: UnderTest>(reader: &mut super::Reader<U>) -> Vec<String> {
    use tidelock::database::Reader as _;
    reader.read(1_000).await.unwrap().as_ref().map(texts).unwrap_or_default()
}

pub(super) async fn parts_and_restarts_give_every_row_once<U: UnderTest>() {
    let under = U::new().await;
    under.commit(&numbers(1, 400)).await;
    let mut reader = under.start().await;
    let (mut found, mut batches) = (Vec::new(), 0);
    while let Some(batch) = next::<U>(&mut reader, 30).await {
        assert!(batch.rows.len() <= 30, "{} rows", batch.rows.len());
        found.extend(texts(&batch));
        batches += 1;
        match batches % 4 {
            // As after a crash: nothing but the position is left.
            1 => reader = under.start_at(&batch.position).await,
            2 => assert!(under.own().clean(batch.published).await.unwrap() > 0),
            3 if batches < 12 => under.commit(&numbers(1_000 + batches, 1_000 + batches)).await,
            _ => {}
        }
    }
    let expected = [numbers(1, 400), vec!["1003".into(), "1007".into(), "1011".into()]].concat();
    assert_eq!(found, expected);
}

pub(super) async fn a_new_reader_goes_on_where_the_position_stands<U: UnderTest>() {
    let under = U::new().await;
    under.commit_one("published").await;
    let first = next::<U>(&mut under.start().await, 10).await.unwrap();
    under.commit_one("new").await;
    let mut reader = under.start_at(&first.position).await;
    let second = next::<U>(&mut reader, 10).await.unwrap();
    assert_eq!(texts(&second), ["new"]);
    assert!(next::<U>(&mut under.start_at(&second.position).await, 10).await.is_none());
}

pub(super) async fn numbers_go_on_when_everything_was_deleted<U: UnderTest>() {
    let under = U::new().await;
    let mut position = under.own().origin().await.unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let mut reader = under.start_at(&position).await;
        under.commit(&numbers(1, 4)).await;
        let batch = next::<U>(&mut reader, 100).await.unwrap();
        assert_eq!(texts(&batch), numbers(1, 4));
        assert!(batch.rows[0].seq > last);
        last = batch.rows[3].seq;
        assert_eq!(under.own().clean(batch.published).await.unwrap(), 4);
        position = batch.position;
    }
}

pub(super) async fn shards_share_the_rows_out_by_key<U: UnderTest>() {
    let under = U::new().await;
    let keyed = |n: usize| Outgoing::raw("t", format!("key {}", n % 70), Some(n.to_string().into()));
    let keyless = |n: usize| Outgoing::raw("t", tidelock::message::Key::NONE, Some(n.to_string().into()));
    let messages: Vec<Outgoing> = (0..300).map(keyed).chain((300..310).map(keyless)).collect();
    let transaction = under.own().begin_business().await.unwrap();
    under.own().commit_business(transaction, &messages).await.unwrap();
    let origin = under.own().origin().await.unwrap();
    for count in [2, 4] {
        let mut payloads = Vec::new();
        let mut keys: Vec<BTreeSet<Option<bytes::Bytes>>> = Vec::new();
        for index in 0..count {
            let mut reader = under.own().reader(Shard { index, count }, &origin).await.unwrap();
            let mut own = BTreeSet::new();
            while let Some(batch) = next::<U>(&mut reader, 17).await {
                payloads.extend(texts(&batch).iter().map(|text| text.parse::<usize>().unwrap()));
                own.extend(batch.rows.into_iter().map(|row| row.key));
            }
            assert!(!own.is_empty(), "shard {index} of {count} has no key");
            assert!(keys.iter().all(|other| other.is_disjoint(&own)), "a key lies in two shards");
            keys.push(own);
        }
        payloads.sort_unstable();
        assert!(payloads.into_iter().eq(0..310), "{count} shards");
    }
}
