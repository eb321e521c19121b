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
    error::{Error, Kind, Result},
    health::Health,
    message::MessageId,
    outbox::Outgoing,
    relay::{Relay, RelayConfig},
};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Stage, eventually};

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
    Stopped,
}

/// PostgreSQL, with faults that occur once each, in order.
#[derive(Clone)]
struct Faulty {
    postgres: Postgres,
    faults: Arc<Mutex<VecDeque<(Step, Fault)>>>,
}

impl Faulty {
    async fn at(&self, step: Step) -> Result<()> {
        let fault = self.faults.lock().unwrap().pop_front_if(|(at, _)| *at == step);
        match fault {
            None => Ok(()),
            Some((_, Fault::Silence)) => pending().await,
            // An error that only somebody who was asked to stop should see.
            Some((_, Fault::Stopped)) => Err(Error::new(Kind::Stopped, "on purpose")),
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
        self.faulty.at(Step::Read).await?;
        self.reader.read(rows).await
    }

    async fn durable(&mut self) -> Result<()> {
        self.faulty.at(Step::Durable).await?;
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
        self.at(Step::Claim).await?;
        self.postgres.claim(shard).await
    }

    async fn origin(&self) -> Result<Bytes> {
        self.postgres.origin().await
    }

    async fn reader(&self, shard: Shard, position: &[u8]) -> Result<FaultyReader> {
        self.at(Step::Open).await?;
        Ok(FaultyReader { faulty: self.clone(), reader: self.postgres.reader(shard, position).await? })
    }

    async fn clean(&self, published: Self::Published) -> Result<u64> {
        self.at(Step::Clean).await?;
        self.postgres.clean(published).await
    }

    async fn settle_quarantine(&self, claim: Claim, attempt: Option<Uuid>) -> Result<u64> {
        self.postgres.settle_quarantine(claim, attempt).await
    }

    async fn propose(&self, claim: Claim, attempt: Uuid, refused: &[Quarantined]) -> Result<()> {
        self.postgres.propose(claim, attempt, refused).await
    }

    async fn held_keys(&self, shard: Shard) -> Result<(HashSet<HeldKey>, bool)> {
        self.at(Step::Held).await?;
        self.postgres.held_keys(shard).await
    }

    async fn take_released(&self, claim: Claim, attempt: Uuid, limit: usize) -> Result<Vec<Released>> {
        self.at(Step::Take).await?;
        self.postgres.take_released(claim, attempt, limit).await
    }

    async fn refuse_released(&self, claim: Claim, refused: &[(i64, String)]) -> Result<()> {
        self.postgres.refuse_released(claim, refused).await
    }
}

const STEPS: [Step; 6] = [Step::Read, Step::Durable, Step::Clean, Step::Held, Step::Claim, Step::Open];

/// A relay over faults to come, and a topic to publish to.
struct Running {
    stage: Stage,
    source: Faulty,
    topic: String,
    published: usize,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(name: &str, prepare: impl AsyncFnOnce(&Stage)) -> Self {
        let stage = Stage::new(name).await;
        prepare(&stage).await;
        let source = Faulty { postgres: stage.postgres.clone(), faults: Arc::default() };
        let config =
            RelayConfig { database_timeout: Duration::from_secs(2), ..RelayConfig::new(stage.name.clone()) };
        let relay = Relay::new(Arc::new(stage.kafka()), source.clone(), config, None, Health::default());
        let (relay, stop) = (relay.unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { relay.run(stopped).await });
        let topic = format!("{}.events", stage.name);
        Self { stage, source, topic, published: 0, stop, task }
    }

    fn fault(&self, faults: impl IntoIterator<Item = (Step, Fault)>) {
        self.source.faults.lock().unwrap().extend(faults);
    }

    async fn publish_one(&mut self) {
        self.published += 1;
        let payload = Some(self.published.to_string().into());
        let mut transaction = self.stage.postgres.outbox().begin().await.unwrap();
        transaction.enqueue_message(Outgoing::raw(self.topic.clone(), "k", payload));
        transaction.commit().await.unwrap();
        let found = self.stage.committed_at_least(&self.topic, self.published).await;
        assert_eq!(found.len(), self.published);
    }

    async fn end(self) {
        eventually("the outbox is empty", async || {
            self.stage.count("SELECT count(*) FROM tidelock.outbox").await == 0
        })
        .await;
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// With a relay at work, the fault at each step in turn; a message that is enqueued then is published once and deleted.
async fn survives(name: &str, fault: Fault) {
    let mut running = Running::start(name, async |_| {}).await;
    running.publish_one().await;
    for step in STEPS {
        // Claim and Open come in the next session: behind a fault that ends this one.
        let before = matches!(step, Step::Claim | Step::Open).then_some((Step::Read, Fault::Stopped));
        running.fault(before.into_iter().chain([(step, fault)]));
        running.publish_one().await;
        eventually(&format!("{fault:?} at {step:?}"), async || {
            running.source.faults.lock().unwrap().is_empty()
        })
        .await;
    }
    running.publish_one().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_silent_is_asked_again_by_a_new_session() {
    survives("silent", Fault::Silence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_followed_by_a_new_session() {
    survives("panics", Fault::Panic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_always_fails_does_not_hold_back_the_rest() {
    let asked = async |stage: &Stage| {
        let shard = Shard { index: 0, count: 1 };
        let (claim, attempt) = (stage.postgres.claim(shard).await.unwrap(), Uuid::new_v4());
        let held = Quarantined {
            id: MessageId::new(),
            topic: "t".into(),
            key: Some("held".into()),
            record: Bytes::new(),
            reason: "too large".to_owned(),
        };
        stage.postgres.propose(claim, attempt, std::slice::from_ref(&held)).await.unwrap();
        stage.postgres.settle_quarantine(claim, Some(attempt)).await.unwrap();
        stage.postgres.release(held.id).await.unwrap();
    };
    let mut running = Running::start("release_fails", asked).await;
    running.fault([(Step::Take, Fault::Panic); 1_000]);
    for _ in 0..3 {
        running.publish_one().await;
    }
    running.end().await;
}
