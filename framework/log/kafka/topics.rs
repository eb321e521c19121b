//! Topics as they must be.

use std::time::{Duration, Instant};

use rdkafka::{
    admin::{ConfigResource, NewTopic, ResourceSpecifier, TopicReplication},
    types::RDKafkaErrorCode as Code,
};

use super::{Kafka, admin::value, fault};
use crate::{
    config::Problems,
    error::{Error, Kind, Result},
    log::{Cleanup, TopicSpec},
};

/// What a created compacted topic is set to: small segments, cleaned early, so that compaction keeps up with
/// hundreds of records a second for the same few keys.
const COMPACTED: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "3600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
];
/// How often a new topic is looked at until it has leaders.
const LOOK: Duration = Duration::from_millis(50);

/// A topic as brokers show it.
struct Shape {
    partitions: i32,
    fewest_replicas: usize,
    has_leaders: bool,
}

impl Kafka {
    pub(super) async fn ensure_topic(&self, spec: &TopicSpec) -> Result<i32> {
        let what = format!("topic {:?}", spec.name);
        if spec.name.is_empty() {
            // rdkafka panics on it.
            return Err(Error::new(Kind::Config, format!("{what} cannot be created: no legal name")));
        }
        let resource = ResourceSpecifier::Topic(&spec.name);
        let mut settings = self.describe(&resource, &what).await?;
        if settings.is_none() {
            if !self.config.create_topics {
                return Err(Error::new(
                    Kind::Config,
                    format!("{what} does not exist, or its settings may not be seen"),
                ));
            }
            self.create_topic(spec).await?;
        }
        let until = Instant::now() + self.config.query_timeout;
        loop {
            if settings.is_none() {
                settings = self.describe(&resource, &what).await?;
            }
            let name = spec.name.clone();
            let shape = self.blocking(move |kafka| kafka.shape(&name)).await?;
            if let (Some(settings), Some(shape)) = (&settings, shape)
                && shape.has_leaders
            {
                self.check_topic(spec, &what, settings, &shape)?;
                return Ok(shape.partitions);
            }
            if Instant::now() >= until {
                return Err(match settings {
                    Some(_) => {
                        Error::new(Kind::Unavailable, format!("{what} has partitions without a leader"))
                    }
                    None => Error::new(
                        Kind::Config,
                        format!("{what} does not tell its settings, DescribeConfigs must be allowed"),
                    ),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        let config = &self.config;
        let in_sync = config.min_insync_replicas.map(|count| count.to_string());
        let mut topic = NewTopic::new(
            &spec.name,
            spec.partitions.unwrap_or(config.topic_partitions),
            TopicReplication::Fixed(config.replication_factor.unwrap_or(-1)),
        );
        if let Some(in_sync) = &in_sync {
            topic = topic.set("min.insync.replicas", in_sync);
        }
        if spec.cleanup == Cleanup::Compact {
            for (name, setting) in COMPACTED {
                topic = topic.set(name, setting);
            }
        }
        let what = format!("topic {:?} cannot be created", spec.name);
        let answer = self
            .admin
            .create_topics([&topic], &self.options())
            .await
            .map_err(|error| fault::failed(what.clone(), error))?;
        match answer.into_iter().next() {
            Some(Ok(_)) => {
                tracing::info!(target: "tidelock::kafka", topic = spec.name, "topic created");
                Ok(())
            }
            // Another instance was faster.
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(Error::caused(fault::kind_of(code), what, code.to_string())),
            None => Err(Error::new(Kind::Unavailable, what)),
        }
    }

    fn shape(&self, name: &str) -> Result<Option<Shape>> {
        let metadata = self.metadata(Some(name))?;
        Ok(metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == name && topic.error().is_none() && !topic.partitions().is_empty())
            .map(|topic| {
                let partitions = topic.partitions();
                Shape {
                    partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
                    fewest_replicas: partitions.iter().map(|each| each.replicas().len()).min().unwrap_or(0),
                    has_leaders: partitions.iter().all(|each| each.leader() >= 0),
                }
            }))
    }

    fn check_topic(
        &self,
        spec: &TopicSpec,
        what: &str,
        settings: &ConfigResource,
        shape: &Shape,
    ) -> Result<()> {
        let mut problems = Problems::default();
        if let Some(expected) = spec.partitions {
            problems.check(shape.partitions == expected, || {
                format!("{what} has {} partitions, config expects {expected}", shape.partitions)
            });
        }
        let policy = value(settings, "cleanup.policy").unwrap_or_default();
        problems.check(spec.cleanup == Cleanup::Any || policy.trim() == "compact", || {
            format!("{what} has cleanup.policy={policy}, expected compact alone")
        });
        if let Some(expected) = self.config.replication_factor {
            problems.check(i32::try_from(shape.fewest_replicas).is_ok_and(|count| count >= expected), || {
                format!("{what} has {} replicas, config expects {expected} or more", shape.fewest_replicas)
            });
        }
        if let Some(expected) = self.config.min_insync_replicas {
            let in_sync = value(settings, "min.insync.replicas").unwrap_or_default();
            problems.check(in_sync.parse::<i32>().is_ok_and(|count| count >= expected), || {
                format!("{what} has min.insync.replicas={in_sync}, config expects {expected} or more")
            });
        }
        problems.into_result()
    }
}
