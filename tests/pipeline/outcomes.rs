//! What a handler answers, and what becomes of it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidelock::{
    health::State,
    prelude::*,
    processor::{ProcessorConfig, Unhandled},
};

use super::{Stage, eventually};
use crate::witness::{self, Sent};

events! {
    Step: "outcomes.steps", _n => "one";
    Stepped: "outcomes.stepped", _n => "one";
}

/// 2 fails twice, 3 panics once, 4 is skipped, 5 swallows an error of the database once.
#[derive(Default)]
struct Moody {
    executions: AtomicU32,
}

#[async_trait]
impl Handler<Postgres> for Moody {
    type Event = Step;

    async fn handle(
        &self,
        message: &Message<Step>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        self.executions.fetch_add(1, Ordering::Relaxed);
        let n = message.event.n;
        sqlx::query("INSERT INTO step VALUES ($1)").bind(n).execute(context.connection()).await?;
        context.emit(&Stepped { n })?;
        match (n, message.attempt) {
            (2, ..3) => Err("not yet".into()),
            (3, 1) => panic!("a bug"),
            (4, _) => Ok(Outcome::Skip),
            (5, 1) => {
                let _ = sqlx::query("SELECT 1 / 0").execute(context.connection()).await;
                Ok(Outcome::Done)
            }
            _ => Ok(Outcome::Done),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_panics_are_tried_again_in_order() {
    let stage = Stage::new("outcomes").await;
    sqlx::query("CREATE TABLE step (n bigint)").execute(&stage.pool).await.unwrap();
    witness::create_topic(&stage.kafka_url, Step::TOPIC, 1, &[]).await;
    let step = |n: i64, kind: &str| Sent {
        key: "one".into(),
        payload: format!("{{\"n\":{n}}}"),
        headers: vec![("ce_id".into(), uuid::Uuid::now_v7().to_string()), ("ce_type".into(), kind.into())],
    };
    let sent: Vec<Sent> = (1..=7).map(|n| step(n, "Step")).collect();
    stage.write(Step::TOPIC, sent).await;
    let config = ProcessorConfig {
        retry_first: Duration::from_millis(10),
        unhandled: Unhandled::Fail,
        ..ProcessorConfig::default()
    };
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .processor(Processor::new(&stage.name).config(config).handle(Moody::default()))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    pipeline.start().await.unwrap();
    let found = stage.committed_at_least(Stepped::TOPIC, 6).await;
    let emitted: Vec<i64> = found.iter().map(|record| record.json()["n"].as_i64().unwrap()).collect();
    assert_eq!(emitted, [1, 2, 3, 5, 6, 7]);
    let effects: Vec<i64> =
        sqlx::query_scalar("SELECT n FROM step ORDER BY n").fetch_all(&stage.pool).await.unwrap();
    assert_eq!(effects, [1, 2, 3, 4, 5, 6, 7]);

    // An event that nobody handles makes the partition wait, as configured, and nothing behind it passes.
    let behind = [step(8, "Unknown"), step(9, "Step")];
    stage.write(Step::TOPIC, behind).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.count("SELECT count(*) FROM step").await, 7);
    let waits =
        |state: &State| matches!(state, State::Retrying(why) if why.contains("no handler for event type"));
    assert!(pipeline.health().values().any(waits) && pipeline.is_ready(), "{:?}", pipeline.health());
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

/// An output that Kafka refuses goes to the quarantine; the rest of its batch comes out, and the partition goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_output_stops_nothing() {
    #[derive(Serialize, Deserialize)]
    struct Ask {
        size: usize,
    }

    impl Event for Ask {
        const TYPE: &'static str = "Ask";
        const TOPIC: &'static str = "refused.asks";

        fn key(&self) -> Key {
            Key::NONE
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Answer {
        text: String,
    }

    impl Event for Answer {
        const TYPE: &'static str = "Answer";
        const TOPIC: &'static str = "refused.answers";

        fn key(&self) -> Key {
            Key::NONE
        }
    }

    struct Echo;

    #[async_trait]
    impl Handler<Postgres> for Echo {
        type Event = Ask;

        async fn handle(
            &self,
            message: &Message<Ask>,
            context: &mut Context<'_, Postgres>,
        ) -> Result<Outcome, BoxError> {
            context.emit(&Answer { text: "x".repeat(message.event.size) })?;
            Ok(Outcome::Done)
        }
    }

    let stage = Stage::new("refused_output").await;
    witness::create_topic(&stage.kafka_url, Ask::TOPIC, 1, &[]).await;
    witness::create_topic(&stage.kafka_url, Answer::TOPIC, 1, &[("max.message.bytes", "20000")]).await;
    let sent: Vec<Sent> = [10, 50_000, 20, 30]
        .map(|size| Sent { key: String::new(), payload: format!("{{\"size\":{size}}}"), headers: vec![] })
        .into();
    stage.write(Ask::TOPIC, sent).await;
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .processor(Processor::new(&stage.name).handle(Echo))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    let found = stage.committed_at_least(Answer::TOPIC, 3).await;
    let sizes: Vec<usize> =
        found.iter().map(|record| record.json()["text"].as_str().unwrap().len()).collect();
    assert_eq!(sizes, [10, 20, 30]);
    let held = stage.postgres.quarantine(10).await.unwrap();
    assert_eq!(held.len(), 1);
    assert!(held[0].emitted);
    eventually("the group is through", async || {
        let (kafka, group) = (stage.kafka_url.clone(), stage.name.clone());
        tokio::task::spawn_blocking(move || witness::offsets(&kafka, &group, Ask::TOPIC)).await.unwrap()
            == [Some(4)]
    })
    .await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}

/// What fails with the commit has nobody to blame: a lost connection must not make a batch be tried message by message,
/// and a message that cannot be committed must not keep back those before it.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_committed_is_found_in_few_steps() {
    const COUNT: i64 = 500;
    const LOST: i64 = 60;
    const REFUSED: i64 = 400;

    events! {
        Push: "few_steps.pushes", _n => "one";
    }

    struct Pushed;

    #[async_trait]
    impl Handler<Postgres> for Pushed {
        type Event = Push;

        async fn handle(
            &self,
            message: &Message<Push>,
            context: &mut Context<'_, Postgres>,
        ) -> Result<Outcome, BoxError> {
            let n = message.event.n;
            sqlx::query("INSERT INTO push VALUES ($1)").bind(n).execute(context.connection()).await?;
            Ok(Outcome::Done)
        }
    }

    let stage = Stage::new("few_steps").await;
    let tables = format!(
        "CREATE TABLE push (n bigint PRIMARY KEY); CREATE TABLE gate (open boolean); \
         CREATE SEQUENCE ends; \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF NEW.n = {LOST} THEN \
             IF nextval('ends') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
           ELSIF NOT EXISTS (SELECT FROM gate) THEN RAISE EXCEPTION 'the gate is shut'; END IF; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON push DEFERRABLE INITIALLY DEFERRED \
           FOR EACH ROW WHEN (NEW.n IN ({LOST}, {REFUSED})) EXECUTE FUNCTION refuse()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(&stage.pool).await.unwrap();
    witness::create_topic(&stage.kafka_url, Push::TOPIC, 1, &[]).await;
    let push = |n| Sent { key: "one".into(), payload: format!("{{\"n\":{n}}}"), headers: vec![] };
    let sent: Vec<Sent> = (1..=COUNT).map(push).collect();
    stage.write(Push::TOPIC, sent).await;
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .processor(Processor::new(&stage.name).handle(Pushed))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    eventually("everything before the refused message is there", async || {
        stage.count("SELECT count(*) FROM push").await == REFUSED - 1
    })
    .await;
    assert_eq!(stage.count("SELECT max(n) FROM push").await, REFUSED - 1);
    let transactions = stage.count("SELECT count(DISTINCT xmin::text) FROM push").await;
    assert!(transactions < 60, "{transactions} transactions");
    assert!(stage.count("SELECT last_value FROM ends").await > 1, "no connection was lost");
    sqlx::query("INSERT INTO gate VALUES (true)").execute(&stage.pool).await.unwrap();
    eventually("all are there", async || stage.count("SELECT count(*) FROM push").await == COUNT).await;
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}
