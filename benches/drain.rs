//! The relay drains a backlog; counted at the broker by its end offsets and by a read_committed reader.

use std::time::{Duration, Instant};

use tidelock::{pipeline::Pipeline, relay::RelayConfig};

use crate::{Bench, limits, median, report, witness};

const PARTITIONS: i32 = 6;
/// The relay's default.
const PER_TRANSACTION: usize = 4_000;

pub(crate) async fn run(bench: &Bench, rows: usize) {
    let postgres = bench.postgres().await;
    let (mut relayed, mut limit) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        let topic = format!("drain.{round}");
        witness::create_topic(&bench.lab.kafka_url(), &topic, PARTITIONS, &[]).await;
        fill(&postgres, &topic, rows, bench.payload).await;
        let pipeline = Pipeline::builder(bench.kafka(), postgres.clone())
            .relay(RelayConfig::new("drain"))
            .build()
            .unwrap();
        pipeline.start().await.unwrap();
        pipeline.ready().await;
        let started = Instant::now();
        let already = outbox(&postgres).await;
        while outbox(&postgres).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let took = started.elapsed();
        pipeline.stop(Duration::from_secs(20)).await.unwrap();
        let found = count(bench, &topic).await;
        assert_eq!(found, rows, "the reader found another number of messages");
        relayed.push(already as f64 / took.as_secs_f64());

        let topic = format!("limit.{round}");
        witness::create_topic(&bench.lab.kafka_url(), &topic, PARTITIONS, &[]).await;
        let (kafka, payload) = (bench.lab.kafka_url(), vec![b'x'; bench.payload]);
        let name = topic.clone();
        let took = tokio::task::spawn_blocking(move || {
            limits::producer(&kafka, &name, rows, PER_TRANSACTION, &payload)
        })
        .await;
        limit.push(rows as f64 / took.unwrap().as_secs_f64());
    }
    report("relay, outbox to committed and deleted", &relayed);
    report("transactional producer fed from memory", &limit);
    println!("share of the limit: {:.0} %", 100.0 * median(relayed) / median(limit));
}

async fn fill(postgres: &tidelock::database::postgres::Postgres, topic: &str, rows: usize, payload: usize) {
    for from in (0..rows).step_by(10_000) {
        let to = (from + 10_000).min(rows) - 1;
        sqlx::query(
            "INSERT INTO tidelock.outbox (topic, key, payload) \
             SELECT $1, convert_to('key-' || (n % 10000), 'UTF8'), convert_to(repeat('x', $4), 'UTF8') \
             FROM generate_series($2::int, $3::int) AS n",
        )
        .bind(topic)
        .bind(from as i32)
        .bind(to as i32)
        .bind(payload as i32)
        .execute(postgres.pool())
        .await
        .unwrap();
    }
    sqlx::query("ANALYZE tidelock.outbox").execute(postgres.pool()).await.unwrap();
}

async fn outbox(postgres: &tidelock::database::postgres::Postgres) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM tidelock.outbox").fetch_one(postgres.pool()).await.unwrap()
}

async fn count(bench: &Bench, topic: &str) -> usize {
    let (kafka, topic) = (bench.lab.kafka_url(), topic.to_owned());
    tokio::task::spawn_blocking(move || witness::committed(&kafka, &topic).len()).await.unwrap()
}
