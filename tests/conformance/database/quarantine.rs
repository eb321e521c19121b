//! Messages that were refused, of the outbox: proposed, held, released.

use tidelock::{
    database::{Quarantined, Shard, Source as _},
    error::Kind,
    message::MessageId,
};
use uuid::Uuid;

use super::{ALL, UnderTest, held, refused};

pub(super) async fn what_is_proposed_counts_once_a_position_names_the_attempt<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let (attempt, nothing) = (Uuid::new_v4(), held(&[]));
    let messages = [refused(Some("a"), "1"), refused(Some("b"), "2")];
    for settled in [None, Some(Uuid::new_v4())] {
        own.propose(own.claim(ALL).await.unwrap(), attempt, &messages).await.unwrap();
        assert!(under.entries().await.is_empty());
        assert_eq!(own.held_keys(ALL).await.unwrap(), (nothing.clone(), false));
        assert_eq!(under.release(messages[0].id).await.unwrap_err().kind(), Kind::Config);
        under.settle(settled).await;
        assert_eq!(under.count(&format!("{}quarantine", U::PREFIX)).await, 0, "settled with {settled:?}");
    }
    own.propose(own.claim(ALL).await.unwrap(), attempt, &messages).await.unwrap();
    under.settle(Some(attempt)).await;
    let entries = under.entries().await;
    assert_eq!(
        entries.iter().map(|entry| entry.id).collect::<Vec<_>>(),
        messages.each_ref().map(|each| each.id)
    );
    assert_eq!((&*entries[0].topic, entries[0].key.as_str(), &*entries[0].reason), ("topic", Some("a"), "1"));
    assert!(!entries[0].release_asked && !entries[0].emitted);
    assert_eq!(own.held_keys(ALL).await.unwrap(), (held(&["a", "b"]), false));
}

pub(super) async fn a_release_takes_the_oldest_first_and_the_whole_key_in_the_end<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let keys = ["a", "b", "a", "c", "b", "a"];
    let messages: Vec<_> =
        keys.iter().enumerate().map(|(n, key)| refused(Some(key), &n.to_string())).collect();
    under.hold(&messages).await;
    assert!(under.take(Uuid::new_v4(), 10).await.is_empty(), "nobody asked");
    assert_eq!(under.release(messages[5].id).await.unwrap(), 3);
    assert_eq!(under.release(messages[1].id).await.unwrap(), 2);
    assert!(own.held_keys(ALL).await.unwrap().1);
    assert!(under.release(MessageId::new()).await.is_err());
    // What came behind later goes along, in its turn.
    under.hold(&[refused(Some("a"), "6")]).await;
    for (limit, taken, left, keys) in [
        (3, &["0", "1", "2"][..], &["3", "4", "5", "6"][..], &["a", "b", "c"][..]),
        (1, &["4"], &["3", "5", "6"], &["a", "c"]),
        (9, &["5", "6"], &["3"], &["c"]),
    ] {
        let attempt = Uuid::new_v4();
        assert_eq!(under.take(attempt, limit).await, taken);
        under.settle(Some(attempt)).await;
        assert_eq!(under.reasons().await, left, "what was published is gone");
        assert_eq!(own.held_keys(ALL).await.unwrap(), (held(keys), left.len() > 1));
    }
}

pub(super) async fn a_release_of_large_messages_takes_as_many_as_fit<U: UnderTest>() {
    let under = U::new().await;
    let large = |n: &str, size: usize| Quarantined { record: vec![0; size].into(), ..refused(Some("a"), n) };
    let messages = [large("1", 17 << 20), large("2", 9 << 20), large("3", 7 << 20), large("4", 1)];
    under.hold(&messages).await;
    under.release(messages[0].id).await.unwrap();
    for taken in [&["1"][..], &["2", "3"], &["4"]] {
        let attempt = Uuid::new_v4();
        assert_eq!(under.take(attempt, 10).await, taken);
        under.settle(Some(attempt)).await;
    }
}

pub(super) async fn a_release_that_was_not_committed_is_still_asked_for<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let messages = [refused(Some("a"), "1"), refused(Some("a"), "2")];
    under.hold(&messages).await;
    under.release(messages[0].id).await.unwrap();
    for settled in [None, Some(Uuid::new_v4())] {
        let attempt = Uuid::new_v4();
        let taken = own.take_released(own.claim(ALL).await.unwrap(), attempt, 10).await.unwrap();
        assert_eq!(taken[0].message.record, messages[0].record);
        assert_eq!(taken[0].message.id, messages[0].id);
        assert_eq!(own.held_keys(ALL).await.unwrap().0, held(&["a"]), "held until it is published");
        under.settle(settled).await;
        assert_eq!(own.held_keys(ALL).await.unwrap(), (held(&["a"]), true));
        assert!(under.entries().await.iter().all(|entry| entry.release_asked));
    }
    assert_eq!(under.take(Uuid::new_v4(), 10).await, ["1", "2"]);
}

