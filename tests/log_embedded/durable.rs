//! The log in a file: what outlives the process, and what does not.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use bytes::Bytes;
use tidelock::{
    error::Kind,
    log::{
        Assignor, Bounds, Cleanup, Commit, ConsumerEvent, Log, Record, TopicSpec,
        embedded::{Embedded, EmbeddedConfig},
    },
};

use super::{Member, committed, next_of, publish, record, seen, sent, text, topic, within};

/// Where the child of a test finds its file.
const CHILD: &str = "TIDELOCK_TEST_EMBEDDED_FILE";

/// A folder of its own, gone with the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tidelock-embedded-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&path).expect("folder");
        Self(path)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.0.join("log.db")
    }

    pub(super) async fn open(&self) -> Embedded {
        self.open_with(EmbeddedConfig::default()).await
    }

    pub(super) async fn open_with(&self, config: EmbeddedConfig) -> Embedded {
        Embedded::open_with(self.file(), config).await.expect("file")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn numbered(topic: &str, numbers: std::ops::Range<i32>) -> Vec<Record> {
    numbers.map(|number| record(topic, 0, number.to_string())).collect()
}

#[tokio::test]
async fn what_is_committed_is_there_after_opening_again() {
    let folder = Folder::new();
    let log = folder.open().await;
    let plain = topic(&log, "plain", 2, Cleanup::Any).await;
    topic(&log, "kept", 1, Cleanup::Compact).await;
    let mut full = record(&plain, 0, "full");
    full.headers.push("name", "value");
    full.headers.push_raw("none", None);
    full.headers.push("name", vec![0, 0xff]);
    full.time_ms = Some(1_700_000_000_000);
    let bare = Record { key: None, payload: None, ..record(&plain, 0, "") };
    let empty = Record { key: Some(Bytes::new()), ..record(&plain, 0, "") };
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, vec![full.clone(), bare.clone(), empty.clone()]).await;
    let mut member = Member::join(&log, "group", &plain, Assignor::Eager).await;
    let held = member.assigned().await;
    sent(&mut *producer, Vec::new()).await;
    let proof = member.consumer.metadata(&held).expect("member");
    producer.send_offsets(&next_of(&held[0], 3), proof).await.expect("offsets");
    committed(producer.commit().await);
    sent(&mut *producer, numbered(&plain, 0..5)).await;
    assert_eq!(log.bounds(&plain, 0).await.expect("bounds"), Bounds { start: 0, end: 9 });
    let mut open = log.producer("open").await.expect("producer");
    sent(&mut *open, numbered(&plain, 5..10)).await;
    log.close().await.expect("close");
    assert!(matches!(producer.commit().await, Commit::Unknown(_)));
    assert_eq!(log.check().await.expect_err("closed").kind(), Kind::Unavailable);

    let log = folder.open().await;
    let spec = |name: &str, cleanup| TopicSpec { name: name.to_owned(), partitions: None, cleanup };
    assert_eq!(log.topic(&spec("plain", Cleanup::Any)).await.expect("there"), 2);
    assert_eq!(log.topic(&spec("kept", Cleanup::Compact)).await.expect("there"), 1);
    log.topic(&spec("plain", Cleanup::Compact)).await.expect_err("not compacted");
    // The end stays where it was, but what was open is gone and holds nothing back.
    assert_eq!(log.bounds(&plain, 0).await.expect("bounds"), Bounds { start: 0, end: 14 });
    let mut member = Member::join(&log, "group", &plain, Assignor::Eager).await;
    let held = member.assigned().await;
    assert_eq!(member.consumer.committed(&held[0]).await.expect("offset"), Some(3));
    assert_eq!(member.consumer.committed(&held[1]).await.expect("offset"), None);
    member.consumer.start(&held[0], 0).await.expect("start");
    let records = member.records(&held[0], |all| all.len() == 3).await;
    for (expected, found) in [full, bare, empty].iter().zip(&records) {
        assert_eq!((&expected.key, &expected.payload), (&found.key, &found.payload));
        assert_eq!(expected.headers, found.headers);
    }
    assert_eq!(records[0].time_ms, 1_700_000_000_000);
    assert_eq!(log.last_record(&plain, 0).await.expect("read").expect("there").offset, 2);
    let mut next = log.producer("id").await.expect("producer");
    publish(&mut *next, numbered(&plain, 0..1)).await;
    let records = member.records(&held[0], |all| !all.is_empty()).await;
    assert_eq!((records[0].offset, text(&records[0])), (14, "0".to_owned()));
}

