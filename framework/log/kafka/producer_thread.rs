//! The thread that makes every call of one transactional producer: they block, some without heeding a time-out.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, KafkaResult},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::oneshot;

use super::{
    deliveries::{Context, Deliveries},
    fault,
};
use crate::{
    error::{Error, Kind, Result},
    log::{PartitionOffset, Record},
    retry::Backoff,
};

type Client = ThreadedProducer<Context>;

/// Where the answer to a command goes.
pub(super) type Reply<T> = oneshot::Sender<T>;

pub(super) enum Command {
    Begin(Reply<Result<()>>),
    Send(Vec<Record>, Reply<Result<()>>),
    /// Gives up what is queued or in flight, after a refusal.
    Purge(Reply<()>),
    /// Asks whether the producer is beyond repair, and why.
    Fatal(Reply<Option<Error>>),
    Offsets(Vec<PartitionOffset>, Box<ConsumerGroupMetadata>, Reply<Timed<()>>),
    Commit(Reply<Timed<bool>>),
    Abort(Reply<Result<()>>),
}

/// A call with the time it took.
pub(super) struct Timed<T> {
    pub(super) result: Result<T>,
    pub(super) took: Duration,
}

/// What a thread needs to know of its own.
pub(super) struct Setup {
    pub(super) id: String,
    pub(super) config: ClientConfig,
    pub(super) call_timeout: Duration,
    pub(super) offsets_timeout: Duration,
    /// Shorter: the initialisation that follows an abort aborts, too.
    pub(super) abort_timeout: Duration,
    pub(super) init_timeout: Duration,
    pub(super) backoff: Backoff,
}

