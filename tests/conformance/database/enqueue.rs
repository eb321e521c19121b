//! The write side: what is enqueued, in which order, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidelock::{
    database::{Enqueue as _, Source as _},
    error::Kind,
    event::Event,
    message::{Key, MessageId},
    outbox::{Outbox, Outgoing},
};

use super::{UnderTest, message, next};

pub(super) async fn a_message_comes_back_with_everything_it_is<U: UnderTest>() {
    let under = U::new().await;
    let id = MessageId::new();
    let messages = [
        Outgoing::raw("topic", vec![0_u8, 0xff], Some(vec![0xfe, 0].into()))
            .id(id)
            .header("a", "1")
            .header("b", "ß"),
        Outgoing::raw("topic", Key::NONE, None).header("a", "1").header("a", "2"),
        Outgoing::raw("other", "k", Some(Vec::new().into())),
    ];
    let transaction = under.own().begin_business().await.unwrap();
    under.own().commit_business(transaction, &messages).await.unwrap();
    let rows = next::<U>(&mut under.start().await, 10).await.unwrap().rows;
    let [full, bare, empty] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((full.id, &*full.topic), (id, "topic"));
    assert_eq!(full.key.as_deref(), Some(&[0, 0xff][..]));
    assert_eq!(full.payload.as_deref(), Some(&[0xfe, 0][..]));
    let headers = full.headers.clone().map(serde_json::Value::Object);
    assert_eq!(headers, Some(serde_json::json!({"a": "1", "b": "ß"})));
    assert_eq!(
        (bare.key.as_deref(), bare.payload.as_deref(), bare.event_type.as_deref()),
        (None, None, None)
    );
    let headers = bare.headers.clone().map(serde_json::Value::Object);
    assert_eq!(headers, Some(serde_json::json!({"a": "2"})), "the last of a name counts");
    assert_ne!(bare.id, empty.id);
    assert_eq!(
        (&*empty.topic, empty.key.as_deref(), empty.payload.as_deref()),
        ("other", Some(&b"k"[..]), Some(&[][..]))
    );
    assert_eq!(empty.headers, None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    assert!((now - full.time_us).abs() < 3_600_000_000, "{} is not about {now}", full.time_us);
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    key: String,
    n: i32,
}

impl Event for Made {
    const TYPE: &'static str = "Made";
    const TOPIC: &'static str = "made";

    fn key(&self) -> Key {
        self.key.as_str().into()
    }
}

pub(crate) fn made(n: i32) -> Made {
    Made { key: format!("k{n}"), n }
}

pub(super) async fn an_event_comes_with_its_type_and_its_key<U: UnderTest>() {
    let under = U::new().await;
    let mut transaction = under.of_the_service().await;
    let id = Outbox::of(under.own()).enqueue(&mut transaction, &made(7)).await.unwrap();
    transaction.commit().await.unwrap();
    let row = next::<U>(&mut under.start().await, 10).await.unwrap().rows.remove(0);
    assert_eq!(row.id, id);
    assert_eq!((&*row.topic, row.event_type.as_deref()), ("made", Some("Made")));
    assert_eq!(row.key.as_deref(), Some(&b"k7"[..]));
    assert_eq!(row.payload.as_deref(), Some(&br#"{"key":"k7","n":7}"#[..]));
    assert_eq!(row.headers, None);
}

pub(super) async fn many_keep_their_order_and_their_ids<U: UnderTest>() {
    let under = U::new().await;
    let outbox = Outbox::of(under.own());
    let mut transaction = under.of_the_service().await;
    let events: Vec<Made> = (0..500).map(made).collect();
    let mut ids = outbox.enqueue_all(&mut transaction, &events).await.unwrap();
    let own = MessageId::new();
    let messages = [message("k", "own").id(own), message("k", "another")];
    ids.extend(outbox.enqueue_messages(&mut transaction, &messages).await.unwrap());
    assert!(outbox.enqueue_messages(&mut transaction, &[]).await.unwrap().is_empty());
    transaction.commit().await.unwrap();
    let late: Vec<MessageId> = (0..200).map(|_| MessageId::new()).collect();
    let messages: Vec<Outgoing> = late.iter().map(|id| message("k", "late").id(*id)).collect();
    let mut transaction = under.own().begin_business().await.unwrap();
    under.own().insert(&mut transaction, &messages[..50]).await.unwrap();
    under.own().insert(&mut transaction, &[]).await.unwrap();
    under.own().commit_business(transaction, &messages[50..]).await.unwrap();
    ids.extend(late);
    assert_eq!((ids.len(), ids[500]), (702, own));
    let mut reader = under.start().await;
    let mut rows = Vec::new();
    while let Some(batch) = next::<U>(&mut reader, 1_000).await {
        rows.extend(batch.rows);
    }
    assert!(rows.iter().map(|row| row.id).eq(ids));
    assert!(rows.windows(2).all(|two| two[0].seq < two[1].seq));
    for (row, event) in rows.iter().zip(&events) {
        assert_eq!(row.key.as_deref(), Some(event.key.as_bytes()));
    }
}

pub(super) async fn what_is_rolled_back_is_never_read<U: UnderTest>() {
    let under = U::new().await;
    let mut reader = under.start().await;
    let mut dropped = under.own().begin_business().await.unwrap();
    under.own().insert(&mut dropped, &[message("k", "dropped")]).await.unwrap();
    U::run(&mut dropped, "INSERT INTO effect VALUES (1)").await.unwrap();
    drop(dropped);
    let mut kept = under.own().begin_business().await.unwrap();
    U::run(&mut kept, "SAVEPOINT mine").await.unwrap();
    under.own().insert(&mut kept, &[message("k", "undone")]).await.unwrap();
    U::run(&mut kept, "ROLLBACK TO mine").await.unwrap();
    under.own().commit_business(kept, &[message("k", "kept")]).await.unwrap();
    assert_eq!(super::rest::<U>(&mut reader).await, ["kept"]);
    assert_eq!(under.count("effect").await, 0);
}

pub(super) async fn a_ruined_transaction_does_not_report_success<U: UnderTest>() {
    let under = U::new().await;
    for messages in [&[message("k", "never")][..], &[]] {
        let mut transaction = under.own().begin_business().await.unwrap();
        U::run(&mut transaction, "INSERT INTO effect VALUES (1)").await.unwrap();
        U::run(&mut transaction, U::RUIN).await.unwrap_err();
        under.own().commit_business(transaction, messages).await.unwrap_err();
    }
    assert!(under.outbox().await.is_empty());
    assert_eq!(under.count("effect").await, 0);
}

pub(super) async fn a_transaction_that_was_ended_enqueues_nothing<U: UnderTest>() {
    let under = U::new().await;
    for statement in ["COMMIT", "ROLLBACK"] {
        for messages in [&[message("k", "never")][..], &[]] {
            let mut transaction = under.own().begin_business().await.unwrap();
            U::run(&mut transaction, "INSERT INTO effect SELECT 1 FROM effect").await.unwrap();
            let _ = U::run(&mut transaction, statement).await;
            let error = under.own().commit_business(transaction, messages).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{statement}, {} messages: {error}", messages.len());
        }
    }
    assert!(under.outbox().await.is_empty());
    under.commit_one("later").await;
    assert_eq!(under.outbox().await, ["later"]);
}

pub(super) async fn a_commit_wakes_the_relay<U: UnderTest>() {
    let under = U::new().await;
    let hint = under.own().hint();
    let mut transaction = Outbox::of(under.own()).begin().await.unwrap();
    transaction.enqueue_message(message("k", "row"));
    transaction.commit().await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), hint.notified()).await.unwrap();
}