#[tokio::test]
async fn old_records_are_read_from_the_file() {
    let folder = Folder::new();
    let small = EmbeddedConfig { window_bytes: 10_000, ..EmbeddedConfig::default() };
    let log = folder.open_with(small.clone()).await;
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    for round in 0..20 {
        publish(&mut *producer, numbered(&topic, round * 100..(round + 1) * 100)).await;
    }
    let expected: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    assert_eq!(seen(&log, &topic, 0, "1999").await, expected);
    log.close().await.expect("close");
    let log = folder.open_with(small).await;
    assert_eq!(seen(&log, &topic, 0, "1999").await, expected);
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 500).await.expect("start");
    let records = member.records(&held[0], |all| all.len() > 1_000).await;
    assert_eq!(records[0].offset, 500);
    assert!(records.is_sorted_by_key(|record| record.offset));
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let folder = Folder::new();
    let log = folder.open().await;
    let error = Embedded::open(folder.file()).await.expect_err("open already");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("is open in another process"), "{error}");
    log.check().await.expect("undisturbed");
    drop(log);
    folder.open().await.check().await.expect("free again");
    let error = Embedded::open(folder.0.join("absent").join("log.db")).await.expect_err("no folder");
    assert_eq!(error.kind(), Kind::Config);
    std::fs::write(folder.0.join("text"), "no database, but some text".repeat(100)).expect("file");
    let error = Embedded::open(folder.0.join("text")).await.expect_err("no database");
    assert_eq!(error.kind(), Kind::Config);
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused() {
    use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
    let folder = Folder::new();
    let options = SqliteConnectOptions::new().filename(folder.file()).create_if_missing(true);
    let mut other = SqliteConnection::connect_with(&options).await.expect("database");
    other.execute("CREATE TABLE theirs (id INTEGER)").await.expect("table");
    other.close().await.expect("closed");
    let error = Embedded::open(folder.file()).await.expect_err("not ours");
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("has format 0 and 1 tables"), "{error}");
}

