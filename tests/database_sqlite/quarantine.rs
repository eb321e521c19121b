//! Messages that were refused, of the outbox: proposed, held, released.

use std::collections::HashSet;

use tidelock::{
    database::{HeldKey, QuarantineEntry, Quarantined, Shard, Source as _},
    error::{Error, Kind},
    message::MessageId,
};
use uuid::Uuid;

use super::{ALL, CLAIM, Shop};

pub(super) fn refused(key: Option<&'static str>, reason: &str) -> Quarantined {
    Quarantined {
        id: MessageId::new(),
        topic: "topic".into(),
        key: key.map(Into::into),
        record: format!("record of {reason}").into(),
        reason: reason.to_owned(),
    }
}

pub(super) fn held(keys: &[&'static str]) -> HashSet<HeldKey> {
    keys.iter().map(|key| HeldKey { topic: "topic".into(), key: (*key).into() }).collect()
}

impl Shop {
    /// Puts messages into the quarantine for good.
    pub(super) async fn hold(&self, messages: &[Quarantined]) {
        let attempt = Uuid::new_v4();
        self.sqlite.propose(CLAIM, attempt, messages).await.unwrap();
        self.sqlite.settle_quarantine(CLAIM, Some(attempt)).await.unwrap();
    }

    pub(super) async fn entries(&self) -> Vec<QuarantineEntry> {
        self.sqlite.quarantine(100).await.unwrap()
    }

    pub(super) async fn reasons(&self) -> Vec<String> {
        self.entries().await.into_iter().map(|entry| entry.reason).collect()
    }

    pub(super) async fn take(&self, attempt: Uuid, limit: usize) -> Vec<String> {
        let taken = self.sqlite.take_released(CLAIM, attempt, limit).await.unwrap();
        assert!(taken.is_sorted_by_key(|each| each.entry));
        taken.into_iter().map(|each| each.message.reason).collect()
    }
}

#[tokio::test]
async fn what_is_proposed_counts_once_a_position_names_the_attempt() {
    let shop = Shop::new().await;
    let (attempt, nothing) = (Uuid::new_v4(), held(&[]));
    let messages = [refused(Some("a"), "1"), refused(Some("b"), "2")];
    for settled in [None, Some(Uuid::new_v4())] {
        shop.sqlite.propose(CLAIM, attempt, &messages).await.unwrap();
        assert!(shop.entries().await.is_empty());
        assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap(), (nothing.clone(), false));
        assert_eq!(shop.sqlite.release(messages[0].id).await.unwrap_err().kind(), Kind::Config);
        shop.sqlite.settle_quarantine(CLAIM, settled).await.unwrap();
        assert_eq!(shop.count("tidelock_quarantine").await, 0, "settled with {settled:?}");
    }
    shop.sqlite.propose(CLAIM, attempt, &messages).await.unwrap();
    shop.sqlite.settle_quarantine(CLAIM, Some(attempt)).await.unwrap();
    let entries = shop.entries().await;
    assert_eq!(
        entries.iter().map(|entry| entry.id).collect::<Vec<_>>(),
        messages.each_ref().map(|each| each.id)
    );
    assert_eq!((&*entries[0].topic, entries[0].key.as_str(), &*entries[0].reason), ("topic", Some("a"), "1"));
    assert!(!entries[0].release_asked && !entries[0].emitted);
    assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap(), (held(&["a", "b"]), false));
    // What is held stays, whatever later positions name.
    shop.sqlite.settle_quarantine(CLAIM, None).await.unwrap();
    shop.sqlite.settle_quarantine(CLAIM, Some(Uuid::new_v4())).await.unwrap();
    assert_eq!(shop.reasons().await, ["1", "2"]);
}

