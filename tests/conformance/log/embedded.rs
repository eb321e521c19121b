//! The embedded log, in memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use tidelock::log::{
    Log,
    embedded::{Call, Client, Embedded, EmbeddedConfig, Fault, Operation},
};

use super::{Limits, LogUnderTest, Process, log_clauses};
use crate::conformance::log_tests;

log_clauses!(log_tests);

fn prove(clause: impl AsyncFnOnce(&dyn LogUnderTest)) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("runtime");
    runtime.block_on(clause(&InMemory));
}

/// A log of its own for each clause.
struct InMemory;

fn embedded(limits: &Limits) -> Embedded {
    let config = EmbeddedConfig {
        create_topics: limits.create_topics,
        transaction_timeout: limits.transaction_timeout,
        session_timeout: limits.session_timeout,
        heartbeat_interval: limits.session_timeout / 4,
        max_poll_interval: limits.max_poll_interval,
        query_timeout: limits.query_timeout,
        ..EmbeddedConfig::default()
    };
    Embedded::in_memory_with(config).expect("settings are fine")
}

#[async_trait]
impl LogUnderTest for InMemory {
    async fn log(&self, limits: Limits) -> Arc<dyn Log> {
        Arc::new(embedded(&limits))
    }

    async fn with_process(&self, limits: Limits) -> (Arc<dyn Log>, Box<dyn Process>) {
        let deaf = Arc::new(AtomicBool::new(false));
        let lost = Arc::clone(&deaf);
        let log = embedded(&limits).with_faults(move |call: &Call<'_>| {
            match lost.load(Ordering::SeqCst)
                && (call.client, call.operation) == ("cut off", Operation::Commit)
            {
                true => Fault::LoseAnswer,
                false => Fault::None,
            }
        });
        let client = log.client("cut off");
        (Arc::new(log), Box::new(CutOff { client, deaf }))
    }
}

/// A client that stands still, or is deaf.
struct CutOff {
    client: Client,
    deaf: Arc<AtomicBool>,
}

impl Process for CutOff {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.client.clone())
    }

    fn stop(&self) {
        self.client.freeze();
    }

    fn lose_answers(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    fn go_on(&self) {
        self.deaf.store(false, Ordering::SeqCst);
        self.client.thaw();
    }
}
