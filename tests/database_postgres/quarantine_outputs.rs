//! Messages that were refused, of a handler's outputs.

use tidelock::database::{Database as _, Fence, Source as _};
use uuid::Uuid;

use super::{
    ALL,
    quarantine::{held, refused},
    unit::{fenced, key},
};

#[tokio::test]
async fn outputs_move_only_while_the_row_stands_where_it_was() {
    let shop = fenced().await;
    let message = refused(Some("a"), "too large");
    let moved = shop
        .postgres
        .quarantine_outputs(&key(0), 5, b"", "rest".into(), std::slice::from_ref(&message))
        .await;
    assert!(!moved.unwrap());
    assert_eq!(shop.count("tidelock.quarantine").await, 0);
    let before = shop.postgres.fence(&key(0)).await.unwrap().unwrap();
    assert!(before.pending.is_empty());
    let moved = shop
        .postgres
        .quarantine_outputs(&key(0), 0, b"", "rest".into(), std::slice::from_ref(&message))
        .await;
    assert!(moved.unwrap());
    let after = shop.postgres.fence(&key(0)).await.unwrap().unwrap();
    assert_eq!(after, Fence { pending: "rest".into(), ..before });
    let entries = shop.entries().await;
    assert_eq!((entries.len(), entries[0].id, entries[0].emitted), (1, message.id, true));
    // The relay's attempts do not concern it.
    shop.postgres.settle_quarantine(shop.claim(ALL).await, None).await.unwrap();
    assert_eq!(shop.reasons().await, ["too large"]);
}

/// A verdict that comes twice, or late: after an answer to COMMIT that was lost, or from a worker that lost the partition.
#[tokio::test]
async fn a_verdict_over_other_outputs_moves_nothing() {
    let shop = fenced().await;
    shop.run("UPDATE tidelock.fence SET pending = 'first second'").await;
    let (first, second) = ([refused(Some("a"), "1")], [refused(Some("b"), "2")]);
    let move_first = async || {
        shop.postgres.quarantine_outputs(&key(0), 0, b"first second", "second".into(), &first).await.unwrap()
    };
    let (one, other) = tokio::join!(move_first(), move_first());
    assert!(one != other, "both at once: the row's lock orders them");
    assert!(!move_first().await);
    let moved = shop.postgres.quarantine_outputs(&key(0), 0, b"first second", "first".into(), &second).await;
    assert!(!moved.unwrap(), "the second output of what is no longer there");
    assert_eq!(shop.postgres.fence(&key(0)).await.unwrap().unwrap().pending, "second");
    assert_eq!(shop.reasons().await, ["1"]);
}

#[tokio::test]
async fn an_output_holds_nothing_back_and_is_released_by_the_relay() {
    let shop = fenced().await;
    let outputs = [refused(Some("a"), "1"), refused(None, "2")];
    assert!(shop.postgres.quarantine_outputs(&key(0), 0, b"", Default::default(), &outputs).await.unwrap());
    assert_eq!(shop.postgres.held_keys(ALL).await.unwrap(), (held(&[]), false));
    assert_eq!(shop.postgres.release(outputs[0].id).await.unwrap(), 1);
    assert_eq!(shop.postgres.held_keys(ALL).await.unwrap(), (held(&[]), true));
    let attempt = Uuid::new_v4();
    assert_eq!(shop.take(attempt, 10).await, ["1"]);
    // Taken back, then published.
    shop.postgres.settle_quarantine(shop.claim(ALL).await, None).await.unwrap();
    assert_eq!(shop.take(attempt, 10).await, ["1"]);
    shop.postgres.settle_quarantine(shop.claim(ALL).await, Some(attempt)).await.unwrap();
    assert_eq!(shop.reasons().await, ["2"]);
}

#[tokio::test]
async fn an_output_and_the_outboxs_messages_of_one_key_are_released_together() {
    let shop = fenced().await;
    let output = refused(Some("a"), "output");
    let moved = shop
        .postgres
        .quarantine_outputs(&key(0), 0, b"", Default::default(), std::slice::from_ref(&output))
        .await;
    assert!(moved.unwrap());
    shop.hold(&[refused(Some("a"), "enqueued")]).await;
    assert_eq!(shop.postgres.held_keys(ALL).await.unwrap().0, held(&["a"]));
    assert_eq!(shop.postgres.release(output.id).await.unwrap(), 2);
    assert_eq!(shop.take(Uuid::new_v4(), 10).await, ["output", "enqueued"]);
}
