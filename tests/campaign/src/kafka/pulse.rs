//! What comes through, as it comes: for the progress line, and to tell when a fault is got over.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use tidelock_campaign::{
    Result,
    identity::{HEADER, Identity},
    tables,
};

use super::PARTITIONS;

/// How far one partition has come, as a reader of committed records sees it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beat {
    pub(crate) records: u64,
    pub(crate) last_offset: Option<i64>,
    /// The newest AT, in ms since the epoch.
    pub(crate) newest: u64,
}

type Beats = HashMap<(&'static str, i32), Beat>;

/// Reads input and output from a thread of its own until dropped.
pub(crate) struct Pulse {
    beats: Arc<Mutex<Beats>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    pub(crate) fn start(brokers: &str) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "campaign.pulse")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.max.messages.kbytes", "16384")
            .set("reconnect.backoff.max.ms", "500")
            .set("log_level", "2")
            .create()?;
        let mut list = TopicPartitionList::new();
        let mut beats = Beats::new();
        for topic in [tables::INPUT, tables::OUTPUT] {
            for partition in 0..PARTITIONS {
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
                beats.insert((topic, partition), Beat::default());
            }
        }
        consumer.assign(&list)?;
        let (beats, stop) = (Arc::new(Mutex::new(beats)), Arc::new(AtomicBool::new(false)));
        let (of_thread, until) = (Arc::clone(&beats), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
                let check = message.headers().and_then(|headers| {
                    headers.iter().find(|header| header.key == HEADER).and_then(|header| header.value)
                });
                let identity = check.and_then(|check| str::from_utf8(check).ok()).map(Identity::read);
                let at = identity.and_then(Result::ok).map_or(0, |identity| identity.at);
                let mut beats = of_thread.lock().unwrap_or_else(PoisonError::into_inner);
                let topic = if message.topic() == tables::INPUT { tables::INPUT } else { tables::OUTPUT };
                if let Some(beat) = beats.get_mut(&(topic, message.partition())) {
                    beat.records += 1;
                    beat.last_offset = Some(message.offset());
                    beat.newest = beat.newest.max(at);
                }
            }
        });
        Ok(Self { beats, stop, thread: Some(thread) })
    }

    fn with<T>(&self, ask: impl FnOnce(&Beats) -> T) -> T {
        ask(&self.beats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records seen of a topic.
    pub(crate) fn records(&self, topic: &str) -> u64 {
        self.with(|beats| {
            beats.iter().filter(|((each, _), _)| *each == topic).map(|(_, beat)| beat.records).sum()
        })
    }

    /// The oldest of the newest: every partition has shown something that was enqueued then or later.
    pub(crate) fn reached(&self) -> u64 {
        self.with(|beats| beats.values().map(|beat| beat.newest).min().unwrap_or(0))
    }

    /// The partitions that have shown nothing enqueued at `at` or later.
    pub(crate) fn behind(&self, at: u64) -> Vec<String> {
        self.with(|beats| {
            let late = beats.iter().filter(|(_, beat)| beat.newest < at);
            let mut names: Vec<_> =
                late.map(|((topic, partition), _)| format!("{topic}[{partition}]")).collect();
            names.sort();
            names
        })
    }

    /// The last offset of each partition of the input; `None`: nothing was seen there.
    pub(crate) fn last_offsets(&self) -> Vec<Option<i64>> {
        self.with(|beats| {
            (0..PARTITIONS)
                .map(|partition| beats.get(&(tables::INPUT, partition)).and_then(|beat| beat.last_offset))
                .collect()
        })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
