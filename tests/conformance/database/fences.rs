//! What the database knows of a partition.

use futures_util::future::join_all;
use tidelock::database::{Advance, Advanced, Database as _, Fence, FenceKey, FirstStart, Unit as _};

use super::{UnderTest, advance, committed, effect, key};

pub(super) async fn the_first_start_is_recorded_once<U: UnderTest>() {
    let under = U::new().await;
    let key = FenceKey { group: "new".into(), ..key(0) };
    let firsts = join_all((3..10).map(|partitions| under.own().first_start(&key, partitions))).await;
    let firsts: Vec<FirstStart> = firsts.into_iter().map(Result::unwrap).collect();
    assert!(firsts.iter().all(|first| *first == firsts[0]), "{firsts:?}");
    let later = under.own().first_start(&FenceKey { partition: 12, ..key.clone() }, 13).await.unwrap();
    assert_eq!(later, FirstStart { partitions: firsts[0].partitions, fenced: false });
    let other = FenceKey { group: "another".into(), ..key };
    let first = under.own().first_start(&other, 2).await.unwrap();
    assert_eq!(first, FirstStart { partitions: 2, fenced: false });
}

pub(super) async fn the_id_of_the_topic_is_noted_once<U: UnderTest>() {
    let under = U::new().await;
    let key = FenceKey { group: "new".into(), ..key(0) };
    assert_eq!(under.own().note_topic(&key, "before").await.unwrap(), None);
    under.own().first_start(&key, 3).await.unwrap();
    let ids: Vec<String> = (0..5).map(|number| format!("id-{number}")).collect();
    let notes = join_all(ids.iter().map(|id| under.own().note_topic(&key, id))).await;
    let noted = under.own().note_topic(&FenceKey { partition: 2, ..key.clone() }, "later").await.unwrap();
    assert!(noted.as_ref().is_some_and(|noted| ids.contains(noted)), "{noted:?}");
    // One that comes while another is noted may not know yet.
    assert!(notes.into_iter().map(Result::unwrap).all(|each| each.is_none() || each == noted));
    let other = FenceKey { topic: "another".into(), ..key };
    under.own().first_start(&other, 3).await.unwrap();
    assert_eq!(under.own().note_topic(&other, "its own").await.unwrap().as_deref(), Some("its own"));
}

pub(super) async fn a_fence_is_inserted_if_absent<U: UnderTest>() {
    let under = U::new().await;
    let (own, other) = (key(3), key(4));
    assert_eq!(under.own().fence(&own).await.unwrap(), None);
    assert!(!under.own().first_start(&own, 8).await.unwrap().fenced);
    under.own().insert_fence(&own, 17, "first").await.unwrap();
    under.own().insert_fence(&own, 99, "second").await.unwrap();
    let fence = Fence { next_offset: 17, owner: "first".to_owned(), ..Fence::default() };
    assert_eq!(under.own().fence(&own).await.unwrap(), Some(fence));
    assert!(under.own().first_start(&own, 8).await.unwrap().fenced);
    assert!(!under.own().first_start(&other, 8).await.unwrap().fenced);
    assert_eq!(under.own().fence(&other).await.unwrap(), None);
}

pub(super) async fn a_lost_fence_is_noticed<U: UnderTest>() {
    let under = U::new().await;
    under.execute(&format!("DELETE FROM {}fence", U::PREFIX)).await;
    assert_eq!(under.own().fence(&key(0)).await.unwrap(), None);
    assert!(under.own().first_start(&key(0), 1).await.unwrap().fenced);
}

pub(super) async fn fences_of_many_partitions_at_once<U: UnderTest>() {
    let under = U::new().await;
    let keys: Vec<FenceKey> = (0..32).map(key).collect();
    for outcome in join_all(keys.iter().map(|key| under.own().insert_fence(key, 0, "o"))).await {
        outcome.unwrap();
    }
    for key in &keys {
        assert!(under.own().first_start(key, 32).await.unwrap().fenced, "partition {}", key.partition);
    }
}

pub(super) async fn an_advance_writes_the_whole_row<U: UnderTest>() {
    let under = U::new().await;
    let key = key(7);
    under.own().insert_fence(&key, 5, "first").await.unwrap();
    let mut unit = under.own().begin().await.unwrap();
    let advance = Advance { key: &key, from: 5, to: 9, pending: "outputs".into(), owner: "second" };
    assert_eq!(unit.advance(advance).await.unwrap(), Advanced::Clear);
    committed(unit.commit().await);
    let expected = Fence {
        next_offset: 9,
        pending_from: Some(5),
        pending: "outputs".into(),
        owner: "second".to_owned(),
        claim: 0,
    };
    assert_eq!(under.own().fence(&key).await.unwrap(), Some(expected));
    assert_eq!(under.next_offset().await, 0, "of another partition");
}

pub(super) async fn another_offset_or_no_row_is_not_passed<U: UnderTest>() {
    let under = U::new().await;
    let mut unit = under.own().begin().await.unwrap();
    assert!(!advance::<U>(&mut unit, 1, 2).await.unwrap());
    unit.rollback().await;
    under.execute(&format!("DELETE FROM {}fence", U::PREFIX)).await;
    let mut unit = under.own().begin().await.unwrap();
    assert!(!advance::<U>(&mut unit, 0, 2).await.unwrap());
    unit.rollback().await;
}

/// Two processes advance one fence; whoever is later sees what the earlier one did.
pub(super) async fn one_of_two_owners_passes<U: UnderTest>() {
    let under = U::new().await;
    let other = under.another().await;
    let work = async |own: &U::Own| {
        let mut won = 0;
        while won < 20 {
            let next = own.fence(&key(0)).await.unwrap().unwrap().next_offset;
            let mut unit = own.begin().await.unwrap();
            effect::<U>(&mut unit).await;
            if advance::<U>(&mut unit, next, next + 1).await.unwrap() {
                committed(unit.commit().await);
                won += 1;
            } else {
                unit.rollback().await;
            }
        }
    };
    tokio::join!(work(under.own()), work(&other));
    assert_eq!((under.next_offset().await, under.count("effect").await), (40, 40));
}
