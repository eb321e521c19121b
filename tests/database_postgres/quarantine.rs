//! Messages that were refused, of the outbox: proposed, held, released.

use tidelock::{
    database::{
        Claim, Database as _, HeldKey, Quarantined, Shard, Source as _, Submitted, Unit as _,
        postgres::QuarantineEntry,
    },
    error::Kind,
    message::MessageId,
};
use uuid::Uuid;

use super::{
    ALL, Shop, WAIT, eventually,
    unit::{advance, fenced, key, run},
};

pub(super) fn refused(key: Option<&'static str>, reason: &str) -> Quarantined {
    Quarantined {
        id: MessageId::new(),
        topic: "topic".into(),
        key: key.map(Into::into),
        record: format!("record of {reason}").into(),
        reason: reason.to_owned(),
    }
}

impl Shop {
    pub(super) async fn claim(&self, shard: Shard) -> Claim {
        self.postgres.claim(shard).await.unwrap()
    }

    pub(super) async fn entries(&self) -> Vec<QuarantineEntry> {
        self.postgres.quarantine(100).await.unwrap()
    }
}

#[tokio::test]
async fn a_write_that_is_under_way_ends_before_the_next_claim() {
    let shop = Shop::new().await;
    let old = shop.claim(ALL).await;
    let attempt = Uuid::new_v4();
    shop.postgres.propose(old, attempt, &[refused(Some("a"), "1")]).await.unwrap();
    let mut claiming = shop.pool.begin().await.unwrap();
    let raise = "UPDATE tidelock.relay_shard SET epoch = epoch + 1";
    sqlx::query(raise).execute(&mut *claiming).await.unwrap();
    let postgres = shop.postgres.clone();
    let settling = tokio::spawn(async move { postgres.settle_quarantine(old, Some(attempt)).await });
    let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the older claim waits", async || shop.count(waiting).await == 1).await;
    claiming.commit().await.unwrap();
    assert_eq!(settling.await.unwrap().unwrap_err().kind(), Kind::Fenced);
    assert!(shop.entries().await.is_empty(), "proposed still");
}

#[tokio::test]
async fn a_lock_that_is_held_for_long_is_an_error() {
    let shop = Shop::new().await;
    shop.claim(ALL).await;
    let mut held = shop.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM tidelock.relay_shard FOR UPDATE").execute(&mut *held).await.unwrap();
    let claimed = tokio::time::timeout(WAIT, shop.postgres.claim(ALL)).await;
    assert_eq!(claimed.expect("no endless wait").unwrap_err().kind(), Kind::Unavailable);
    held.rollback().await.unwrap();
    shop.claim(ALL).await;
}

/// Durable, never compiled, never a scan where there is an index: whatever the database has for a default.
#[tokio::test]
async fn the_frameworks_statements_have_settings_of_their_own() {
    let shop = fenced().await;
    let (_, name) = shop.url.rsplit_once('/').unwrap();
    let ours =
        [("enable_seqscan", "off"), ("jit", "off"), ("row_security", "off"), ("synchronous_commit", "on")];
    for (setting, value) in ours {
        let other = if value == "on" { "off" } else { "on" };
        shop.run(&format!("ALTER DATABASE {name} SET {setting} = {other}")).await;
    }
    shop.run(
        "CREATE TABLE seen (name text, setting text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN INSERT INTO seen SELECT name, setting FROM pg_settings; RETURN NULL; END';
         CREATE TRIGGER see AFTER UPDATE ON tidelock.fence EXECUTE FUNCTION see()",
    )
    .await;
    let submitted = Submitted { next_offset: 0, pending: Default::default(), claim: 0 };
    let claimed = shop.again().await.postgres.claim_outputs(&key(0), &submitted, "second").await;
    assert_eq!(claimed.unwrap(), Some(1));
    for (setting, value) in ours {
        let seen = format!("seen WHERE name = '{setting}' AND setting = '{value}'");
        assert_eq!(shop.count(&seen).await, 1, "{setting}");
    }
}

/// A key of any length can be published, so it must be possible to quarantine it.
#[tokio::test]
async fn a_key_that_is_longer_than_a_b_tree_takes() {
    let shop = Shop::new().await;
    let claim = shop.claim(ALL).await;
    let mut rng = fastrand::Rng::with_seed(1);
    let key: Vec<u8> = (0..900_000).map(|_| rng.u8(..)).collect();
    let entry = |reason| Quarantined { key: Some(key.clone().into()), ..refused(None, reason) };
    let (first, behind) = (entry("1"), entry("2"));
    let attempt = Uuid::new_v4();
    shop.postgres.propose(claim, attempt, &[first.clone(), behind]).await.unwrap();
    assert_eq!(shop.postgres.settle_quarantine(claim, Some(attempt)).await.unwrap(), 2);
    assert!(shop.entries().await.iter().all(|entry| entry.key.as_bytes() == Some(key.as_slice())));
    assert_eq!(shop.postgres.release(first.id).await.unwrap(), 2);
    let released = shop.postgres.take_released(claim, Uuid::new_v4(), 10).await.unwrap();
    assert_eq!(released.len(), 2);
}

/// A deletion that is under way is waited for, and then only what is left counts.
#[tokio::test]
async fn a_key_is_held_by_what_a_release_leaves() {
    let held = HeldKey { topic: "topic".into(), key: "a".into() };
    for (isolation, deleted, left) in [
        ("read committed", "WHERE reason = '2'", Some(1)),
        ("read committed", "", Some(0)),
        ("repeatable read", "WHERE reason = '2'", None),
        ("serializable", "", None),
    ] {
        let shop = fenced().await;
        let outputs = [refused(Some("a"), "1"), refused(Some("a"), "2")];
        let submitted = Submitted { next_offset: 0, pending: Default::default(), claim: 0 };
        let moved = shop.postgres.quarantine_outputs(&key(0), &submitted, Default::default(), &outputs).await;
        assert!(moved.unwrap());
        let mut unit = shop.postgres.begin().await.unwrap();
        match isolation {
            "read committed" => {}
            "serializable" => run(&mut unit, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await,
            _ => run(&mut unit, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await,
        }
        assert!(advance(&mut unit, 0, 1).await.unwrap());
        let mut releasing = shop.pool.begin().await.unwrap();
        let delete = format!("DELETE FROM tidelock.quarantine {deleted}");
        sqlx::query(sqlx::AssertSqlSafe(delete)).execute(&mut *releasing).await.unwrap();
        let keys = [held.clone()];
        let looking = tokio::spawn(async move {
            let found = unit.held_outputs(&keys).await;
            unit.rollback().await;
            found
        });
        let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the unit waits", async || shop.count(waiting).await == 1).await;
        releasing.commit().await.unwrap();
        match (looking.await.unwrap(), left) {
            (Ok(found), Some(left)) => assert_eq!(found.len(), left, "{isolation} {deleted}"),
            (Err(error), None) => assert_eq!(error.kind(), Kind::Unavailable),
            (found, _) => panic!("{isolation}: {found:?}"),
        }
    }
}
