//! Apache Kafka through rdkafka; nothing outside of this room names it.
//!
//! Where it differs from the embedded log is listed there: [`embedded`](super::embedded).

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::{admin::AdminClient, error::KafkaError};

use crate::{
    config::Problems,
    error::{Error, Kind, Result},
    log::{Bounds, Consumer, ConsumerEvents, Log, Producer, Received, Subscription, TopicSpec},
};

mod admin;
mod assignments;
mod batch_size;
mod bell;
mod config;
mod consumer;
mod deliveries;
mod fault;
mod flow;
mod last_record;
mod logging;
mod membership;
mod options;
mod outlet;
mod poll;
mod producer;
mod producer_thread;
mod rebalance;
mod received;
mod topic_id;
mod topics;

use batch_size::BatchSizes;
pub use config::KafkaConfig;
use consumer::KafkaConsumer;
use logging::Quiet;
pub use options::Options;
use producer::KafkaProducer;

/// A Kafka cluster. Cheap to clone; every producer and consumer has connections and a thread of its own.
#[derive(Clone)]
pub struct Kafka {
    config: Arc<KafkaConfig>,
    admin: Arc<AdminClient<Quiet>>,
    batch_sizes: BatchSizes,
}

impl Kafka {
    /// Connects in the background; [`Log::check`] tells whether the brokers can be reached and will do.
    ///
    /// # Errors
    /// Kind `Config`, naming every problem of the settings at once.
    pub fn new(config: KafkaConfig) -> Result<Self> {
        let mut problems = Problems::default();
        config.report(&mut problems);
        problems.into_result()?;
        let batch_sizes = BatchSizes::new(config.batch_size());
        let admin = config.admin().create_with_context(Quiet).map_err(|error| match error {
            KafkaError::ClientCreation(_) => Error::caused(Kind::Config, "kafka client", error),
            error => fault::failed("kafka client", error),
        })?;
        Ok(Self { config: Arc::new(config), admin: Arc::new(admin), batch_sizes })
    }

    /// Runs what blocks where it may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let kafka = self.clone();
        tokio::task::spawn_blocking(move || work(&kafka))
            .await
            .map_err(|error| Error::caused(Kind::Unavailable, "question to kafka", error))?
    }
}

#[async_trait]
impl Log for Kafka {
    async fn check(&self) -> Result<()> {
        self.check_brokers().await
    }

    async fn topic(&self, spec: &TopicSpec) -> Result<i32> {
        self.ensure_topic(spec).await
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        Ok(Box::new(KafkaProducer::start(&self.config, transactional_id, &self.batch_sizes).await?))
    }

    async fn consumer(&self, subscription: &Subscription) -> Result<(Arc<dyn Consumer>, ConsumerEvents)> {
        let subscription = subscription.clone();
        self.blocking(move |kafka| {
            let (consumer, events) = KafkaConsumer::start(&kafka.config, &subscription)?;
            Ok((consumer as Arc<dyn Consumer>, events))
        })
        .await
    }

    async fn last_record(&self, topic: &str, partition: i32) -> Result<Option<Received>> {
        let topic: Arc<str> = topic.into();
        self.blocking(move |kafka| kafka.read_last(&topic, partition)).await
    }

    async fn topic_id(&self, topic: &str) -> Result<Option<String>> {
        let topic = topic.to_owned();
        self.blocking(move |kafka| topic_id::ask(&kafka.admin, &topic, kafka.config.query_timeout).map(Some))
            .await
    }

    async fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds> {
        let topic = topic.to_owned();
        self.blocking(move |kafka| kafka.ask_bounds(&topic, partition, kafka.config.query_timeout)).await
    }
}
