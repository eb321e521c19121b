//! What librdkafka concludes about a record without having been told.

use std::time::Duration;

use tidelock::log::{Cleanup, Log as _};
use tidelock_lab::{Lab, proxy::request};

use super::{KafkaConfig, committed, config, record, seen, topic, unique};

/// The broker refuses the first batch to a partition and takes the second: to librdkafka that proves the first one, which
/// it was about to send again, and which is nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_without_an_offset_is_none() {
    let lab = || Lab::builder().postgres(false).proxied(true).start();
    let lab = tokio::task::spawn_blocking(lab).await.unwrap().unwrap();
    let kafka =
        tidelock::log::kafka::Kafka::new(KafkaConfig { brokers: lab.proxied_kafka_url(), ..config() })
            .unwrap();
    let topic = topic(&kafka, 1, Cleanup::Any).await;
    let id = unique("implicit");
    let all = || ["a", "b", "c", "d"].map(|text| record(&topic, 0, text)).to_vec();

    let mut producer = kafka.producer(&id).await.unwrap();
    let proxy = lab.kafka_proxy(0);
    proxy.delay(Duration::from_millis(50));
    let nowhere = "x".repeat(topic.len());
    let trap = proxy.replace_in_request(request::kafka_key(request::PRODUCE), topic.clone(), nowhere);
    producer.begin().await.unwrap();
    let (first, rest) = (all()[..3].to_vec(), all()[3..].to_vec());
    producer.send(first).await.unwrap();
    while !trap.sprung() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    producer.send(rest).await.unwrap();
    match producer.acknowledged().await {
        Ok(refusals) => {
            assert!(refusals.is_empty(), "{refusals:?}");
            committed(producer.commit().await);
        }
        Err(error) => {
            println!("{error}");
            producer.abort().await;
            assert!(producer.must_rotate().is_some());
            proxy.restore();
            producer = kafka.producer(&id).await.unwrap();
            producer.begin().await.unwrap();
            producer.send(all()).await.unwrap();
            assert!(producer.acknowledged().await.unwrap().is_empty());
            committed(producer.commit().await);
        }
    }
    assert_eq!(seen(&kafka, &topic, 0, "d").await, ["a", "b", "c", "d"]);
}
