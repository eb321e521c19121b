//! Messages that were refused, of a handler's outputs.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use tidelock::{
    commit::Commit,
    database::{
        Advance, Advanced, Database as _, Fence, HeldKey, Quarantined, Source as _, Submitted, Unit as _,
    },
    error::Result,
};
use uuid::Uuid;

use super::{ALL, UnderTest, Unit, committed, held, key, refused};

/// Under the first claim.
fn sent(next_offset: i64, pending: impl Into<Bytes>) -> Submitted {
    Submitted { next_offset, pending: pending.into(), claim: 0 }
}

pub(super) async fn they_move_only_while_the_row_stands_where_it_was<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let message = refused(Some("a"), "too large");
    let moved =
        own.quarantine_outputs(&key(0), &sent(5, ""), "rest".into(), std::slice::from_ref(&message)).await;
    assert!(!moved.unwrap());
    assert_eq!(under.count(&format!("{}quarantine", U::PREFIX)).await, 0);
    let before = own.fence(&key(0)).await.unwrap().unwrap();
    assert!(before.pending.is_empty());
    let moved =
        own.quarantine_outputs(&key(0), &sent(0, ""), "rest".into(), std::slice::from_ref(&message)).await;
    assert!(moved.unwrap());
    let after = own.fence(&key(0)).await.unwrap().unwrap();
    assert_eq!(after, Fence { pending: "rest".into(), ..before });
    let entries = under.entries().await;
    assert_eq!((entries.len(), entries[0].id, entries[0].emitted), (1, message.id, true));
    // The relay's attempts do not concern it.
    under.settle(None).await;
    assert_eq!(under.reasons().await, ["too large"]);
}

pub(super) async fn an_output_holds_nothing_of_the_outbox_and_is_released_by_the_relay<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let outputs = [refused(Some("a"), "1"), refused(None, "2")];
    assert!(own.quarantine_outputs(&key(0), &sent(0, ""), Default::default(), &outputs).await.unwrap());
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
    let outputs = std::slice::from_ref(&output);
    let moved = own.quarantine_outputs(&key(0), &sent(0, ""), Default::default(), outputs).await;
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
    let submitted = sent(1, "first second");
    let advance =
        Advance { key: &key(0), from: 0, to: 1, pending: submitted.pending.clone(), owner: "owner" };
    assert_eq!(unit.advance(advance).await.unwrap(), Advanced::Clear);
    committed(unit.commit().await);
    let (first, second) = ([refused(Some("a"), "1")], [refused(Some("b"), "2")]);
    let move_first =
        async || own.quarantine_outputs(&key(0), &submitted, "second".into(), &first).await.unwrap();
    let (one, other) = tokio::join!(move_first(), move_first());
    assert!(one != other, "both at once: one comes first");
    assert!(!move_first().await);
    let moved = own.quarantine_outputs(&key(0), &submitted, "first".into(), &second).await;
    assert!(!moved.unwrap(), "the second output of what is no longer there");
    assert_eq!(own.fence(&key(0)).await.unwrap().unwrap().pending, "second");
    assert_eq!(under.reasons().await, ["1"]);
}

