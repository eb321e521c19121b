//! A database that stops answering, or code below the relay that panics, costs a session and nothing more.

use std::{
    collections::{HashSet, VecDeque},
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tidelock::{
    database::{Batch, Claim, HeldKey, Quarantined, Reader, Released, Shard, Source, postgres::Postgres},
    error::Result,
    health::Health,
    outbox::Outgoing,
    relay::{Relay, RelayConfig},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Stage;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Claim,
    Open,
    Read,
    Durable,
    Clean,
    Held,
    Take,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Silence,
    Panic,
}

/// PostgreSQL, with faults that occur once each, in order.
#[derive(Clone)]
struct Faulty {
    postgres: Postgres,
    faults: Arc<Mutex<VecDeque<(Step, Fault)>>>,
}

impl Faulty {
    async fn at(&self, step: Step) {
        let fault = self.faults.lock().unwrap().pop_front_if(|(at, _)| *at == step);
        match fault {
            None => {}
            Some((_, Fault::Silence)) => pending().await,
            Some((_, Fault::Panic)) => panic!("on purpose"),
        }
    }
}

struct FaultyReader {
    faulty: Faulty,
    reader: <Postgres as Source>::Reader,
}

#[async_trait]
impl Reader for FaultyReader {
    type Published = <Postgres as Source>::Published;

    async fn read(&mut self, rows: usize) -> Result<Option<Batch<Self::Published>>> {
        self.faulty.at(Step::Read).await;
        self.reader.read(rows).await
    }

    async fn durable(&mut self) -> Result<()> {
        self.faulty.at(Step::Durable).await;
        self.reader.durable().await
    }
}

#[async_trait]
impl Source for Faulty {
    type Reader = FaultyReader;
    type Published = <Postgres as Source>::Published;

    fn hint(&self) -> Arc<Notify> {
        self.postgres.hint()
    }

    async fn check(&self) -> Result<()> {
        self.postgres.check().await
    }

    async fn fix_shards(&self, count: u32) -> Result<()> {
        self.postgres.fix_shards(count).await
    }

    async fn started(&self, shard: Shard) -> Result<bool> {
        self.postgres.started(shard).await
    }

    async fn mark_started(&self, shard: Shard) -> Result<()> {
        self.postgres.mark_started(shard).await
    }

    async fn claim(&self, shard: Shard) -> Result<Claim> {
        self.at(Step::Claim).await;
        self.postgres.claim(shard).await
    }

    async fn origin(&self) -> Result<Bytes> {
        self.postgres.origin().await
    }

    async fn reader(&self, shard: Shard, position: &[u8]) -> Result<FaultyReader> {
        self.at(Step::Open).await;
        Ok(FaultyReader { faulty: self.clone(), reader: self.postgres.reader(shard, position).await? })
    }

    async fn clean(&self, published: Self::Published) -> Result<u64> {
        self.at(Step::Clean).await;
        self.postgres.clean(published).await
    }

    async fn settle_quarantine(&self, claim: Claim, attempt: Option<Uuid>) -> Result<u64> {
        self.postgres.settle_quarantine(claim, attempt).await
    }

    async fn propose(&self, claim: Claim, attempt: Uuid, refused: &[Quarantined]) -> Result<()> {
        self.postgres.propose(claim, attempt, refused).await
    }

    async fn held_keys(&self, shard: Shard) -> Result<(HashSet<HeldKey>, bool)> {
        self.at(Step::Held).await;
        self.postgres.held_keys(shard).await
    }

    async fn take_released(&self, claim: Claim, attempt: Uuid, limit: usize) -> Result<Vec<Released>> {
        self.at(Step::Take).await;
        self.postgres.take_released(claim, attempt, limit).await
    }

    async fn refuse_released(&self, claim: Claim, refused: &[(i64, String)]) -> Result<()> {
        self.postgres.refuse_released(claim, refused).await
    }
}

/// With a relay running, each fault in turn; a message enqueued behind it is published once, and deleted.
async fn survives(name: &str, faults: &[(Step, Fault)]) {
    let stage = Stage::new(name).await;
    let source = Faulty { postgres: stage.postgres.clone(), faults: Arc::default() };
    let config =
        RelayConfig { database_timeout: Duration::from_secs(2), ..RelayConfig::new(stage.name.clone()) };
    let relay = Relay::new(Arc::new(stage.kafka()), source.clone(), config, None, Health::default()).unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { relay.run(stopped).await });
    let topic = format!("{}.events", stage.name);
    let mut expected = 0;
    let mut publish_one = async || {
        expected += 1;
        let mut transaction = stage.postgres.outbox().begin().await.unwrap();
        transaction.enqueue_message(Outgoing::raw(topic.clone(), "k", Some(expected.to_string().into())));
        transaction.commit().await.unwrap();
        assert_eq!(stage.committed_at_least(&topic, expected).await.len(), expected);
    };
    publish_one().await;
    for fault in faults {
        println!("{fault:?}");
        // Claim and Open come in the next session: the fault behind one that ends this one.
        let before = matches!(fault.0, Step::Claim | Step::Open).then_some((Step::Read, fault.1));
        source.faults.lock().unwrap().extend(before.into_iter().chain([*fault]));
        publish_one().await;
        super::eventually("the fault occurred", async || source.faults.lock().unwrap().is_empty()).await;
    }
    publish_one().await;
    super::eventually("the outbox is empty", async || {
        stage.count("SELECT count(*) FROM tidelock.outbox").await == 0
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_silent_is_asked_again_by_a_new_session() {
    survives(
        "silent",
        &[Step::Read, Step::Durable, Step::Clean, Step::Held, Step::Claim, Step::Open]
            .map(|step| (step, Fault::Silence)),
    )
    .await;
}
