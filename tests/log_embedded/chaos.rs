//! Workers that copy records exactly once, while processes stop and die and calls go wrong; the same each time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tidelock::{
    error::{Kind, Result},
    log::{
        Assignment, Assignor, Cleanup, Commit, Consumer, ConsumerEvent, Log, Producer, Received, Record,
        Subscription,
        embedded::{Call, Client, Embedded, EmbeddedConfig, Fault},
    },
};
use tokio::{task::JoinHandle, time::sleep};

use super::{Member, publish, record, text, topic};

const PARTITIONS: i32 = 4;
const RECORDS: usize = 400;

/// What happened, and where the next chance comes from.
#[derive(Clone)]
struct World {
    random: Arc<Mutex<fastrand::Rng>>,
    trace: Arc<Mutex<Vec<String>>>,
    calm: Arc<Mutex<bool>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { random, trace: Arc::default(), calm: Arc::default() }
    }

    fn below(&self, most: u64) -> u64 {
        self.random.lock().unwrap().u64(0..most)
    }

    fn note(&self, text: String) {
        self.trace.lock().unwrap().push(text);
    }

    fn fault(&self, call: &Call<'_>) -> Fault {
        if *self.calm.lock().unwrap() || call.client == "main" {
            return Fault::None;
        }
        let fault = match self.below(400) {
            0..8 => Fault::Delay(Duration::from_millis(self.below(3_000))),
            8..12 => Fault::LoseRequest,
            12..16 => Fault::LoseAnswer,
            16..18 => Fault::Fence,
            18..20 => Fault::AbortTransaction,
            20 => Fault::Kill,
            21 => Fault::KillAfter,
            _ => return Fault::None,
        };
        self.note(format!("{call:?} {fault:?}"));
        fault
    }
}

/// A process that reads, and writes what it read.
struct Worker {
    client: Client,
    world: World,
    consumer: Arc<dyn Consumer>,
    producer: Option<Box<dyn Producer>>,
    flows: BTreeMap<i32, (Assignment, u64)>,
}

