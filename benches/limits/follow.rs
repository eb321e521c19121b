//! A read_committed reader that notes when each message arrived.

use std::{
    sync::mpsc::Sender,
    time::{Duration, SystemTime},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

/// Sends on payloads with their time of receipt, until nobody listens.
pub(crate) fn follow(kafka: &str, topic: &str, partitions: i32, receiver: &Sender<(Vec<u8>, SystemTime)>) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "follow")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    loop {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let received = (message.payload().unwrap_or_default().to_vec(), SystemTime::now());
            if receiver.send(received).is_err() {
                return;
            }
        }
    }
}
