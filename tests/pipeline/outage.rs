//! A database that is away is no fault of a message.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use tidelock::{health::State, prelude::*};

use super::{Stage, eventually};
use crate::witness::{self, Sent};

#[derive(Serialize, Deserialize)]
struct Tick;

impl Event for Tick {
    const TYPE: &'static str = "Tick";
    const TOPIC: &'static str = "outage.ticks";

    fn key(&self) -> Key {
        Key::NONE
    }
}

struct Note;

#[async_trait]
impl Handler<Postgres> for Note {
    type Event = Tick;

    async fn handle(
        &self,
        message: &Message<Tick>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let attempt = i64::from(message.attempt);
        sqlx::query("INSERT INTO tick VALUES ($1)").bind(attempt).execute(context.connection()).await?;
        Ok(Outcome::Done)
    }
}

/// A handler that gives a message up after so many attempts must not give up one that it has never seen.
#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_executed_while_the_database_is_away_and_health_says_what_is() {
    let stage = Stage::new("outage").await;
    sqlx::query("CREATE TABLE tick (attempt bigint)").execute(&stage.pool).await.unwrap();
    witness::create_topic(&stage.kafka_url, Tick::TOPIC, 1, &[]).await;
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .processor(Processor::new(&stage.name).handle(Note))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    let tick = || [Sent { key: "k".into(), payload: "null".into(), headers: vec![] }];
    stage.write(Tick::TOPIC, tick()).await;
    eventually("the first is handled", async || stage.count("SELECT count(*) FROM tick").await == 1).await;

    let (base, name) = stage.url.rsplit_once('/').unwrap();
    let mut admin = PgConnection::connect(&format!("{base}/postgres")).await.unwrap();
    let allow =
        |allow: bool| sqlx::AssertSqlSafe(format!("ALTER DATABASE {name:?} ALLOW_CONNECTIONS {allow}"));
    sqlx::query(allow(false)).execute(&mut admin).await.unwrap();
    let ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    sqlx::query(ends).bind(name).execute(&mut admin).await.unwrap();
    stage.write(Tick::TOPIC, tick()).await;
    let partition = format!("processor {} {}[0]", stage.name, Tick::TOPIC);
    eventually("it shows", async || {
        matches!(pipeline.health().get(&partition), Some(State::Recovering(text)) if text.contains("begin"))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!pipeline.is_ready(), "{:?}", pipeline.health());
    sqlx::query(allow(true)).execute(&mut admin).await.unwrap();
    eventually("the second is handled", async || stage.count("SELECT count(*) FROM tick").await == 2).await;
    assert_eq!(stage.count("SELECT max(attempt) FROM tick").await, 1);
    eventually("nobody is in trouble", async || pipeline.is_ready()).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}
