//! Batches that emit more than a transaction can deliver in time are cut.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidelock::prelude::*;

use super::{Stage, eventually};
use crate::witness::{self, Sent};

events! {
    Order: "large.orders", _n => Key::NONE;
}

#[derive(Serialize, Deserialize)]
struct Report {
    n: i64,
    text: String,
}

impl Event for Report {
    const TYPE: &'static str = "Report";
    const TOPIC: &'static str = "large.reports";

    fn key(&self) -> Key {
        Key::NONE
    }
}

struct Write;

#[async_trait]
impl Handler<Postgres> for Write {
    type Event = Order;

    async fn handle(
        &self,
        message: &Message<Order>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let n = message.event.n;
        sqlx::query("INSERT INTO written (n, attempt) VALUES ($1, $2)")
            .bind(n)
            .bind(i64::from(message.attempt))
            .execute(context.connection())
            .await?;
        context.emit(&Report { n, text: "x".repeat(400_000) })?;
        Ok(Outcome::Done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_emits_too_much_is_cut_and_nothing_is_taken_for_a_duplicate() {
    let stage = Stage::new("large").await;
    sqlx::query(
        "CREATE TABLE written (n bigint, attempt bigint, xid text DEFAULT pg_current_xact_id()::text)",
    )
    .execute(&stage.pool)
    .await
    .unwrap();
    witness::create_topic(&stage.kafka_url, Order::TOPIC, 1, &[]).await;
    witness::create_topic(&stage.kafka_url, Report::TOPIC, 1, &[]).await;
    let order = |n: i64, id: uuid::Uuid| Sent {
        key: String::new(),
        payload: format!("{{\"n\":{n}}}"),
        headers: vec![("ce_id".into(), id.to_string()), ("ce_type".into(), "Order".into())],
    };
    let ids: Vec<uuid::Uuid> = (0..40).map(|_| uuid::Uuid::now_v7()).collect();
    let mut sent: Vec<Sent> = (0..40).map(|n| order(n, ids[n as usize])).collect();
    // Beyond the cut, though the same id is before it.
    sent.push(order(0, ids[0]));
    stage.write(Order::TOPIC, sent).await;
    let pipeline = Pipeline::builder(stage.kafka(), stage.postgres.clone())
        .processor(Processor::new(&stage.name).handle(Write))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    let found = stage.committed_at_least(Report::TOPIC, 40).await;
    let reports: Vec<i64> = found.iter().map(|record| record.json()["n"].as_i64().unwrap()).collect();
    assert_eq!(reports, (0..40).collect::<Vec<_>>());
    eventually("the group is through", async || {
        let (kafka, group) = (stage.kafka_url.clone(), stage.name.clone());
        tokio::task::spawn_blocking(move || witness::offsets(&kafka, &group, Order::TOPIC)).await.unwrap()
            == [Some(41)]
    })
    .await;
    assert_eq!(stage.count("SELECT count(*) FROM written WHERE attempt = 1").await, 40);
    let most = "SELECT max(count) FROM (SELECT count(*) FROM written GROUP BY xid) batches";
    assert!(stage.count(most).await <= 11, "a batch ends at 4 MiB");
    assert_eq!(stage.count("SELECT count(*) FROM tidelock.inbox").await, 40);
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
}