#[tokio::test]
async fn a_release_takes_the_oldest_first_and_the_whole_key_in_the_end() {
    let shop = Shop::new().await;
    let keys = ["a", "b", "a", "c", "b", "a"];
    let messages: Vec<_> =
        keys.iter().enumerate().map(|(n, key)| refused(Some(key), &n.to_string())).collect();
    shop.hold(&messages).await;
    assert!(shop.take(Uuid::new_v4(), 10).await.is_empty(), "nobody asked");
    assert_eq!(shop.sqlite.release(messages[5].id).await.unwrap(), 3);
    assert_eq!(shop.sqlite.release(messages[1].id).await.unwrap(), 2);
    assert!(shop.sqlite.held_keys(ALL).await.unwrap().1);
    assert!(shop.sqlite.release(MessageId::new()).await.is_err());
    // What came behind later goes along, in its turn.
    shop.hold(&[refused(Some("a"), "6")]).await;
    for (limit, taken, left, keys) in [
        (3, &["0", "1", "2"][..], &["3", "4", "5", "6"][..], &["a", "b", "c"][..]),
        (1, &["4"], &["3", "5", "6"], &["a", "c"]),
        (9, &["5", "6"], &["3"], &["c"]),
    ] {
        let attempt = Uuid::new_v4();
        assert_eq!(shop.take(attempt, limit).await, taken);
        shop.sqlite.settle_quarantine(CLAIM, Some(attempt)).await.unwrap();
        assert_eq!(shop.reasons().await, left, "what was published is gone");
        assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap(), (held(keys), left.len() > 1));
    }
}

#[tokio::test]
async fn a_release_of_large_messages_takes_as_many_as_fit() {
    let shop = Shop::new().await;
    let large = |n: &str, size: usize| Quarantined { record: vec![0; size].into(), ..refused(Some("a"), n) };
    let messages = [large("1", 17 << 20), large("2", 9 << 20), large("3", 7 << 20), large("4", 1)];
    shop.hold(&messages).await;
    shop.sqlite.release(messages[0].id).await.unwrap();
    for taken in [&["1"][..], &["2", "3"], &["4"]] {
        let attempt = Uuid::new_v4();
        assert_eq!(shop.take(attempt, 10).await, taken);
        shop.sqlite.settle_quarantine(CLAIM, Some(attempt)).await.unwrap();
    }
}

#[tokio::test]
async fn a_release_that_was_not_committed_is_still_asked_for() {
    let shop = Shop::new().await;
    let messages = [refused(Some("a"), "1"), refused(Some("a"), "2")];
    shop.hold(&messages).await;
    shop.sqlite.release(messages[0].id).await.unwrap();
    for settled in [None, Some(Uuid::new_v4())] {
        let attempt = Uuid::new_v4();
        let taken = shop.sqlite.take_released(CLAIM, attempt, 10).await.unwrap();
        assert_eq!(taken[0].message.record, messages[0].record);
        assert_eq!(taken[0].message.id, messages[0].id);
        assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap().0, held(&["a"]), "held until it is published");
        shop.sqlite.settle_quarantine(CLAIM, settled).await.unwrap();
        assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap(), (held(&["a"]), true));
        assert!(shop.entries().await.iter().all(|entry| entry.release_asked));
    }
    assert_eq!(shop.take(Uuid::new_v4(), 10).await, ["1", "2"]);
}

#[tokio::test]
async fn a_release_that_was_refused_again_is_held_and_no_longer_asked_for() {
    let shop = Shop::new().await;
    let messages = [refused(Some("a"), "1"), refused(Some("a"), "2"), refused(Some("b"), "3")];
    shop.hold(&messages).await;
    for message in &messages {
        shop.sqlite.release(message.id).await.unwrap();
    }
    let attempt = Uuid::new_v4();
    let taken = shop.sqlite.take_released(CLAIM, attempt, 10).await.unwrap();
    // Meanwhile proposed behind it, by a transaction that is not committed.
    let behind = Uuid::new_v4();
    shop.sqlite.propose(CLAIM, behind, &[refused(Some("a"), "behind")]).await.unwrap();
    shop.sqlite.refuse_released(CLAIM, &[(taken[1].entry, "too large".to_owned())]).await.unwrap();
    assert_eq!(shop.reasons().await, ["1", "too large", "3"]);
    let asked: Vec<bool> = shop.entries().await.iter().map(|entry| entry.release_asked).collect();
    assert_eq!(asked, [false, false, true]);
    shop.sqlite.settle_quarantine(CLAIM, None).await.unwrap();
    assert_eq!(shop.reasons().await, ["1", "too large", "3"], "what was proposed is taken back");
    assert_eq!(shop.take(Uuid::new_v4(), 10).await, ["3"]);
}