impl Worker {
    async fn run(client: Client, world: World, assignor: Assignor) {
        let subscription = Subscription {
            group: "group".to_owned(),
            topics: vec!["in".to_owned()],
            instance: None,
            assignor,
        };
        let (consumer, mut events) = loop {
            match client.consumer(&subscription).await {
                Ok(joined) => break joined,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        };
        let mut worker = Self { client, world, consumer, producer: None, flows: BTreeMap::new() };
        while let Some(event) = events.recv().await {
            match event {
                ConsumerEvent::Assigned(new) => {
                    for assignment in new {
                        worker.position(assignment).await;
                    }
                }
                ConsumerEvent::Records { assignment, flow, records } => {
                    if worker.flows.get(&assignment.partition) != Some(&(assignment.clone(), flow)) {
                        continue;
                    }
                    if worker.copy(&assignment, &records).await.is_err() {
                        worker.producer = None;
                        worker.position(assignment).await;
                    }
                }
                ConsumerEvent::Revoked { partitions, lost, handback } => {
                    worker.world.note(format!("{} gives {partitions:?} {lost}", worker.client.name()));
                    partitions.iter().for_each(|each| drop(worker.flows.remove(&each.partition)));
                    sleep(Duration::from_millis(worker.world.below(500))).await;
                    drop(handback);
                }
                ConsumerEvent::Failed(assignment, error) => panic!("{assignment}: {error}"),
                ConsumerEvent::Denied(error) | ConsumerEvent::Fatal(error) => panic!("{error}"),
            }
        }
    }

    async fn ready(&mut self) -> &mut dyn Producer {
        loop {
            if self.producer.as_ref().is_some_and(|producer| producer.must_rotate().is_some()) {
                self.producer = None;
            }
            if self.producer.is_none() {
                self.producer = self.client.producer(self.client.name()).await.ok();
            }
            if self.producer.is_some() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.producer.as_deref_mut().unwrap()
    }

    /// Starts where the group is, once it is known.
    async fn position(&mut self, assignment: Assignment) {
        self.flows.remove(&assignment.partition);
        self.ready().await;
        loop {
            let started = match self.consumer.committed(&assignment).await {
                Ok(offset) => self.consumer.start(&assignment, offset.unwrap_or(0)).await,
                Err(error) => Err(error),
            };
            match started {
                Ok(flow) => {
                    self.flows.insert(assignment.partition, (assignment, flow));
                    return;
                }
                Err(error) if error.kind() == Kind::Unassigned => return,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn copy(&mut self, from: &Assignment, records: &[Received]) -> Result<()> {
        let name = self.client.name().to_owned();
        let (consumer, world) = (Arc::clone(&self.consumer), self.world.clone());
        let copies: Vec<Record> =
            records.iter().map(|each| record("out", from.partition, text(each))).collect();
        let producer = self.ready().await;
        producer.begin().await?;
        let filled = fill(producer, &*consumer, from, records, copies).await;
        let outcome = match filled {
            Ok(()) => producer.commit().await,
            Err(error) => {
                world.note(format!("{name} {from} {error}"));
                producer.abort().await;
                return Err(error);
            }
        };
        world.note(format!("{name} {from} {} {outcome:?}", records.len()));
        match outcome {
            Commit::Committed => Ok(()),
            Commit::Aborted(error) | Commit::Unknown(error) => Err(error),
        }
    }
}

async fn fill(
    producer: &mut dyn Producer,
    consumer: &dyn Consumer,
    from: &Assignment,
    records: &[Received],
    copies: Vec<Record>,
) -> Result<()> {
    producer.send(copies).await?;
    assert!(producer.acknowledged().await?.is_empty());
    let proof = consumer.metadata(std::slice::from_ref(from))?;
    let next = records.last().map_or(0, |record| record.offset + 1);
    producer.send_offsets(&super::next_of(from, next), proof).await
}

/// What may happen to a process.
async fn trouble(
    world: &World,
    workers: &mut [(Client, JoinHandle<()>)],
    fresh: impl Fn(String) -> (Client, JoinHandle<()>),
) {
    for round in 0..60 {
        sleep(Duration::from_millis(world.below(4_000))).await;
        let victim = world.below(workers.len() as u64) as usize;
        let (_, task) = &mut workers[victim];
        assert!(!task.is_finished() || task.await.is_ok(), "a worker failed");
        let (client, task) = &mut workers[victim];
        match world.below(4) {
            0 if !client.is_killed() => {
                world.note(format!("{} stands still", client.name()));
                client.freeze();
                let (client, time) = (client.clone(), Duration::from_millis(world.below(25_000)));
                tokio::spawn(async move {
                    sleep(time).await;
                    client.thaw();
                });
            }
            1 => {
                client.kill();
                task.abort();
                workers[victim] = fresh(format!("worker {victim}.{round}"));
            }
            _ if client.is_killed() => workers[victim] = fresh(format!("worker {victim}.{round}")),
            _ => {}
        }
    }
    *world.calm.lock().unwrap() = true;
    for (victim, (client, task)) in workers.iter_mut().enumerate() {
        client.thaw();
        if client.is_killed() {
            task.abort();
            (*client, *task) = fresh(format!("worker {victim}.last"));
        }
    }
}

async fn run(seed: u64) -> Vec<String> {
    let world = World::new(seed);
    // Longer than a session: a transaction can outlive its owner's membership.
    let transaction_timeout = Duration::from_secs(60);
    let config = EmbeddedConfig { transaction_timeout, ..EmbeddedConfig::default() };
    let log = Embedded::in_memory_with(config).expect("settings").with_faults({
        let world = world.clone();
        move |call: &Call<'_>| world.fault(call)
    });
    topic(&log, "in", PARTITIONS, Cleanup::Any).await;
    topic(&log, "out", PARTITIONS, Cleanup::Any).await;
    let assignor = if seed.is_multiple_of(2) { Assignor::Cooperative } else { Assignor::Eager };
    let feeding = tokio::spawn({
        let log = log.clone();
        async move {
            let mut producer = log.producer("feeder").await.expect("producer");
            for number in 0..RECORDS {
                let partition = (number % PARTITIONS as usize) as i32;
                publish(&mut *producer, vec![record("in", partition, number.to_string())]).await;
                sleep(Duration::from_millis(300)).await;
            }
        }
    });
    let fresh = |name: String| {
        let client = log.client(&name);
        let task = tokio::spawn(Worker::run(client.clone(), world.clone(), assignor));
        (client, task)
    };
    let mut workers: Vec<_> = (0..3).map(|number| fresh(format!("worker {number}"))).collect();
    trouble(&world, &mut workers, fresh).await;
    feeding.await.expect("fed");

    let mut reader = Member::join(&log, "reader", "out", Assignor::Eager).await;
    for assignment in reader.assigned().await {
        reader.consumer.start(&assignment, 0).await.expect("start");
    }
    let mut copies: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(120), reader.events.recv()).await {
        if let ConsumerEvent::Records { assignment, records, .. } = event {
            for each in records {
                world.note(format!("{assignment} {} {}", each.offset, text(&each)));
                copies.entry(assignment.partition).or_default().push(text(&each).parse().expect("number"));
            }
        }
    }
    for partition in 0..PARTITIONS {
        let expected = (0..RECORDS).filter(|number| number % PARTITIONS as usize == partition as usize);
        let found = copies.remove(&partition).unwrap_or_default();
        assert!(expected.eq(found.iter().copied()), "seed {seed} partition {partition}: {found:?}");
    }
    assert!(workers.iter().all(|(_, task)| !task.is_finished()));
    world.trace.lock().unwrap().clone()
}

fn simulated(seed: u64) -> Vec<String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(run(seed))
}

#[test]
fn every_record_is_copied_once_and_in_order_whatever_happens() {
    let happened: Vec<String> = (0..50).flat_map(simulated).collect();
    for expected in ["Unknown", "stands still", "] true", "LoseAnswer", "Fence", "KillAfter", "is fenced"] {
        assert!(happened.iter().any(|text| text.contains(expected)), "{expected} never happened");
    }
}

#[test]
fn two_simulations_are_alike() {
    for seed in [3, 4] {
        let (first, second) = (simulated(seed), simulated(seed));
        let different = first.iter().zip(&second).find(|(one, other)| one != other);
        assert_eq!(different, None);
        assert_eq!(first.len(), second.len());
        assert!(first.len() > 500, "{}", first.len());
    }
}
