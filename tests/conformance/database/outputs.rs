//! Messages that were refused, of a handler's outputs.

use tidelock::database::{Advance, Database as _, Fence, Source as _, Unit as _};
use uuid::Uuid;

use super::{ALL, UnderTest, committed, held, key, refused};

pub(super) async fn they_move_only_while_the_row_stands_where_it_was<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let message = refused(Some("a"), "too large");
    let moved = own.quarantine_outputs(&key(0), 5, b"", "rest".into(), std::slice::from_ref(&message)).await;
    assert!(!moved.unwrap());
    assert_eq!(under.count(&format!("{}quarantine", U::PREFIX)).await, 0);
    let before = own.fence(&key(0)).await.unwrap().unwrap();
    assert!(before.pending.is_empty());
    let moved = own.quarantine_outputs(&key(0), 0, b"", "rest".into(), std::slice::from_ref(&message)).await;
    assert!(moved.unwrap());
    let after = own.fence(&key(0)).await.unwrap().unwrap();
    assert_eq!(after, Fence { pending: "rest".into(), ..before });
    let entries = under.entries().await;
    assert_eq!((entries.len(), entries[0].id, entries[0].emitted), (1, message.id, true));
    // The relay's attempts do not concern it.
    under.settle(None).await;
    assert_eq!(under.reasons().await, ["too large"]);
}

pub(super) async fn an_output_holds_nothing_back_and_is_released_by_the_relay<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let outputs = [refused(Some("a"), "1"), refused(None, "2")];
    assert!(own.quarantine_outputs(&key(0), 0, b"", Default::default(), &outputs).await.unwrap());
    assert_eq!(own.held_keys(ALL).await.unwrap(), (held(&[]), false));
    assert_eq!(under.release(outputs[0].id).await.unwrap(), 1);
    assert_eq!(own.held_keys(ALL).await.unwrap(), (held(&[]), true));
    let attempt = Uuid::new_v4();
    assert_eq!(under.take(attempt, 10).await, ["1"]);
    // Taken back, then published.
    under.settle(None).await;
    assert_eq!(under.take(attempt, 10).await, ["1"]);
    under.settle(Some(attempt)).await;
    assert_eq!(under.reasons().await, ["2"]);
}

pub(super) async fn an_output_and_the_outboxs_messages_of_one_key_are_released_together<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let output = refused(Some("a"), "output");
    let moved =
        own.quarantine_outputs(&key(0), 0, b"", Default::default(), std::slice::from_ref(&output)).await;
    assert!(moved.unwrap());
    under.hold(&[refused(Some("a"), "enqueued")]).await;
    assert_eq!(own.held_keys(ALL).await.unwrap().0, held(&["a"]));
    assert_eq!(under.release(output.id).await.unwrap(), 2);
    assert_eq!(under.take(Uuid::new_v4(), 10).await, ["output", "enqueued"]);
}

/// A verdict that comes twice, or late: after an answer to COMMIT that was lost, or from a worker that lost the partition.
pub(super) async fn a_verdict_over_other_outputs_moves_nothing<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let mut unit = own.begin().await.unwrap();
    let submitted = b"first second";
    let advance =
        Advance { key: &key(0), from: 0, to: 1, pending: submitted.as_slice().into(), owner: "owner" };
    assert!(unit.advance(advance).await.unwrap());
    committed(unit.commit().await);
    let (first, second) = ([refused(Some("a"), "1")], [refused(Some("b"), "2")]);
    let move_first =
        async || own.quarantine_outputs(&key(0), 1, submitted, "second".into(), &first).await.unwrap();
    let (one, other) = tokio::join!(move_first(), move_first());
    assert!(one != other, "both at once: one comes first");
    assert!(!move_first().await);
    let moved = own.quarantine_outputs(&key(0), 1, submitted, "first".into(), &second).await;
    assert!(!moved.unwrap(), "the second output of what is no longer there");
    assert_eq!(own.fence(&key(0)).await.unwrap().unwrap().pending, "second");
    assert_eq!(under.reasons().await, ["1"]);
}