#[tokio::test]
async fn entries_without_a_key_stand_alone() {
    let shop = Shop::new().await;
    let messages = [refused(None, "1"), refused(None, "2"), refused(None, "3")];
    shop.hold(&messages).await;
    assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap(), (held(&[]), false));
    assert_eq!(shop.sqlite.release(messages[1].id).await.unwrap(), 1);
    assert_eq!(shop.sqlite.held_keys(ALL).await.unwrap(), (held(&[]), true));
    let attempt = Uuid::new_v4();
    let taken = shop.sqlite.take_released(CLAIM, attempt, 10).await.unwrap();
    assert_eq!(taken.len(), 1);
    shop.sqlite.refuse_released(CLAIM, &[(taken[0].entry, "again".to_owned())]).await.unwrap();
    assert_eq!(shop.reasons().await, ["1", "again", "3"]);
    shop.sqlite.release(messages[1].id).await.unwrap();
    assert_eq!(shop.take(attempt, 10).await, ["again"]);
    shop.sqlite.settle_quarantine(CLAIM, Some(attempt)).await.unwrap();
    assert_eq!(shop.reasons().await, ["1", "3"]);
}

#[tokio::test]
async fn each_shard_settles_and_takes_its_own() {
    let shop = Shop::new().await;
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let messages: Vec<_> = keys.iter().map(|key| refused(Some(key), key)).collect();
    let shards = [Shard { index: 0, count: 2 }, Shard { index: 1, count: 2 }];
    let claims = [shop.sqlite.claim(shards[0]).await.unwrap(), shop.sqlite.claim(shards[1]).await.unwrap()];
    let attempt = Uuid::new_v4();
    shop.sqlite.propose(claims[0], attempt, &messages).await.unwrap();
    shop.sqlite.settle_quarantine(claims[0], Some(attempt)).await.unwrap();
    let mine = shop.sqlite.held_keys(shards[0]).await.unwrap().0;
    assert!(!mine.is_empty() && mine.len() < keys.len(), "{mine:?}");
    assert!(shop.sqlite.held_keys(shards[1]).await.unwrap().0.is_empty(), "still proposed");
    shop.sqlite.settle_quarantine(claims[1], Some(attempt)).await.unwrap();
    let others = shop.sqlite.held_keys(shards[1]).await.unwrap().0;
    assert!(mine.is_disjoint(&others));
    assert_eq!(mine.len() + others.len(), keys.len());
    for message in &messages {
        shop.sqlite.release(message.id).await.unwrap();
    }
    let taken = shop.sqlite.take_released(claims[1], attempt, 100).await.unwrap();
    assert_eq!(taken.len(), others.len());
    // The other shard's attempts are none of its business.
    shop.sqlite.settle_quarantine(claims[0], None).await.unwrap();
    shop.sqlite.settle_quarantine(claims[1], Some(attempt)).await.unwrap();
    assert_eq!(shop.entries().await.len(), mine.len());
}

#[tokio::test]
async fn an_older_claim_writes_nothing() {
    let shop = Shop::new().await;
    let message = refused(Some("a"), "1");
    shop.hold(std::slice::from_ref(&message)).await;
    shop.sqlite.release(message.id).await.unwrap();
    let newer = shop.sqlite.claim(ALL).await.unwrap();
    assert_eq!(newer.epoch, CLAIM.epoch + 1);
    let attempt = Uuid::new_v4();
    let fenced = |error: Error| assert_eq!(error.kind(), Kind::Fenced, "{error}");
    fenced(shop.sqlite.propose(CLAIM, attempt, std::slice::from_ref(&message)).await.unwrap_err());
    fenced(shop.sqlite.settle_quarantine(CLAIM, None).await.unwrap_err());
    fenced(shop.sqlite.take_released(CLAIM, attempt, 10).await.unwrap_err());
    fenced(shop.sqlite.refuse_released(CLAIM, &[(1, "no".to_owned())]).await.unwrap_err());
    assert_eq!(shop.reasons().await, ["1"]);
    assert_eq!(shop.sqlite.take_released(newer, attempt, 10).await.unwrap().len(), 1);
}
