//! A file that cannot be written or read as it should be.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use tidelock::{
    database::NoDatabase,
    error::Kind,
    health::State,
    log::{
        Assignor, Cleanup, Commit, ConsumerEvent, Log,
        embedded::{Embedded, EmbeddedConfig},
    },
    prelude::*,
};

use super::{
    Member,
    durable::{Folder, numbered},
    pipeline::Doubler,
    publish, record, seen, text, topic,
};

/// Where the child of a test finds its file.
const CHILD: &str = "TIDELOCK_TEST_EMBEDDED_FULL";

/// A file that may not grow any further, as on a full disk: the operator is told, and what was answered is there.
#[tokio::test]
async fn a_full_disk_stops_everything_and_loses_nothing() {
    let folder = Folder::new();
    let limited =
        "trap '' XFSZ; ulimit -f 400; exec \"$0\" --exact log_embedded::disk::child --ignored --nocapture";
    let child = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().expect("test binary"))
        .env(CHILD, folder.file())
        .stdout(Stdio::piped())
        .output()
        .expect("child");
    let told = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{told}{}", String::from_utf8_lossy(&child.stderr));
    let answered = told.lines().filter_map(|line| line.strip_prefix("committed ")).next_back();
    let answered: i64 = answered.expect("some were").parse().expect("number");
    let log = folder.open().await;
    let last = log.last_record("t", 0).await.expect("read").expect("there");
    let found: i64 = text(&last).trim().parse().expect("number");
    assert!((answered..=answered + 1).contains(&found), "{answered} answered, {found} found");
    let read = seen(&log, "t", 0, &text(&last)).await;
    assert!(read.iter().map(|text| text.trim().parse::<i64>().expect("number")).eq(0..=found));
    let mut producer = log.producer("id").await.expect("goes on");
    publish(&mut *producer, vec![record("t", 0, "after")]).await;
}

#[tokio::test]
#[ignore = "run by a test above"]
async fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let log = Embedded::open(path).await.expect("file");
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let pipeline = Pipeline::builder(log.clone(), NoDatabase)
        .processor(Processor::new("waiting").handle(Doubler))
        .build()
        .expect("settings");
    pipeline.start().await.expect("started");
    pipeline.ready().await;
    let mut producer = log.producer("id").await.expect("producer");
    for number in 0.. {
        let ten_kilobytes = format!("{number:<10000}");
        producer.begin().await.expect("begin");
        producer.send(vec![record(&topic, 0, ten_kilobytes)]).await.expect("send");
        assert!(producer.acknowledged().await.expect("acknowledged").is_empty());
        match producer.commit().await {
            Commit::Committed => println!("committed {number}"),
            Commit::Unknown(error) => {
                assert_eq!(error.kind(), Kind::Storage, "{error}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let failed = |state: &State| matches!(state, State::Failed(why) if why.contains("must be opened again"));
    while !pipeline.health().values().any(failed) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!pipeline.is_ready());
}

/// Old records that are thrown away while somebody still reads them from the file.
#[tokio::test]
async fn a_reader_that_lags_behind_retention_fails() {
    let folder = Folder::new();
    let log = folder
        .open_with(EmbeddedConfig {
            window_bytes: 10_000,
            retention: Duration::from_secs(100),
            // Whoever moves the clock on by hand is late with heartbeats.
            session_timeout: Duration::from_secs(3_600),
            ..EmbeddedConfig::default()
        })
        .await;
    let topic = topic(&log, "t", 1, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, numbered(&topic, 0..1_000)).await;
    advance(70).await;
    publish(&mut *producer, numbered(&topic, 1_000..2_000)).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    // The call that starts the reader also has the old half thrown away: it reads what was there when it began.
    advance(70).await;
    member.consumer.start(&held[0], 0).await.expect("start");
    match member.event().await {
        ConsumerEvent::Failed(at, error) => {
            assert_eq!((&at, error.kind()), (&held[0], Kind::Identity), "{error}");
            assert!(error.to_string().contains("cannot be read from 0: it starts at 1000"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

async fn advance(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_stored_record_that_cannot_be_decoded_fails_its_partition() {
    let folder = Folder::new();
    let small = EmbeddedConfig { window_bytes: 1_000, ..EmbeddedConfig::default() };
    let log = folder.open_with(small.clone()).await;
    let topic = topic(&log, "t", 2, Cleanup::Any).await;
    let mut producer = log.producer("id").await.expect("producer");
    publish(&mut *producer, numbered(&topic, 0..100)).await;
    publish(&mut *producer, vec![record(&topic, 1, "whole")]).await;
    log.close().await.expect("closed");
    let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(folder.file()))
        .await
        .expect("file");
    file.execute("UPDATE record SET headers = x'ff' WHERE number = 0 AND at = 50").await.expect("damaged");
    file.close().await.expect("closed");

    let log = folder.open_with(small).await;
    let mut member = Member::join(&log, "group", &topic, Assignor::Eager).await;
    let held = member.assigned().await;
    member.consumer.start(&held[0], 0).await.expect("start");
    match member.event().await {
        ConsumerEvent::Failed(at, error) => {
            assert_eq!((&at, error.kind()), (&held[0], Kind::Corrupt), "{error}");
            assert!(error.to_string().contains("headers of t[0] offset 50 cannot be decoded"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // What is whole can still be read.
    member.consumer.start(&held[1], 0).await.expect("start");
    assert_eq!(member.records(&held[1], |all| !all.is_empty()).await.len(), 1);
}
