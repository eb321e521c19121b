//! Rates of this machine; run with `cargo test figures -- --ignored --nocapture`.

use std::time::Instant;

use tidelock::log::{Assignor, Cleanup, ConsumerEvent, Log};

use super::{Member, committed, kafka, producer, record, sent, topic, unique};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, asserts nothing"]
async fn figures() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let mut producer = producer(&kafka).await.expect("producer");
    let (mut rotations, rounds) = (0, 300);
    let started = Instant::now();
    for _ in 0..rounds {
        sent(&mut *producer, vec![record(&topic, 0, vec![b'x'; 200])]).await;
        committed(producer.commit().await);
        if producer.must_rotate().is_some() {
            rotations += 1;
            let id = producer.transactional_id().to_owned();
            producer = kafka.producer(&id).await.expect("rotation");
        }
    }
    let rate = f64::from(rounds) / started.elapsed().as_secs_f64();
    println!("{rate:.0} transactions/s of one record, {rotations} rotations");

    let (total, batch) = (1_000_000_usize, 10_000);
    let started = Instant::now();
    for _ in 0..total / batch {
        let records = (0..batch).map(|_| record(&topic, 0, vec![b'x'; 200])).collect();
        sent(&mut *producer, records).await;
        committed(producer.commit().await);
        if producer.must_rotate().is_some() {
            let id = producer.transactional_id().to_owned();
            producer = kafka.producer(&id).await.expect("rotation");
        }
    }
    println!(
        "{:.0} records/s sent in transactions of {batch}",
        total as f64 / started.elapsed().as_secs_f64()
    );

    let mut member = Member::join(&kafka, &unique("group"), &topic, Assignor::Cooperative).await;
    let assignment = member.assigned().await.remove(0);
    let started = Instant::now();
    member.consumer.start(&assignment, 0).await.expect("start");
    let mut count = 0;
    while count < total {
        if let ConsumerEvent::Records { records, .. } = member.event().await {
            count += records.len();
        }
    }
    println!("{:.0} records/s read", count as f64 / started.elapsed().as_secs_f64());
    let before = cpu();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    println!("{:.1} % of a core while idle", (cpu() - before) / 5.0 * 100.0);
    drop((member, producer));
    let started = Instant::now();
    while threads() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    println!("threads ended after {:?}", started.elapsed());
}

/// Seconds of processor time of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: f64 =
        stat.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// How many threads of producers and consumers run.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("tidelock-"))
        .count()
}
