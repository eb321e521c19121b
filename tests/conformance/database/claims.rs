//! Who may write to the quarantine for a shard.

use tidelock::{
    database::{Claim, Shard, Source as _},
    error::{Error, Kind},
};
use uuid::Uuid;

use super::{ALL, UnderTest, refused};

pub(super) async fn a_claim_raises_the_epoch_of_its_shard<U: UnderTest>() {
    let under = U::new().await;
    let first = under.own().claim(ALL).await.unwrap();
    let other = under.own().claim(Shard { index: 1, count: 2 }).await.unwrap();
    assert_eq!(under.own().claim(ALL).await.unwrap(), Claim { shard: ALL, epoch: first.epoch + 1 });
    under.own().settle_quarantine(other, None).await.unwrap();
}

pub(super) async fn an_older_claim_writes_nothing<U: UnderTest>() {
    let under = U::new().await;
    let own = under.own();
    let message = refused(Some("a"), "1");
    under.hold(std::slice::from_ref(&message)).await;
    under.release(message.id).await.unwrap();
    let old = own.claim(ALL).await.unwrap();
    let new = own.claim(ALL).await.unwrap();
    let (releasing, proposed) = (Uuid::new_v4(), Uuid::new_v4());
    let entry = own.take_released(new, releasing, 10).await.unwrap()[0].entry;
    let refused_too = [refused(Some("b"), "2")];
    own.propose(new, proposed, &refused_too).await.unwrap();
    let fenced = |error: Error| assert_eq!(error.kind(), Kind::Fenced, "{error}");
    fenced(own.settle_quarantine(old, None).await.unwrap_err());
    fenced(own.settle_quarantine(old, Some(releasing)).await.unwrap_err());
    fenced(own.propose(old, releasing, &refused_too).await.unwrap_err());
    fenced(own.take_released(old, Uuid::new_v4(), 10).await.unwrap_err());
    fenced(own.refuse_released(old, &[(entry, "again".to_owned())]).await.unwrap_err());
    assert_eq!(under.count(&format!("{}quarantine", U::PREFIX)).await, 2);
    assert_eq!(under.reasons().await, ["1"]);
    assert_eq!(own.settle_quarantine(new, Some(releasing)).await.unwrap(), 1);
    assert_eq!(under.count(&format!("{}quarantine", U::PREFIX)).await, 0);
}