/// Whoever sent them before may be about to move them: refused then, they are accepted now.
pub(super) async fn what_another_one_claimed_is_not_moved<U: UnderTest>() {
    let under = U::new().await;
    let (own, other) = (under.own(), under.another().await);
    let mut unit = own.begin().await.unwrap();
    let submitted = sent(1, "outputs");
    let pending = submitted.pending.clone();
    let advance = Advance { key: &key(0), from: 0, to: 1, pending, owner: "owner" };
    assert_eq!(unit.advance(advance).await.unwrap(), Advanced::Clear);
    committed(unit.commit().await);
    let before = own.fence(&key(0)).await.unwrap().unwrap();
    assert_eq!((before.claim, before.owner.as_str()), (0, "owner"));
    for another in [sent(0, "outputs"), sent(1, "others"), Submitted { claim: 1, ..submitted.clone() }] {
        assert_eq!(other.claim_outputs(&key(0), &another, "next").await.unwrap(), None, "{another:?}");
    }
    assert_eq!(other.claim_outputs(&key(4), &submitted, "next").await.unwrap(), None, "there is no such row");
    assert_eq!(own.fence(&key(0)).await.unwrap(), Some(before.clone()));
    assert_eq!(other.claim_outputs(&key(0), &submitted, "next").await.unwrap(), Some(1));
    let after = own.fence(&key(0)).await.unwrap();
    assert_eq!(after, Some(Fence { claim: 1, owner: "next".to_owned(), ..before }));
    assert_eq!(own.claim_outputs(&key(0), &submitted, "late").await.unwrap(), None);
    let refused = [refused(Some("a"), "too large")];
    let moved = own.quarantine_outputs(&key(0), &submitted, Default::default(), &refused).await;
    assert!(!moved.unwrap());
    assert_eq!(own.fence(&key(0)).await.unwrap(), after);
    assert_eq!(under.count(&format!("{}quarantine", U::PREFIX)).await, 0);
    let claimed = Submitted { claim: 1, ..submitted };
    assert!(other.quarantine_outputs(&key(0), &claimed, "rest".into(), &refused).await.unwrap());
    assert_eq!(under.reasons().await, ["too large"]);
    // The next batch is under the claim that stands.
    let mut unit = other.begin().await.unwrap();
    let advance = Advance { key: &key(0), from: 1, to: 2, pending: "more".into(), owner: "next" };
    assert_eq!(unit.advance(advance).await.unwrap(), Advanced::Quarantine);
    committed(unit.commit().await);
    assert_eq!(own.fence(&key(0)).await.unwrap().unwrap().claim, 1);
}

