//! From the database's clock in the committing transaction to the receipt by a read_committed reader, open loop.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    sync::{Arc, mpsc},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tidelock::{pipeline::Pipeline, relay::RelayConfig};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{Bench, limits, witness};

const TOPIC: &str = "latency";
const PARTITIONS: i32 = 6;
const WRITERS: u32 = 8;

/// Writes for `warm_up` (a broker that has just started compiles its code for half a minute), then for `length`, and
/// counts only the latter.
pub(crate) async fn run(bench: &Bench, rate: u32, warm_up: Duration, length: Duration) {
    let postgres = bench.postgres().await;
    witness::create_topic(&bench.lab.kafka_url(), TOPIC, PARTITIONS, &[]).await;
    let pipeline = Pipeline::builder(bench.kafka(), postgres.clone())
        .relay(RelayConfig::new("latency"))
        .build()
        .unwrap();
    pipeline.start().await.unwrap();
    pipeline.ready().await;
    let (sender, receiver) = mpsc::channel();
    let kafka = bench.lab.kafka_url();
    std::thread::spawn(move || limits::follow(&kafka, TOPIC, PARTITIONS, &sender));
    tokio::time::sleep(Duration::from_secs(2)).await;

    let late = Arc::new(AtomicUsize::new(0));
    let padding = "x".repeat(bench.payload.saturating_sub(20));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (pool, late, padding) = (postgres.pool().clone(), late.clone(), padding.clone());
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(Duration::from_secs(1) * WRITERS / rate);
                tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let until = Instant::now() + warm_up + length;
                let mut written = 0_usize;
                while Instant::now() < until {
                    let due = tick.tick().await;
                    if due.elapsed() > Duration::from_millis(100) {
                        late.fetch_add(1, Ordering::Relaxed);
                    }
                    sqlx::query(
                        "SELECT tidelock.enqueue('latency', convert_to($1, 'UTF8'), convert_to(\
                         (extract(epoch FROM clock_timestamp()) * 1000000)::bigint || ' ' || $2, 'UTF8'))",
                    )
                    .bind(format!("key-{writer}-{}", written % 1_000))
                    .bind(&padding)
                    .execute(&pool)
                    .await
                    .unwrap();
                    written += 1;
                }
                written
            })
        })
        .collect();
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let mut waits: Vec<f64> = Vec::with_capacity(written);
    let share = warm_up.as_secs_f64() / (warm_up + length).as_secs_f64();
    let warm_up = (written as f64 * share) as usize;
    for n in 0..written {
        let (payload, received): (Vec<u8>, SystemTime) =
            receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        let text = String::from_utf8(payload).unwrap();
        let micros: u64 = text.split(' ').next().unwrap().parse().unwrap();
        let sent = UNIX_EPOCH + Duration::from_micros(micros);
        if n >= warm_up {
            waits.push(received.duration_since(sent).unwrap_or_default().as_secs_f64() * 1_000.0);
        }
    }
    pipeline.stop(Duration::from_secs(20)).await.unwrap();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{} messages at {rate}/s ({} writes begun over 100 ms late): p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        waits.len(),
        late.load(Ordering::Relaxed),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
