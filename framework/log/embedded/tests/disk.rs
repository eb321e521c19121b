//! A file that cannot be written, for a while or for good.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use super::record;
use crate::{
    error::{Kind, Result},
    log::{
        Assignor, Bounds, Cleanup, Commit, ConsumerEvent, Log, Producer, Subscription, TopicSpec,
        embedded::{Embedded, EmbeddedConfig, Store},
    },
};

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tidelock-disk-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&path).expect("folder");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("log.db")
    }

    /// The log with the topic `t`, and switches that let statements, or COMMIT, fail.
    async fn open(&self) -> (Embedded, Switches) {
        let mut store = Store::open(&self.file()).await.expect("file");
        let switches = Switches::default();
        switches.install(&mut store).await;
        let log = Embedded::over(store, EmbeddedConfig::default()).await.expect("log");
        log.topic(&spec("t")).await.expect("topic");
        (log, switches)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Switches {
    /// As a full disk does, an interrupted statement ends the transaction.
    statements: Arc<AtomicBool>,
    commits: Arc<AtomicBool>,
}

impl Switches {
    async fn install(&self, store: &mut Store) {
        let mut handle = store.connection().lock_handle().await.expect("handle");
        let fails = Arc::clone(&self.statements);
        handle.set_progress_handler(1, move || !fails.load(SeqCst));
        let fails = Arc::clone(&self.commits);
        handle.set_commit_hook(move || !fails.load(SeqCst));
    }
}

fn spec(name: &str) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions: Some(1), cleanup: Cleanup::Any }
}

async fn send(producer: &mut dyn Producer, text: &str) -> Commit {
    producer.begin().await.expect("begin");
    producer.send(vec![record("t", 0, text)]).await.expect("send");
    assert!(producer.acknowledged().await.expect("acknowledged").is_empty());
    producer.commit().await
}

async fn last(log: &Embedded) -> Option<String> {
    let last = log.last_record("t", 0).await.expect("read");
    last.map(|last| String::from_utf8_lossy(&last.payload.expect("payload")).into_owned())
}

fn kind<T: std::fmt::Debug>(answer: Result<T>) -> Kind {
    answer.expect_err("refused").kind()
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let folder = Folder::new();
    let (log, switches) = folder.open().await;
    let mut producer = log.producer("id").await.expect("producer");
    assert!(matches!(send(&mut *producer, "1").await, Commit::Committed));
    switches.statements.store(true, SeqCst);
    match send(&mut *producer, "2").await {
        Commit::Unknown(error) => {
            assert_eq!(error.kind(), Kind::Unavailable, "{error}");
            assert!(error.to_string().contains("cannot be written now"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Nobody is told anything that is not on disk, and nobody waits for ever.
    assert_eq!(kind(log.check().await), Kind::Unavailable);
    assert_eq!(kind(log.producer("other").await.map(drop)), Kind::Unavailable);
    assert_eq!(kind(log.last_record("t", 0).await), Kind::Unavailable);
    assert_eq!(kind(log.topic(&spec("u")).await), Kind::Unavailable);
    switches.statements.store(false, SeqCst);
    while log.check().await.is_err() {
        tokio::time::sleep(super::super::writer::AGAIN / 4).await;
    }
    // As after every unknown outcome: the next producer decides.
    let mut producer = log.producer("id").await.expect("rotation");
    assert_eq!(last(&log).await.as_deref(), Some("2"));
    assert!(matches!(send(&mut *producer, "3").await, Commit::Committed));
    log.close().await.expect("closed");

    let (log, _) = folder.open().await;
    assert_eq!(last(&log).await.as_deref(), Some("3"));
    assert_eq!(log.bounds("t", 0).await.expect("bounds"), Bounds { start: 0, end: 6 });
}

#[tokio::test]
async fn a_log_that_is_closed_while_it_cannot_be_written_says_so() {
    let folder = Folder::new();
    let (log, switches) = folder.open().await;
    let mut producer = log.producer("id").await.expect("producer");
    switches.statements.store(true, SeqCst);
    assert!(matches!(send(&mut *producer, "lost").await, Commit::Unknown(_)));
    assert_eq!(kind(log.close().await), Kind::Unavailable);
    assert_eq!(kind(log.check().await), Kind::Unavailable);
    let (log, _) = folder.open().await;
    assert_eq!(last(&log).await, None);
}

#[tokio::test]
async fn after_a_commit_that_failed_nothing_goes_until_the_file_is_opened_again() {
    let folder = Folder::new();
    let (log, switches) = folder.open().await;
    let mut producer = log.producer("id").await.expect("producer");
    let mut other = log.producer("other").await.expect("producer");
    let group = Subscription {
        group: "group".to_owned(),
        topics: vec!["t".to_owned()],
        instance: None,
        assignor: Assignor::Eager,
    };
    let (consumer, mut events) = log.consumer(&group).await.expect("member");
    let Some(ConsumerEvent::Assigned(held)) = events.recv().await else { panic!("expected an assignment") };
    assert!(matches!(send(&mut *producer, "1").await, Commit::Committed));
    other.begin().await.expect("begin");
    switches.commits.store(true, SeqCst);
    match send(&mut *producer, "2").await {
        Commit::Unknown(error) => assert_eq!(error.kind(), Kind::Storage, "{error}"),
        other => panic!("{other:?}"),
    }
    switches.commits.store(false, SeqCst);
    assert_eq!(kind(log.check().await), Kind::Storage);
    assert_eq!(kind(log.topic(&spec("t")).await), Kind::Storage);
    assert_eq!(kind(log.producer("id").await.map(drop)), Kind::Storage);
    assert_eq!(kind(log.consumer(&group).await.map(drop)), Kind::Storage);
    assert_eq!(kind(log.last_record("t", 0).await), Kind::Storage);
    assert_eq!(kind(log.bounds("t", 0).await), Kind::Storage);
    other.send(vec![record("t", 0, "3")]).await.expect("buffered");
    assert_eq!(kind(other.acknowledged().await), Kind::Storage);
    // Members that only wait hear of it, too.
    let told = tokio::time::timeout(Duration::from_secs(30), events.recv()).await;
    match told.expect("told in time") {
        Some(ConsumerEvent::Fatal(error)) => assert_eq!(error.kind(), Kind::Storage, "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(events.recv().await.is_none());
    assert!(!consumer.holds(&held[0]));

    // The file is free, and knows.
    let (log, _) = folder.open().await;
    assert_eq!(last(&log).await.as_deref(), Some("1"));
    let mut producer = log.producer("id").await.expect("producer");
    assert!(matches!(send(&mut *producer, "2").await, Commit::Committed));
}