#[tokio::test]
async fn commits_at_the_same_time_share_their_way_to_the_disk() {
    let folder = Folder::new();
    let log = folder.open().await;
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (log, topic) = (log.clone(), topic.clone());
        tasks.push(tokio::spawn(async move {
            let mut producer = log.producer(&format!("id {number}")).await.expect("producer");
            for round in 0..10 {
                publish(&mut *producer, vec![record(&topic, 0, format!("{number} {round}"))]).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("published");
    }
    assert_eq!(log.bounds(&topic, 0).await.expect("bounds").end, 400);
    log.close().await.expect("close");
    let log = folder.open().await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    let records = member.records(&held[0], |all| all.len() == 200).await;
    for number in 0..20 {
        let own: Vec<String> =
            records.iter().map(text).filter(|text| text.starts_with(&format!("{number} "))).collect();
        let expected: Vec<String> = (0..10).map(|round| format!("{number} {round}")).collect();
        assert_eq!(own, expected);
    }
}

#[tokio::test]
async fn a_cancelled_commit_is_completed_before_its_successor_begins() {
    use futures_util::FutureExt;
    let folder = Folder::new();
    let log = folder.open().await;
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    sent(&mut *producer, numbered(&topic, 0..1)).await;
    let answer = producer.commit().now_or_never();
    assert!(answer.is_none(), "{answer:?}");
    assert!(matches!(producer.commit().await, Commit::Unknown(_)));
    let _next = log.producer("id").await.expect("rotation");
    let last = log.last_record(&topic, 0).await.expect("decided");
    assert_eq!(last.map(|record| text(&record)).as_deref(), Some("0"));
}

/// What was asked for the end of a partition begins there after its next start, whatever became of the log meanwhile.
#[tokio::test]
async fn an_end_is_on_disk_when_it_is_told() {
    use futures_util::FutureExt;
    let folder = Folder::new();
    let log = folder.open().await;
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    sent(&mut *producer, numbered(&topic, 0..1)).await;
    assert!(producer.commit().now_or_never().is_none(), "it is on its way to the disk");
    let told = log.bounds(&topic, 0).now_or_never();
    assert!(told.is_none(), "{told:?} was told before it was on disk");
    let told = log.bounds(&topic, 0).await.expect("bounds");
    assert_eq!(told, Bounds { start: 0, end: 2 });
    // The file as a loss of power now leaves it.
    let after = Folder::new();
    for end in ["", "-wal"] {
        let lies = |folder: &Folder| PathBuf::from(format!("{}{end}", folder.file().display()));
        std::fs::copy(lies(&folder), lies(&after)).expect("copy");
    }
    assert_eq!(after.open().await.bounds(&topic, 0).await.expect("bounds"), told);
}

#[tokio::test]
async fn what_is_thrown_away_is_gone_from_the_file_too() {
    let folder = Folder::new();
    let day = 24 * 60 * 60 * 1_000;
    let at = |ms| EmbeddedConfig { start_ms: Some(ms), window_bytes: 500, ..EmbeddedConfig::default() };
    let log = folder.open_with(at(day)).await;
    let aged = topic(&log, "aged", 1, Cleanup::Any).await;
    let kept = topic(&log, "kept", 1, Cleanup::Compact).await;
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, numbered(&aged, 0..50)).await;
    for _ in 0..3 {
        publish(&mut *producer, numbered(&kept, 0..500)).await;
    }
    log.close().await.expect("close");

    let log = folder.open_with(at(5 * day)).await;
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, numbered(&aged, 50..60)).await;
    log.close().await.expect("close");

    let log = folder.open_with(at(10 * day)).await;
    while log.bounds(&aged, 0).await.expect("bounds").start < 50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.bounds(&aged, 0).await.expect("bounds"), Bounds { start: 50, end: 62 });
    log.close().await.expect("close");

    let log = folder.open_with(at(10 * day)).await;
    assert_eq!(log.bounds(&aged, 0).await.expect("bounds"), Bounds { start: 50, end: 62 });
    let mut member = Member::join(&log, "group", &aged, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 50).await.expect("start");
    let records = member.records(&held[0], |all| all.len() == 10).await;
    assert_eq!(records[0].offset, 51);
    member.consumer.start(&held[0], 49).await.expect("start only seeks");
    assert!(matches!(member.event().await, ConsumerEvent::Failed(..)));

    // After 1,000 records of one key only the last was kept; the rest came later.
    let mut member = Member::join(&log, "other", &kept, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    let records = member.records(&held[0], |all| all.last().is_some_and(|last| last.offset == 1_501)).await;
    assert_eq!((records.len(), records[0].offset), (501, 1_000));
}

#[tokio::test]
async fn every_commit_that_was_answered_outlives_a_kill() {
    let folder = Folder::new();
    let mut child = Command::new(std::env::current_exe().expect("test binary"))
        .args(["--exact", "log_embedded::durable::child", "--ignored", "--nocapture"])
        .env(CHILD, folder.file())
        .stdout(Stdio::piped())
        .spawn()
        .expect("child");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut answered = -1;
    for line in lines {
        let line = line.expect("line");
        let Some(number) = line.strip_prefix("committed ") else { continue };
        answered = number.parse().expect("number");
        if answered == 100 {
            let error = Embedded::open(folder.file()).await.expect_err("the child has it");
            assert!(error.to_string().contains("is open in another process"), "{error}");
            child.kill().expect("kill");
        }
    }
    child.wait().expect("gone");
    assert!(answered >= 100);
    let log = within(20, folder.open()).await;
    let last = log.last_record("t", 0).await.expect("read").expect("there");
    let found: i64 = text(&last).parse().expect("number");
    assert!((answered..=answered + 1).contains(&found), "{answered} answered, {found} found");
    let expected: Vec<String> = (0..=found).map(|number| number.to_string()).collect();
    assert_eq!(seen(&log, "t", 0, &found.to_string()).await, expected);
}

#[tokio::test]
#[ignore = "run by a test above"]
async fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let log = Embedded::open(path).await.expect("file");
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    for number in 0..i64::MAX {
        publish(&mut *producer, vec![record(&topic, 0, number.to_string())]).await;
        println!("committed {number}");
    }
}
