//! Handlers as they should be.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tidelock::{
    database::{NoDatabase, postgres::PostgresConfig},
    testing::{Fate, Point, Report},
};
use tidelock_lab::Lab;

use super::*;

struct Bank;

#[async_trait]
impl Handler<Sqlite> for Bank {
    type Event = Deposit;

    async fn handle(
        &self,
        message: &Message<Deposit>,
        context: &mut Context<'_, Sqlite>,
    ) -> Result<Outcome, BoxError> {
        let balance = deposit(context.connection(), &message.event).await?;
        context.emit(&Statement { account: message.event.account.clone(), balance })?;
        Ok(Outcome::Done)
    }
}

/// Answers a request to close an account, and reads its answer as well as all that the bank emits.
struct Close;

#[async_trait]
impl Handler<Sqlite> for Close {
    type Event = Statement;

    async fn handle(
        &self,
        message: &Message<Statement>,
        context: &mut Context<'_, Sqlite>,
    ) -> Result<Outcome, BoxError> {
        let Statement { account, balance } = &message.event;
        if *balance != 0 {
            return Ok(Outcome::Skip);
        }
        let close = sqlx::query("DELETE FROM account WHERE name = $1");
        close.bind(account).execute(context.connection()).await?;
        context.emit(&Statement { account: account.clone(), balance: -1 })?;
        Ok(Outcome::Done)
    }
}

fn covers_everything(report: &Report) {
    let hit: BTreeSet<&str> = report.hit.iter().map(|each| each.point.name()).collect();
    // Its log refuses nothing.
    let possible = |point: &&Point| point.name().starts_with('P') && !matches!(point, Point::P9);
    let all: BTreeSet<&str> = Point::ALL.iter().filter(possible).map(|point| point.name()).collect();
    assert_eq!(hit, all, "{report}");
    use Fate::{AnswerLost, Killed, Replaced, RequestLost, Revoked, Stopped};
    for fate in [AnswerLost, Killed, Replaced, RequestLost, Revoked, Stopped] {
        assert!(report.hit.iter().any(|each| each.fate == fate), "{fate}: {report}");
    }
}

#[tokio::test]
async fn a_right_handler_passes_every_crash_point() {
    let started = std::time::Instant::now();
    let kit = CrashPoints::new(fresh, || Processor::new("bank").handle(Bank));
    let report = kit.effect(accounts).messages(&deposits()).run().await.unwrap();
    println!("{report} in {:?}", started.elapsed());
    covers_everything(&report);
    assert!(report.hit.iter().any(|each| each.hit == 3), "{report}");
    assert_eq!(report.emitted, 5);
    assert!(report.executions > 5 * report.hit.len(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_types_and_a_topic_that_is_read_and_written() {
    let kit = CrashPoints::new(fresh, || Processor::new("bank").handle(Bank).handle(Close)).effect(accounts);
    let extra = Statement { account: "bob".to_owned(), balance: 0 };
    let report = kit.messages(&deposits()).message(&extra).hits(2).run().await.unwrap();
    covers_everything(&report);
    assert_eq!(report.emitted, 6);
}

struct Relabel;

#[async_trait]
impl Handler<NoDatabase> for Relabel {
    type Event = Deposit;

    async fn handle(
        &self,
        message: &Message<Deposit>,
        context: &mut Context<'_, NoDatabase>,
    ) -> Result<Outcome, BoxError> {
        let Deposit { account, cents } = &message.event;
        context.emit(&Statement { account: account.clone(), balance: *cents })?;
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn without_a_database() {
    let kit = CrashPoints::new(async || Ok(NoDatabase), || Processor::new("relabel").handle(Relabel));
    let report = kit.messages(&deposits()).hits(1).run().await.unwrap();
    assert_eq!(report.emitted, 5);
}

struct PgBank;

#[async_trait]
impl Handler<Postgres> for PgBank {
    type Event = Deposit;

    async fn handle(
        &self,
        message: &Message<Deposit>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let Deposit { account, cents } = &message.event;
        let add = "INSERT INTO account VALUES ($1, $2) ON CONFLICT (name) DO UPDATE \
                   SET balance = account.balance + $2 RETURNING balance::bigint";
        let balance =
            sqlx::query_scalar(add).bind(account).bind(*cents).fetch_one(context.connection()).await?;
        context.emit(&Statement { account: account.clone(), balance })?;
        Ok(Outcome::Done)
    }
}

async fn on_postgres(server: &str) -> Result<Postgres, BoxError> {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let name = format!("kit_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
    let admin = PgPool::connect(server).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin).await?;
    admin.close().await;
    let (server, _) = server.rsplit_once('/').ok_or("no database in the url")?;
    let url = format!("{server}/{name}").into();
    let config = PostgresConfig { url, max_connections: 4, ..PostgresConfig::default() };
    let database = Postgres::connect(config).await?;
    database.migrate().await?;
    sqlx::raw_sql(SCHEMA).execute(database.pool()).await?;
    Ok(database)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_postgres_of_ones_own() {
    let lab = tokio::task::spawn_blocking(Lab::shared).await.unwrap();
    let server = lab.database_url();
    let report =
        CrashPoints::new(async move || on_postgres(&server).await, || Processor::new("bank").handle(PgBank))
            .effect(async |connection: &mut PgConnection| {
                let query = sqlx::query_as("SELECT name, balance::bigint FROM account ORDER BY name");
                let rows: Vec<(String, i64)> = query.fetch_all(connection).await?;
                Ok(rows)
            })
            .messages(&deposits())
            .hits(1)
            .run()
            .await
            .unwrap();
    covers_everything(&report);
}
