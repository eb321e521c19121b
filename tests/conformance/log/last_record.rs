//! The last committed record of a partition.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Cleanup, Record},
    message::Headers,
};

use super::{Limits, LogUnderTest, committed, publish_once, record, sent, text, topic, unique, within};

pub(super) async fn it_is_the_last_committed_one(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Compact).await;
    assert_eq!(log.last_record(&topic, 0).await.expect("empty"), None);
    let mut headers = Headers::new();
    headers.push("name", "value");
    headers.push_raw("none", None);
    let wanted = Record { headers, time_ms: Some(1_700_000_000_000), ..record(&topic, 0, "wanted") };
    publish_once(&*log, vec![record(&topic, 0, "before"), wanted.clone()]).await;
    let last = log.last_record(&topic, 0).await.expect("read").expect("committed");
    assert_eq!((&*last.topic, last.partition, last.offset), (topic.as_str(), 0, 1));
    assert_eq!((last.time_ms, last.headers), (1_700_000_000_000, wanted.headers));
    assert_eq!((last.key, last.payload), (wanted.key, wanted.payload));
    assert_eq!(log.last_record(&topic, 1).await.expect("empty"), None);

    publish_once(&*log, vec![Record { payload: None, ..record(&topic, 0, "") }]).await;
    let last = log.last_record(&topic, 0).await.expect("read").expect("committed");
    assert_eq!((last.offset, last.payload), (3, None), "a tombstone is a record");
}

pub(super) async fn aborted_records_are_passed_over(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 2, Cleanup::Any).await;
    publish_once(&*log, vec![record(&topic, 0, "wanted")]).await;
    let mut producer = log.producer(&unique("producer")).await.expect("producer");
    let aborted = (0..250).map(|number| record(&topic, 0, format!("aborted {number}")));
    sent(&mut *producer, aborted.chain([record(&topic, 1, "only aborted")]).collect()).await;
    producer.abort().await;
    let last = log.last_record(&topic, 0).await.expect("read").expect("committed");
    assert_eq!(text(&last), "wanted");
    assert_eq!(log.last_record(&topic, 1).await.expect("nothing committed"), None);
}

pub(super) async fn it_waits_for_an_open_transaction(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    publish_once(&*log, vec![record(&topic, 0, "before")]).await;
    let mut open = log.producer(&unique("open")).await.expect("producer");
    sent(&mut *open, vec![record(&topic, 0, "open")]).await;
    let commit = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        open.commit().await
    };
    let (last, outcome) = tokio::join!(log.last_record(&topic, 0), commit);
    committed(outcome);
    assert_eq!(last.expect("decided").as_ref().map(text).as_deref(), Some("open"));
}

pub(super) async fn an_open_transaction_is_waited_for_until_its_time_out(under: &dyn LogUnderTest) {
    let limits = Limits { transaction_timeout: Duration::from_secs(2), ..Limits::default() };
    let log = under.log(limits).await;
    let topic = topic(&*log, 1, Cleanup::Any).await;
    publish_once(&*log, vec![record(&topic, 0, "before")]).await;
    let mut open = log.producer(&unique("open")).await.expect("producer");
    sent(&mut *open, vec![record(&topic, 0, "open")]).await;
    let last = within(30, log.last_record(&topic, 0)).await.expect("decided");
    assert_eq!(last.as_ref().map(text).as_deref(), Some("before"));
}

pub(super) async fn a_partition_that_is_not_there_cannot_be_asked(under: &dyn LogUnderTest) {
    let limits = Limits { query_timeout: Duration::from_secs(2), ..Limits::default() };
    let log = under.log(limits).await;
    let there = topic(&*log, 2, Cleanup::Any).await;
    for (topic, partition) in [(unique("absent"), 0), (there, 2)] {
        assert_eq!(log.bounds(&topic, partition).await.expect_err("absent").kind(), Kind::Unavailable);
        assert_eq!(log.last_record(&topic, partition).await.expect_err("absent").kind(), Kind::Unavailable);
    }
}