pub(super) async fn one_of_two_claims_comes_first<U: UnderTest>() {
    let under = U::new().await;
    let (own, other) = (under.own(), under.another().await);
    let submitted = sent(0, "");
    let (one, two) = (key(0), key(0));
    let (one, two) = tokio::join!(
        own.claim_outputs(&one, &submitted, "one"),
        other.claim_outputs(&two, &submitted, "two"),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(matches!((one, two), (Some(1), None) | (None, Some(1))), "{one:?} {two:?}");
    let owner = own.fence(&key(0)).await.unwrap().unwrap().owner;
    assert_eq!(owner, if one.is_some() { "one" } else { "two" });
}

/// The next batch of the first partition, open; outputs may have to wait.
async fn batch<U: UnderTest>(under: &U) -> Unit<U> {
    let from = under.next_offset().await;
    let mut unit = under.own().begin().await.unwrap();
    let key = key(0);
    let advance = Advance { key: &key, from, to: from + 1, pending: "all".into(), owner: "owner" };
    assert_eq!(unit.advance(advance).await.unwrap(), Advanced::Quarantine);
    unit
}

fn keys(keys: &[&'static str]) -> Vec<HeldKey> {
    held(keys).into_iter().collect()
}

/// A whole batch whose outputs are these: those of held keys are held back.
async fn outputs<U: UnderTest>(under: &U, outputs: &[Quarantined]) {
    let mut unit = batch(under).await;
    let of = |each: &Quarantined| Some(HeldKey { topic: each.topic.clone(), key: each.key.clone()? });
    let found = unit.held_outputs(&outputs.iter().filter_map(of).collect::<Vec<_>>()).await.unwrap();
    let behind = outputs.iter().filter(|each| of(each).is_some_and(|key| found.contains(&key)));
    unit.hold_back(&key(0), "rest".into(), &behind.cloned().collect::<Vec<_>>()).await.unwrap();
    committed(unit.commit().await);
}

async fn refuse<U: UnderTest>(under: &U, messages: &[Quarantined]) {
    let (own, key) = (under.own(), key(0));
    let fence = own.fence(&key).await.unwrap().unwrap();
    let submitted = Submitted { next_offset: fence.next_offset, pending: fence.pending, claim: fence.claim };
    let moved = own.quarantine_outputs(&key, &submitted, "kept".into(), messages).await;
    assert!(moved.unwrap());
}

async fn asked<U: UnderTest>(under: &U) -> Vec<bool> {
    under.entries().await.into_iter().map(|entry| entry.release_asked).collect()
}

pub(super) async fn later_outputs_wait_behind_those_of_their_key<U: UnderTest>() {
    let under = U::new().await;
    refuse(&under, &[refused(Some("a"), "1"), refused(None, "2"), refused(Some("b"), "3")]).await;
    let mut unit = batch(&under).await;
    let elsewhere = HeldKey { topic: "elsewhere".into(), key: "a".into() };
    assert!(unit.held_outputs(&[]).await.unwrap().is_empty());
    let asked = [keys(&["b", "c", "d"]), vec![elsewhere]].concat();
    assert_eq!(unit.held_outputs(&asked).await.unwrap(), held(&["b"]));
    committed(unit.commit().await);
    let later =
        [refused(Some("c"), "4"), refused(Some("a"), "5"), refused(None, "6"), refused(Some("a"), "7")];
    outputs(&under, &later).await;
    assert_eq!(under.reasons().await, ["1", "2", "3", "5", "7"], "in order, and none without a key");
    assert_eq!(under.own().fence(&key(0)).await.unwrap().unwrap().pending, "rest");
    assert!(under.entries().await.iter().all(|entry| entry.emitted && !entry.release_asked));
    assert_eq!(under.own().held_keys(ALL).await.unwrap(), (held(&[]), false), "the outbox goes on");
}

pub(super) async fn what_a_unit_holds_back_is_rolled_back_with_it<U: UnderTest>() {
    let under = U::new().await;
    refuse(&under, &[refused(Some("a"), "1")]).await;
    for round in 0..4 {
        let mut unit = batch(&under).await;
        assert_eq!(unit.held_outputs(&keys(&["a"])).await.unwrap(), held(&["a"]));
        unit.hold_back(&key(0), "rest".into(), &[refused(Some("a"), "2")]).await.unwrap();
        match round % 2 {
            0 => unit.rollback().await,
            _ => drop(unit),
        }
        let fence = under.own().fence(&key(0)).await.unwrap().unwrap();
        assert_eq!((fence.next_offset, &fence.pending[..]), (0, &b"kept"[..]));
        assert_eq!(under.reasons().await, ["1"]);
    }
}

pub(super) async fn messages_of_the_outbox_hold_no_output<U: UnderTest>() {
    let under = U::new().await;
    under.hold(&[refused(Some("a"), "1")]).await;
    outputs(&under, &[refused(Some("a"), "2")]).await;
    assert_eq!(under.reasons().await, ["1"]);
}

/// They are asked for with it, whatever becomes of it; and a key that is empty holds nothing.
pub(super) async fn outputs_that_come_during_a_release_follow_it<U: UnderTest>() {
    let under = U::new().await;
    let first = refused(Some("a"), "1");
    refuse(&under, &[first.clone(), refused(Some("b"), "other")]).await;
    under.release(first.id).await.unwrap();
    outputs(&under, &[refused(Some("a"), "2")]).await;
    let attempt = Uuid::new_v4();
    assert_eq!(under.take(attempt, 1).await, ["1"]);
    outputs(&under, &[refused(Some("a"), "3"), refused(Some("b"), "other")]).await;
    // Not committed: it is taken again with what came.
    under.settle(None).await;
    assert_eq!(under.take(attempt, 1).await, ["1"]);
    under.settle(Some(attempt)).await;
    assert_eq!(under.reasons().await, ["other", "2", "3", "other"]);
    assert_eq!(asked(&under).await, [false, true, true, false]);
    let attempt = Uuid::new_v4();
    assert_eq!(under.take(attempt, 10).await, ["2", "3"]);
    // Nothing of the key stays that is asked for, only what comes now.
    outputs(&under, &[refused(Some("a"), "4")]).await;
    assert_eq!(asked(&under).await, [false, true, true, false, false]);
    assert_eq!(under.settle(Some(attempt)).await, 2);
    assert_eq!(asked(&under).await, [false, false, true]);
    assert!(under.own().held_keys(ALL).await.unwrap().1);
    // Refused again: nobody asks any more, and what comes then waits.
    let claim = under.own().claim(ALL).await.unwrap();
    let taken = under.own().take_released(claim, Uuid::new_v4(), 10).await.unwrap();
    outputs(&under, &[refused(Some("a"), "5")]).await;
    under.own().refuse_released(claim, &[(taken[0].entry, "again".to_owned())]).await.unwrap();
    under.settle(None).await;
    assert_eq!(under.reasons().await, ["other", "other", "again", "5"]);
    assert_eq!(asked(&under).await, [false; 4]);
    under.release(taken[0].message.id).await.unwrap();
    let attempt = Uuid::new_v4();
    assert_eq!(under.take(attempt, 10).await, ["again", "5"]);
    under.settle(Some(attempt)).await;
    outputs(&under, &[refused(Some("a"), "6")]).await;
    assert_eq!(under.reasons().await, ["other", "other"], "it flows again");
}

/// Whichever comes first: what the unit adds is asked for, or nothing is there any more that it would stand behind.
pub(super) async fn a_release_ends_after_the_unit_that_saw_its_key_held<U: UnderTest>() {
    let under = U::new().await;
    let first = refused(Some("a"), "1");
    refuse(&under, std::slice::from_ref(&first)).await;
    under.release(first.id).await.unwrap();
    let claim = under.own().claim(ALL).await.unwrap();
    let attempt = Uuid::new_v4();
    under.own().take_released(claim, attempt, 10).await.unwrap();
    let mut unit = batch(&under).await;
    assert_eq!(unit.held_outputs(&keys(&["a"])).await.unwrap(), held(&["a"]));
    let relay = under.another().await;
    let settling: Result<u64>;
    {
        let settle = relay.settle_quarantine(claim, Some(attempt));
        tokio::pin!(settle);
        let early = tokio::time::timeout(Duration::from_millis(300), &mut settle).await;
        assert!(early.is_err(), "the unit is still open");
        unit.hold_back(&key(0), "rest".into(), &[refused(Some("a"), "2")]).await.unwrap();
        committed(unit.commit().await);
        settling = settle.await;
    }
    assert_eq!(settling.unwrap(), 1);
    assert_eq!((under.reasons().await, asked(&under).await), (vec!["2".to_owned()], vec![true]));
}

const BATCHES: i64 = 20;

/// What a log would have, and how many partitions are still at work.
#[derive(Default)]
struct Published {
    records: RefCell<Vec<String>>,
    working: RefCell<usize>,
}

fn text(outputs: &[Quarantined]) -> String {
    outputs.iter().map(|each| format!("{};", each.reason)).collect()
}

/// One batch's database transaction; what is to be sent, once it is committed.
async fn one_batch<U: UnderTest>(own: &U::Own, partition: i32, n: i64) -> Result<Vec<Quarantined>, Commit> {
    let failed = Commit::Aborted;
    let outputs: Vec<Quarantined> =
        ["a", "b", "c", "a"].map(|key| refused(Some(key), &format!("{partition} {key} {n}"))).into();
    let mut unit = own.begin().await.map_err(failed)?;
    let key = key(partition);
    let advance = Advance { key: &key, from: n, to: n + 1, pending: text(&outputs).into(), owner: "owner" };
    let mut kept = outputs;
    match unit.advance(advance).await.map_err(failed)? {
        Advanced::Clear => {}
        Advanced::Stale => panic!("nobody else is there"),
        Advanced::Quarantine => {
            let held = unit.held_outputs(&keys(&["a", "b", "c"])).await.map_err(failed)?;
            let is_held = |each: &Quarantined| held.iter().any(|key| Some(&key.key) == each.key.as_ref());
            let (behind, rest) = kept.into_iter().partition(is_held);
            kept = rest;
            unit.hold_back(&key, text(&kept).into(), &behind).await.map_err(failed)?;
        }
    }
    match unit.commit().await {
        Commit::Committed => Ok(kept),
        outcome => Err(outcome),
    }
}

/// Batch after batch; now and then the log refuses one of the keys.
async fn partition<U: UnderTest>(own: &U::Own, partition: i32, published: &Published) {
    for n in 0..BATCHES {
        let mut kept = loop {
            match one_batch::<U>(own, partition, n).await {
                Ok(kept) => break kept,
                // A deadlock hits whom it hits; the relay below gives up in the end.
                Err(Commit::Aborted(_)) => {}
                Err(outcome) => panic!("{outcome:?}"),
            }
        };
        if !kept.is_empty() && fastrand::u32(..6) == 0 {
            let submitted = text(&kept);
            let refused = kept[fastrand::usize(..kept.len())].key.clone();
            let moved: Vec<Quarantined>;
            (moved, kept) = kept.into_iter().partition(|each| each.key == refused);
            let rest = text(&kept);
            let submitted = sent(n + 1, submitted);
            let moved = own.quarantine_outputs(&key(partition), &submitted, rest.into(), &moved).await;
            assert!(moved.unwrap());
        }
        published.records.borrow_mut().extend(kept.into_iter().map(|each| each.reason));
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..2_000))).await;
    }
    *published.working.borrow_mut() -= 1;
}

