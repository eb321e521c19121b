//! Messages of programs that know nothing of our headers, and of programs that repeat theirs.

use std::time::Duration;

use tidelock::prelude::*;

use super::{Stage, eventually};
use crate::witness::{self, Sent};

events! {
    Note: "foreign.notes", _n => Key::NONE;
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
        sqlx::query("INSERT INTO note VALUES ($1, $2)")
            .bind(message.event.n)
            .bind(message.id.to_string())
            .execute(context.connection())
            .await?;
        Ok(Outcome::Done)
    }
}

fn sent(n: i64, headers: &[(&str, &str)]) -> Sent {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sent { key: "k".into(), payload: format!("{{\"n\":{n}}}"), headers }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_without_an_id_are_handled_and_repeated_ids_are_not() {
    let stage = Stage::new("foreign").await;
    sqlx::query("CREATE TABLE note (n bigint, id text)").execute(&stage.pool).await.unwrap();
    witness::create_topic(&stage.kafka_url, Note::TOPIC, 1, &[]).await;
    let records = [
        sent(1, &[]),
        sent(2, &[]),
        sent(3, &[("ce_type", "Note"), ("ce_id", "order-7"), ("ce_source", "/a")]),
        sent(4, &[("ce_type", "Note"), ("ce_id", "order-7"), ("ce_source", "/b")]),
        sent(5, &[("ce_type", "Note"), ("ce_id", "order-7"), ("ce_source", "/a")]),
        sent(6, &[("ce_type", "SomethingElse")]),
        sent(7, &[("ce_type", "Note")]),
    ];
    let again = records.clone();
    stage.write(Note::TOPIC, records).await;
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .processor(Processor::new(&stage.name).handle(Keep))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    eventually("five are kept", async || stage.count("SELECT count(*) FROM note").await == 5).await;
    // A producer that repeats what it sent: only messages with an id can be recognised.
    stage.write(Note::TOPIC, again[2..5].to_vec()).await;
    eventually("the group is through", async || {
        let (kafka, group) = (stage.kafka_url.clone(), stage.name.clone());
        tokio::task::spawn_blocking(move || witness::offsets(&kafka, &group, Note::TOPIC)).await.unwrap()
            == [Some(10)]
    })
    .await;
    let kept: Vec<i64> =
        sqlx::query_scalar("SELECT n FROM note ORDER BY n").fetch_all(&stage.pool).await.unwrap();
    assert_eq!(kept, [1, 2, 3, 4, 7]);
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}
