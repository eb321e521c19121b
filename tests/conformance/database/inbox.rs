//! Which messages a group has had.

use std::{collections::HashSet, time::Duration};

use tidelock::{
    database::{Database as _, Unit as _},
    message::MessageId,
};

use super::{UnderTest, committed};

fn ids(count: usize) -> Vec<MessageId> {
    (0..count).map(|_| MessageId::new()).collect()
}

fn set(ids: &[MessageId]) -> HashSet<MessageId> {
    ids.iter().copied().collect()
}

pub(super) async fn it_answers_what_a_group_had_before<U: UnderTest>() {
    let under = U::new().await;
    let ids = ids(50);
    let mut unit = under.own().begin().await.unwrap();
    assert!(unit.admit("one", &ids[..20]).await.unwrap().is_empty());
    let again = unit.admit("one", &ids[10..30]).await.unwrap();
    assert_eq!(again, set(&ids[10..20]), "within one transaction");
    committed(unit.commit().await);

    let mut unit = under.own().begin().await.unwrap();
    assert!(unit.admit("one", &[]).await.unwrap().is_empty());
    assert_eq!(unit.admit("one", &ids).await.unwrap(), set(&ids[..30]));
    assert!(unit.admit("two", &ids).await.unwrap().is_empty(), "another group has had none");
    unit.rollback().await;
    let mut unit = under.own().begin().await.unwrap();
    assert!(unit.admit("two", &ids).await.unwrap().is_empty(), "rolled back");
    unit.rollback().await;
}

pub(super) async fn what_is_retracted_is_new_to_a_later_transaction<U: UnderTest>() {
    let under = U::new().await;
    let ids = ids(20);
    let mut unit = under.own().begin().await.unwrap();
    assert!(unit.admit("one", &ids).await.unwrap().is_empty());
    assert!(unit.admit("two", &ids).await.unwrap().is_empty());
    unit.retract("one", &ids[5..]).await.unwrap();
    unit.retract("one", &[]).await.unwrap();
    committed(unit.commit().await);
    let mut unit = under.own().begin().await.unwrap();
    assert_eq!(unit.admit("one", &ids).await.unwrap(), set(&ids[..5]));
    assert_eq!(unit.admit("two", &ids).await.unwrap().len(), 20, "another group's are its own");
    unit.rollback().await;
}

/// Two owners with the same messages in another order: one waits, neither is a victim of a deadlock.
pub(super) async fn the_same_ids_at_the_same_time_are_new_once<U: UnderTest>() {
    let under = U::new().await;
    let other = under.another().await;
    for _ in 0..5 {
        let ids = ids(40);
        let reversed: Vec<MessageId> = ids.iter().rev().copied().collect();
        let admit = async |own: &U::Own, ids: &[MessageId]| {
            let mut unit = own.begin().await.unwrap();
            let known = unit.admit("group", ids).await.unwrap().len();
            committed(unit.commit().await);
            known
        };
        let (one, other) = tokio::join!(admit(under.own(), &ids), admit(&other, &reversed));
        assert_eq!(one + other, 40, "each id was new to one of them");
    }
}

pub(super) async fn old_entries_of_one_group_are_forgotten<U: UnderTest>() {
    let under = U::new().await;
    let ids = ids(30);
    for group in ["mine", "other"] {
        let mut unit = under.own().begin().await.unwrap();
        assert!(unit.admit(group, &ids).await.unwrap().is_empty());
        committed(unit.commit().await);
    }
    assert_eq!(under.own().clean_inbox("mine", Duration::from_secs(3_600)).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(under.own().clean_inbox("mine", Duration::from_millis(1)).await.unwrap(), 30);
    let mut unit = under.own().begin().await.unwrap();
    assert!(unit.admit("mine", &ids).await.unwrap().is_empty());
    assert_eq!(unit.admit("other", &ids).await.unwrap().len(), 30);
    unit.rollback().await;
}