/// Releases what somebody asks for, in parts; some of its transactions are aborted.
async fn relay<U: UnderTest>(under: &U, published: &Published) {
    let own = under.own();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let entries = under.entries().await;
        if *published.working.borrow() == 0 && entries.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} left", entries.len());
        if !entries.is_empty() && fastrand::u32(..3) == 0 {
            // It may be gone, and a deadlock hits whom it hits.
            let _ = under.release(entries[fastrand::usize(..entries.len())].id).await;
        }
        let claim = own.claim(ALL).await.unwrap();
        let attempt = Uuid::new_v4();
        let Ok(taken) = own.take_released(claim, attempt, fastrand::usize(1..30)).await else {
            continue;
        };
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..3_000))).await;
        let committed = fastrand::u32(..4) > 0;
        if committed {
            let taken = taken.iter().map(|each| each.message.reason.clone());
            published.records.borrow_mut().extend(taken);
        }
        loop {
            match own.settle_quarantine(claim, committed.then_some(attempt)).await {
                Ok(settled) => break assert_eq!(settled, if committed { taken.len() as u64 } else { 0 }),
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
            }
        }
    }
}

/// Two partitions write to the same keys, which are refused and released again and again.
pub(super) async fn a_key_keeps_its_order_through_batches_and_releases<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    own.insert_fence(&key(1), 0, "first").await.unwrap();
    let published = Published { working: 2.into(), ..Published::default() };
    tokio::join!(
        partition::<U>(own, 0, &published),
        partition::<U>(own, 1, &published),
        relay(&under, &published),
    );
    for (partition, key) in [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b"), (1, "c")] {
        let begin = format!("{partition} {key} ");
        let records = published.records.borrow();
        let found: Vec<i64> =
            records.iter().filter_map(|record| record.strip_prefix(&begin)?.parse().ok()).collect();
        let copies = if key == "a" { 2 } else { 1 };
        let expected: Vec<i64> = (0..BATCHES).flat_map(|n| vec![n; copies]).collect();
        assert_eq!(found, expected, "partition {partition}, key {key}");
    }
}
