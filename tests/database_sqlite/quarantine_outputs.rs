//! Messages that were refused, of a handler's outputs.

use tidelock::database::{Database as _, Fence, Source as _};
use uuid::Uuid;

use super::{
    ALL, CLAIM,
    quarantine::{held, refused},
    unit::{fenced, key},
};

#[tokio::test]
async fn outputs_move_only_while_the_row_stands_where_it_was() {
    let shop = fenced().await;
    let message = refused(Some("a"), "too large");
    let moved =
        shop.sqlite.quarantine_outputs(&key(0), 5, b"", "rest".into(), std::slice::from_ref(&message)).await;
    assert!(!moved.unwrap());
    assert_eq!(shop.count("tidelock_quarantine").await, 0);
    let before = shop.sqlite.fence(&key(0)).await.unwrap().unwrap();
    assert!(before.pending.is_empty());
    let moved =
        shop.sqlite.quarantine_outputs(&key(0), 0, b"", "rest".into(), std::slice::from_ref(&message)).await;
    assert!(moved.unwrap());
    let after = shop.sqlite.fence(&key(0)).await.unwrap().unwrap();
    assert_eq!(after, Fence { pending: "rest".into(), ..before });
    let entries = shop.entries().await;
    assert_eq!((entries.len(), entries[0].id, entries[0].emitted), (1, message.id, true));
    // The relay's attempts do not concern it.
    shop.sqlite.settle_quarantine(CLAIM, None).await.unwrap();
    assert_eq!(shop.reasons().await, ["too large"]);
}

#[tokio::test]
async fn an_output_holds_nothing_back_and_is_released_by_the_relay() {
    let shop = fenced().await;
    let outputs = [refused(Some("a"), "1"), refused(None, "2")];
    assert!(shop.sqlite.quarantine_outputs(&key(0), 0, b"", Default::default(), &outputs).await.unwrap());
    assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap(), (held(&[]), false));
    assert_eq!(shop.sqlite.release(outputs[0].id).await.unwrap(), 1);
    assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap(), (held(&[]), true));
    let attempt = Uuid::new_v4();
    assert_eq!(shop.take(attempt, 10).await, ["1"]);
    // Taken back, then published.
    shop.sqlite.settle_quarantine(CLAIM, None).await.unwrap();
    assert_eq!(shop.take(attempt, 10).await, ["1"]);
    shop.sqlite.settle_quarantine(CLAIM, Some(attempt)).await.unwrap();
    assert_eq!(shop.reasons().await, ["2"]);
}

#[tokio::test]
async fn an_output_and_the_outboxs_messages_of_one_key_are_released_together() {
    let shop = fenced().await;
    let output = refused(Some("a"), "output");
    let moved = shop
        .sqlite
        .quarantine_outputs(&key(0), 0, b"", Default::default(), std::slice::from_ref(&output))
        .await;
    assert!(moved.unwrap());
    shop.hold(&[refused(Some("a"), "enqueued")]).await;
    assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap().0, held(&["a"]));
    assert_eq!(shop.sqlite.release(output.id).await.unwrap(), 2);
    assert_eq!(shop.take(Uuid::new_v4(), 10).await, ["output", "enqueued"]);
}
