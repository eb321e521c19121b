//! A topic that was deleted and created again: what is in it now is not what the offsets meant.

use std::time::Duration;

use tidelock::{health::State, prelude::*};

use super::{Stage, eventually};
use crate::witness::{self, Sent};

events! {
    Note: "recreated.notes", _n => Key::NONE;
    // What the handler of one note emits.
    Kept: "recreated.kept", _n => Key::NONE;
}

struct Keep;

#[async_trait]
impl Handler<Postgres> for Keep {
    type Event = Note;

    async fn handle(
        &self,
        message: &Message<Note>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        sqlx::query("INSERT INTO note VALUES ($1)")
            .bind(message.event.n)
            .execute(context.connection())
            .await?;
        context.emit(&Kept { n: message.event.n })?;
        Ok(Outcome::Done)
    }
}

/// A group that drops what comes with an id that it knows.
struct Count;

#[async_trait]
impl Handler<Postgres> for Count {
    type Event = Kept;

    async fn handle(
        &self,
        message: &Message<Kept>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        sqlx::query("INSERT INTO counted VALUES ($1)")
            .bind(message.event.n)
            .execute(context.connection())
            .await?;
        Ok(Outcome::Done)
    }
}

async fn write(stage: &Stage, numbers: std::ops::Range<i64>) {
    let note = |n| Sent { key: "k".into(), payload: format!("{{\"n\":{n}}}"), headers: Vec::new() };
    stage.write(Note::TOPIC, numbers.map(note)).await;
}

async fn offset(stage: &Stage) -> Option<i64> {
    let (kafka, group) = (stage.kafka_url.clone(), stage.name.clone());
    tokio::task::spawn_blocking(move || witness::offsets(&kafka, &group, Note::TOPIC)).await.unwrap()[0]
}

fn pipeline(stage: &Stage) -> Pipeline {
    Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .processor(Processor::new(&stage.name).handle(Keep))
        .processor(Processor::new(format!("{}_counts", stage.name)).handle(Count))
        .build()
        .unwrap()
}

/// The group's offset is put back to where it was, as a tool for offsets would: offset and fence agree, and nothing but
/// the topic's id tells that other records stand there now.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_created_again_is_not_read_on_where_the_old_one_was_left() {
    let stage = Stage::new("recreated").await;
    for table in ["CREATE TABLE note (n bigint)", "CREATE TABLE counted (n bigint)"] {
        sqlx::query(table).execute(&stage.pool).await.unwrap();
    }
    for topic in [Note::TOPIC, Kept::TOPIC] {
        witness::create_topic(&stage.kafka_url, topic, 1, &[]).await;
    }
    write(&stage, 0..3).await;
    let first = pipeline(&stage);
    first.start().await.unwrap();
    eventually("three are kept", async || stage.count("SELECT count(*) FROM note").await == 3).await;
    eventually("the group is through", async || offset(&stage).await == Some(3)).await;
    first.stop(Duration::from_secs(10)).await.unwrap();

    witness::delete_topic(&stage.kafka_url, Note::TOPIC).await;
    witness::create_topic(&stage.kafka_url, Note::TOPIC, 1, &[]).await;
    write(&stage, 100..110).await;
    let (kafka, group) = (stage.kafka_url.clone(), stage.name.clone());
    tokio::task::spawn_blocking(move || witness::commit_offset(&kafka, &group, Note::TOPIC, 0, 3))
        .await
        .unwrap();

    let again = pipeline(&stage);
    again.start().await.unwrap();
    let name = format!("processor {} {}[0]", stage.name, Note::TOPIC);
    eventually("the partition says so", async || {
        let report = again.health();
        let parts = ["deleted and created again", "outputs of the batch that ended with offset 2"];
        matches!(report.get(&name), Some(State::Failed(text)) if parts.iter().all(|part| text.contains(part)))
    })
    .await;
    assert_eq!(stage.count("SELECT count(*) FROM note").await, 3);
    again.stop(Duration::from_secs(10)).await.unwrap();

    // What the error says: the group's rows are deleted, and it begins anew.
    for table in ["fence", "consumer_topic"] {
        let forget = format!("DELETE FROM tidelock.{table} WHERE topic = '{}'", Note::TOPIC);
        sqlx::query(sqlx::AssertSqlSafe(forget)).execute(&stage.pool).await.unwrap();
    }
    let (kafka, group) = (stage.kafka_url.clone(), stage.name.clone());
    tokio::task::spawn_blocking(move || witness::commit_offset(&kafka, &group, Note::TOPIC, 0, 0))
        .await
        .unwrap();
    let anew = pipeline(&stage);
    anew.start().await.unwrap();
    eventually("all of the new topic", async || {
        stage.count("SELECT count(*) FROM note WHERE n >= 100").await == 10
    })
    .await;
    // What it emits is new, though it comes from offsets that the first topic had as well.
    eventually("all that it emitted", async || {
        stage.count("SELECT count(*) FROM counted WHERE n >= 100").await == 10
    })
    .await;
    anew.stop(Duration::from_secs(10)).await.unwrap();
}