pub(super) async fn a_release_that_was_refused_again_is_no_longer_asked_for<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let messages = [refused(Some("a"), "1"), refused(Some("a"), "2"), refused(Some("b"), "3")];
    under.hold(&messages).await;
    for message in &messages {
        under.release(message.id).await.unwrap();
    }
    let attempt = Uuid::new_v4();
    let taken = own.take_released(own.claim(ALL).await.unwrap(), attempt, 10).await.unwrap();
    // Meanwhile proposed behind it, by a transaction that is not committed.
    let behind = Uuid::new_v4();
    own.propose(own.claim(ALL).await.unwrap(), behind, &[refused(Some("a"), "behind")]).await.unwrap();
    own.refuse_released(own.claim(ALL).await.unwrap(), &[(taken[1].entry, "too large".to_owned())])
        .await
        .unwrap();
    assert_eq!(under.reasons().await, ["1", "too large", "3"]);
    let asked: Vec<bool> = under.entries().await.iter().map(|entry| entry.release_asked).collect();
    assert_eq!(asked, [false, false, true]);
    under.settle(None).await;
    assert_eq!(under.reasons().await, ["1", "too large", "3"], "what was proposed is taken back");
    assert_eq!(under.take(Uuid::new_v4(), 10).await, ["3"]);
}

pub(super) async fn entries_without_a_key_stand_alone<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let messages = [refused(None, "1"), refused(None, "2"), refused(None, "3")];
    under.hold(&messages).await;
    assert_eq!(own.held_keys(ALL).await.unwrap(), (held(&[]), false));
    assert_eq!(under.release(messages[1].id).await.unwrap(), 1);
    assert_eq!(own.held_keys(ALL).await.unwrap(), (held(&[]), true));
    let attempt = Uuid::new_v4();
    let taken = own.take_released(own.claim(ALL).await.unwrap(), attempt, 10).await.unwrap();
    assert_eq!(taken.len(), 1);
    own.refuse_released(own.claim(ALL).await.unwrap(), &[(taken[0].entry, "again".to_owned())])
        .await
        .unwrap();
    assert_eq!(under.reasons().await, ["1", "again", "3"]);
    under.release(messages[1].id).await.unwrap();
    assert_eq!(under.take(attempt, 10).await, ["again"]);
    under.settle(Some(attempt)).await;
    assert_eq!(under.reasons().await, ["1", "3"]);
}

pub(super) async fn each_shard_settles_and_takes_its_own<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let messages: Vec<_> = keys.iter().map(|key| refused(Some(key), key)).collect();
    let shards = [Shard { index: 0, count: 2 }, Shard { index: 1, count: 2 }];
    let claims = [own.claim(shards[0]).await.unwrap(), own.claim(shards[1]).await.unwrap()];
    let attempt = Uuid::new_v4();
    own.propose(claims[0], attempt, &messages).await.unwrap();
    own.settle_quarantine(claims[0], Some(attempt)).await.unwrap();
    let mine = own.held_keys(shards[0]).await.unwrap().0;
    assert!(!mine.is_empty() && mine.len() < keys.len(), "{mine:?}");
    assert!(own.held_keys(shards[1]).await.unwrap().0.is_empty(), "still proposed");
    own.settle_quarantine(claims[1], Some(attempt)).await.unwrap();
    let others = own.held_keys(shards[1]).await.unwrap().0;
    assert!(mine.is_disjoint(&others));
    assert_eq!(mine.len() + others.len(), keys.len());
    for message in &messages {
        under.release(message.id).await.unwrap();
    }
    let taken = own.take_released(claims[1], attempt, 100).await.unwrap();
    assert_eq!(taken.len(), others.len());
    // The other shard's attempts are none of its business.
    own.settle_quarantine(claims[0], None).await.unwrap();
    own.settle_quarantine(claims[1], Some(attempt)).await.unwrap();
    assert_eq!(under.entries().await.len(), mine.len());
}

pub(super) async fn what_is_held_stays_whatever_positions_name<U: UnderTest>() {
    let under = U::new().await;
    under.hold(&[refused(Some("a"), "1"), refused(None, "2")]).await;
    assert_eq!(under.settle(None).await, 0);
    assert_eq!(under.settle(Some(Uuid::new_v4())).await, 0);
    assert_eq!(under.reasons().await, ["1", "2"]);
    assert_eq!(under.own().held_keys(ALL).await.unwrap(), (held(&["a"]), false));
}
