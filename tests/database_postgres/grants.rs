//! The grants that the migration recommends are enough for each role, and no more.

use std::time::Duration;

use sqlx::{AssertSqlSafe, postgres::PgPoolOptions};
use tidelock::{
    commit::Commit,
    database::{Database as _, Source as _, Submitted, Unit as _, postgres::Postgres},
    message::MessageId,
    outbox::Outgoing,
};
use uuid::Uuid;

use super::{ALL, Shop, connect, next, quarantine::refused, unit};

const MIGRATION: &str = include_str!("../../migrations/postgres/0001_core.sql");

/// As they stand in the comment at the end, for roles of this process.
fn grants() -> String {
    let (_, comment) = MIGRATION.split_once("-- Roles").unwrap();
    let lines = comment.lines().skip(1).map(|line| line.trim_start_matches("--").split("--").next().unwrap());
    let statements = lines.collect::<Vec<_>>().join(" ");
    let for_roles = statements.split_inclusive(';').filter_map(|statement| {
        let (what, roles) = statement.trim().strip_suffix(';')?.rsplit_once(" TO ")?;
        let roles: Vec<String> = roles.split(',').map(|role| named(role.trim())).collect();
        Some(format!("{what} TO {};", roles.join(", ")))
    });
    for_roles.collect()
}

fn named(role: &str) -> String {
    format!("{role}_of_{}", std::process::id())
}

async fn as_role(shop: &Shop, role: &str) -> Postgres {
    connect(&format!("{}?options=-c%20role%3D{}", shop.url, named(role))).await
}

async fn code(postgres: &Postgres, statement: &str) -> Option<String> {
    let outcome = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(postgres.pool()).await;
    outcome.err().map(|error| error.as_database_error().unwrap().code().unwrap().into_owned())
}

#[tokio::test]
async fn each_role_can_do_its_work_and_no_more() {
    const ROLES: [&str; 3] = ["writer", "relay", "processor"];
    let shop = Shop::new().await;
    for role in ROLES {
        shop.run(&format!("CREATE ROLE {}", named(role))).await;
    }
    shop.run(&grants()).await;

    let writer = as_role(&shop, "writer").await;
    writer.migrate().await.unwrap();
    let mut transaction = writer.outbox().begin().await.unwrap();
    transaction.enqueue_message(Outgoing::raw("t", "k", Some("1".into())));
    transaction.commit().await.unwrap();
    assert_eq!(code(&writer, "SELECT tidelock.enqueue('t', 'k', '2')").await, None);
    for forbidden in [
        "INSERT INTO tidelock.outbox (xid, topic) VALUES ('1', 't')",
        "DELETE FROM tidelock.outbox",
        "SELECT payload FROM tidelock.outbox",
        "INSERT INTO tidelock.fence VALUES ('g', 't', 0, 0, NULL, '', 'o')",
    ] {
        assert_eq!(code(&writer, forbidden).await.as_deref(), Some("42501"), "{forbidden}");
    }

    let relay = as_role(&shop, "relay").await;
    relay.migrate().await.unwrap();
    relay.check().await.unwrap();
    relay.fix_shards(1).await.unwrap();
    relay.mark_started(ALL).await.unwrap();
    assert!(relay.started(ALL).await.unwrap());
    let mut reader = relay.reader(ALL, &relay.origin().await.unwrap()).await.unwrap();
    assert_eq!(next(&mut reader).await, ["1", "2"]);
    shop.commit("3").await;
    let batch = super::next_batch(&mut reader, 10).await;
    assert_eq!(relay.clean(batch.published).await.unwrap(), 1);
    drop(relay.reader(ALL, &batch.position).await.unwrap());
    let claim = relay.claim(ALL).await.unwrap();
    let (attempt, message) = (Uuid::new_v4(), refused(Some("a"), "large"));
    relay.propose(claim, attempt, std::slice::from_ref(&message)).await.unwrap();
    relay.settle_quarantine(claim, Some(attempt)).await.unwrap();
    relay.release(message.id).await.unwrap();
    assert_eq!(relay.take_released(claim, attempt, 10).await.unwrap().len(), 1);
    relay.settle_quarantine(claim, Some(attempt)).await.unwrap();

    let processor = as_role(&shop, "processor").await;
    processor.migrate().await.unwrap();
    processor.check_durable().await.unwrap();
    let key = unit::key(0);
    processor.first_start(&key, 1).await.unwrap();
    processor.insert_fence(&key, 0, "owner").await.unwrap();
    let mut handling = processor.begin().await.unwrap();
    handling.admit("group", &[MessageId::new()]).await.unwrap();
    assert!(unit::advance(&mut handling, 0, 1).await.unwrap());
    assert!(matches!(handling.commit().await, Commit::Committed));
    let submitted = Submitted { next_offset: 1, pending: Default::default(), claim: 0 };
    assert_eq!(processor.claim_outputs(&key, &submitted, "next").await.unwrap(), Some(1));
    let submitted = Submitted { claim: 1, ..submitted };
    assert!(processor.quarantine_outputs(&key, &submitted, Default::default(), &[message]).await.unwrap());
    assert_eq!(processor.quarantine(10).await.unwrap().len(), 1);
    assert_eq!(processor.clean_inbox("group", Duration::ZERO).await.unwrap(), 1);

    for role in ROLES {
        shop.run(&format!("DROP OWNED BY {0}; DROP ROLE {0}", named(role))).await;
    }
}

/// A pool of the service's own, with its own settings for each connection.
#[tokio::test]
async fn the_services_own_pool() {
    let shop = Shop::new().await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&shop.url).await.unwrap();
    let postgres = Postgres::from_pool(pool, Default::default()).unwrap();
    let handling = postgres.begin().await.unwrap();
    // The only connection is a handler's: what the framework needs besides does not wait for it.
    postgres.check().await.unwrap();
    postgres.fence(&unit::key(0)).await.unwrap();
    handling.rollback().await;
}