/// Starts the thread; it answers `ready` once the producer is initialised, and ends when the commands do.
pub(super) fn start(
    setup: Setup,
    deliveries: Arc<Deliveries>,
    commands: mpsc::Receiver<Command>,
    ready: Reply<Result<()>>,
) -> Result<()> {
    thread::Builder::new()
        .name("tidelock-producer".to_owned())
        .spawn(move || {
            let client = match initialised(&setup, &deliveries, &ready) {
                Ok(client) => client,
                Err(error) => {
                    // Nobody waits any more: nothing to tell.
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            if ready.send(Ok(())).is_ok() {
                let room = Room {
                    client,
                    deliveries,
                    timeout: setup.call_timeout,
                    offsets_timeout: setup.offsets_timeout,
                    abort_timeout: setup.abort_timeout,
                };
                for command in commands {
                    room.execute(command);
                }
            }
        })
        .map(|_| ())
        .map_err(|error| Error::caused(Kind::Unavailable, "producer thread cannot be started", error))
}

fn initialised(setup: &Setup, deliveries: &Arc<Deliveries>, ready: &Reply<Result<()>>) -> Result<Client> {
    let create = || -> Result<Client> {
        setup
            .config
            .create_with_context(Context(Arc::clone(deliveries)))
            .map_err(|error| fault::failed(format!("producer {:?}", setup.id), error))
    };
    let until = Instant::now() + setup.init_timeout;
    let mut client = create()?;
    let mut attempt = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let error = match client.init_transactions(left.min(setup.call_timeout)) {
            Ok(()) => return Ok(client),
            Err(error) => error,
        };
        attempt += 1;
        let again = matches!(&error, KafkaError::Transaction(cause) if cause.is_retriable());
        let error = fault::failed(format!("producer {:?} cannot be initialised", setup.id), error);
        let wait = setup.backoff.wait(attempt);
        if !matches!(error.kind(), Kind::Timeout | Kind::Unavailable)
            || Instant::now() + wait >= until
            || ready.is_closed()
        {
            return Err(error);
        }
        tracing::debug!(target: "tidelock::kafka", id = setup.id, attempt, %error, "initialising again");
        thread::sleep(wait);
        if !again {
            client = create()?;
        }
    }
}

struct Room {
    client: Client,
    deliveries: Arc<Deliveries>,
    timeout: Duration,
    offsets_timeout: Duration,
    abort_timeout: Duration,
}

impl Room {
    /// The answer may find nobody: its caller was cancelled or gave this thread up.
    fn execute(&self, command: Command) {
        match command {
            Command::Begin(reply) => {
                self.deliveries.begin();
                let _ = reply.send(
                    self.client
                        .begin_transaction()
                        .map_err(|error| fault::failed("transaction cannot be begun", error)),
                );
            }
            Command::Send(records, reply) => {
                let _ = reply.send(self.send(records));
            }
            Command::Purge(reply) => {
                self.client.purge(PurgeConfig::default().queue().inflight());
                let _ = reply.send(());
            }
            Command::Fatal(reply) => {
                let fatal = self.client.client().fatal_error();
                let fatal = fatal.map(|(code, text)| Error::new(fault::kind_of(code), text));
                let _ = reply.send(fatal);
            }
            Command::Offsets(offsets, group, reply) => {
                let _ = reply.send(self.offsets(&offsets, &group));
            }
            Command::Commit(reply) => {
                let _ = reply.send(self.commit());
            }
            Command::Abort(reply) => {
                let _ = reply.send(
                    self.client
                        .abort_transaction(self.abort_timeout)
                        .map_err(|error| fault::failed("transaction cannot be aborted", error)),
                );
            }
        }
    }

    fn send(&self, records: Vec<Record>) -> Result<()> {
        let until = Instant::now() + self.timeout;
        let count = records.len();
        let first = self.deliveries.announce(count);
        for (place, record) in records.iter().enumerate() {
            let index = first + place;
            loop {
                let Err(error) = self.enqueue(record, index) else {
                    break;
                };
                let full = error.rdkafka_error_code() == Some(Code::QueueFull);
                if full && self.deliveries.wait_for_room(until) {
                    continue;
                }
                if fault::refuses_for_good(&error) {
                    self.deliveries.refuse(index, &error);
                    break;
                }
                let kind = if full { Kind::Timeout } else { fault::kind(&error) };
                let text = format!("record {index} for topic {:?} cannot be sent", record.topic);
                self.deliveries.withdraw(count - place, Error::new(kind, format!("{text}: {error}")));
                return Err(Error::caused(kind, text, error));
            }
        }
        Ok(())
    }

    fn enqueue(&self, record: &Record, index: usize) -> KafkaResult<()> {
        let mut out = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&record.topic, index);
        out.partition = record.partition;
        out.key = record.key.as_deref();
        out.payload = record.payload.as_deref();
        out.timestamp = record.time_ms;
        let headers = record.headers.iter();
        if headers.len() > 0 {
            let mut list = OwnedHeaders::new_with_capacity(headers.len());
            for (key, value) in headers {
                // The native call reads the name up to a NUL, and rdkafka panics on one.
                if key.as_bytes().contains(&0) {
                    return Err(KafkaError::MessageProduction(Code::InvalidRecord));
                }
                list = list.insert(Header { key, value });
            }
            out.headers = Some(list);
        }
        self.client.send(out).map_err(|(error, _)| error)
    }

    fn offsets(&self, offsets: &[PartitionOffset], group: &ConsumerGroupMetadata) -> Timed<()> {
        let list: Result<TopicPartitionList, KafkaError> = (|| {
            let mut list = TopicPartitionList::with_capacity(offsets.len());
            for each in offsets {
                list.add_partition_offset(&each.topic, each.partition, Offset::Offset(each.offset))?;
            }
            Ok(list)
        })();
        let started = Instant::now();
        let result =
            list.and_then(|list| self.client.send_offsets_to_transaction(&list, group, self.offsets_timeout));
        Timed {
            took: started.elapsed(),
            result: result
                .map_err(|error| fault::failed("offsets cannot be added to the transaction", error)),
        }
    }

    /// `Ok(false)`: nothing was sent to the coordinator.
    fn commit(&self) -> Timed<bool> {
        if !self.deliveries.complete() || !self.drained() {
            return Timed { result: Ok(false), took: Duration::ZERO };
        }
        let started = Instant::now();
        let result = self.client.commit_transaction(self.timeout);
        Timed {
            took: started.elapsed(),
            result: result
                .map(|()| true)
                .map_err(|error| fault::failed("outcome of the commit is not known", error)),
        }
    }

    /// The last delivery is counted moments before librdkafka lets go of its batch; were anything left in flight,
    /// rdkafka's own flush would take 100 ms.
    fn drained(&self) -> bool {
        let until = Instant::now() + self.timeout;
        let mut waits = 0;
        while self.client.in_flight_count() > 0 {
            if Instant::now() >= until {
                return false;
            }
            waits += 1;
            match waits {
                ..100 => thread::yield_now(),
                _ => thread::sleep(Duration::from_micros(100)),
            }
        }
        true
    }
}
