//! Real Kafka.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use tidelock::log::{
    Log,
    kafka::{Kafka, KafkaConfig},
};
use tidelock_lab::Lab;
use tokio::sync::{Mutex, MutexGuard};

use super::{Limits, LogUnderTest, Process, log_clauses};
use crate::conformance::log_tests;

log_clauses!(log_tests);

fn prove(clause: impl AsyncFnOnce(&dyn LogUnderTest)) {
    crate::conformance::block_on(clause(&RealKafka));
}

/// The broker that all tests share; a broker behind a proxy for clients that can be cut off, one at a time.
struct RealKafka;

fn config(brokers: String, limits: &Limits) -> KafkaConfig {
    KafkaConfig {
        options: crate::log_kafka::options(),
        brokers,
        create_topics: limits.create_topics,
        transaction_timeout: limits.transaction_timeout,
        session_timeout: limits.session_timeout,
        heartbeat_interval: limits.session_timeout / 4,
        max_poll_interval: limits.max_poll_interval,
        query_timeout: limits.query_timeout,
        socket_timeout: limits.transaction_timeout.min(Duration::from_secs(5)),
        ..KafkaConfig::default()
    }
}

#[async_trait]
impl LogUnderTest for RealKafka {
    async fn log(&self, limits: Limits) -> Arc<dyn Log> {
        let lab = tokio::task::spawn_blocking(Lab::shared).await.expect("lab");
        Arc::new(Kafka::new(config(lab.kafka_url(), &limits)).expect("settings are fine"))
    }

    async fn with_process(&self, limits: Limits) -> (Arc<dyn Log>, Box<dyn Process>) {
        static TURN: Mutex<()> = Mutex::const_new(());
        static PROXIED: OnceLock<Lab> = OnceLock::new();
        let turn = TURN.lock().await;
        let start = || Lab::builder().postgres(false).proxied(true).start().expect("lab");
        let lab = tokio::task::spawn_blocking(move || PROXIED.get_or_init(start)).await.expect("lab");
        let log = Kafka::new(config(lab.kafka_url(), &limits)).expect("settings are fine");
        let cut_off = KafkaConfig {
            socket_timeout: Duration::from_secs(1),
            call_timeout: Duration::from_secs(2),
            ..config(lab.proxied_kafka_url(), &limits)
        };
        let process = Proxied { kafka: Kafka::new(cut_off).expect("settings are fine"), lab, _turn: turn };
        (Arc::new(log), Box::new(process))
    }
}

/// A client behind the proxy.
struct Proxied {
    kafka: Kafka,
    lab: &'static Lab,
    _turn: MutexGuard<'static, ()>,
}

impl Process for Proxied {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.kafka.clone())
    }

    fn stop(&self) {
        self.lab.kafka_proxy(0).blackhole();
    }

    fn lose_answers(&self) {
        self.lab.kafka_proxy(0).drop_answers();
    }

    fn go_on(&self) {
        self.lab.kafka_proxy(0).restore();
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        self.go_on();
    }
}
