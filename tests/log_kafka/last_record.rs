//! The last committed record of a partition.

use std::time::Duration;

use tidelock::{
    error::Kind,
    log::{Bounds, Cleanup, Log, TopicSpec, kafka::Kafka},
};

use tidelock_lab::Lab;

use super::{config, kafka, producer, publish, record, sent, text, topic, unique};
use crate::witness;

/// As brokers answer right after their start.
#[tokio::test]
async fn a_partition_that_is_not_known_is_asked_for_again() {
    let mut config = config();
    config.query_timeout = Duration::from_secs(2);
    let kafka = Kafka::new(config).expect("settings");
    let name = unique("late");
    assert_eq!(kafka.bounds(&name, 0).await.expect_err("no such topic").kind(), Kind::Unavailable);
    let spec = TopicSpec { name: name.clone(), partitions: Some(1), cleanup: Cleanup::Compact };
    let (bounds, created) = tokio::join!(kafka.bounds(&name, 0), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        kafka.topic(&spec).await
    });
    created.expect("created");
    assert_eq!(bounds.expect("known in the end"), Bounds { start: 0, end: 0 });
}

/// librdkafka answers from what it heard of a topic before: of one that was just created, for example, by a broker that
/// knew of its first partition only.
#[tokio::test]
async fn a_partition_that_was_not_there_before_is_found() {
    let kafka = kafka();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    assert_eq!(kafka.bounds(&topic, 0).await.expect("bounds"), Bounds { start: 0, end: 0 });
    witness::add_partitions(&Lab::shared().kafka_url(), &topic, 2).await;
    assert_eq!(kafka.bounds(&topic, 1).await.expect("it is there now"), Bounds { start: 0, end: 0 });
}

#[tokio::test]
async fn an_open_transaction_is_a_time_out_and_counts_in_the_bounds() {
    let mut config = config();
    config.query_timeout = Duration::from_secs(2);
    config.transaction_timeout = Duration::from_secs(60);
    let mut short = config.clone();
    short.transaction_timeout = Duration::from_secs(2);
    let (kafka, reader) = (Kafka::new(config).expect("settings"), Kafka::new(short).expect("settings"));
    let topic = topic(&kafka, 1, Cleanup::Compact).await;
    let mut closed = producer(&kafka).await.expect("producer");
    publish(&kafka, &mut closed, vec![record(&topic, 0, "committed")]).await;
    let id = unique("producer");
    let mut open = kafka.producer(&id).await.expect("producer");
    sent(&mut *open, vec![record(&topic, 0, "open")]).await;
    assert_eq!(kafka.bounds(&topic, 0).await.expect("bounds"), Bounds { start: 0, end: 3 });
    let late = reader.last_record(&topic, 0).await;
    assert_eq!(late.expect_err("open").kind(), Kind::Timeout);
    let _decided = kafka.producer(&id).await.expect("rotation");
    let last = reader.last_record(&topic, 0).await.expect("read");
    assert_eq!(last.map(|record| text(&record)).as_deref(), Some("committed"));
}
