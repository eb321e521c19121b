//! Topics as they must be.

use std::time::{Duration, Instant};

use rdkafka::{
    admin::{ConfigResource, NewTopic, ResourceSpecifier, TopicReplication},
    metadata::MetadataTopic,
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
/// How long a topic that brokers show may keep its settings back: they learn of a new one one by one.
const TOLD: Duration = Duration::from_secs(1);
/// Brokers take no longer one.
const LONGEST_NAME: usize = 249;

/// A topic as brokers show it.
struct Shape {
    partitions: i32,
    fewest_replicas: usize,
    has_leaders: bool,
}

impl Kafka {
    pub(super) async fn ensure_topic(&self, spec: &TopicSpec) -> Result<i32> {
        let what = format!("topic {:?}", spec.name);
        if spec.name.is_empty() || spec.name.len() > LONGEST_NAME {
            // rdkafka panics on some of them.
            return Err(Error::new(Kind::Config, format!("{what} cannot be created: no legal name")));
        }
        let until = Instant::now() + self.config.query_timeout;
        let mut shape = self.shape(&spec.name).await?;
        if shape.is_none() && self.settings(spec, &what).await?.is_none() {
            if !self.config.create_topics {
                return Err(Error::new(Kind::Config, format!("{what} does not exist, or may not be seen")));
            }
            self.create_topic(spec).await?;
        }
        loop {
            if let Some(shape) = shape.as_ref().filter(|shape| shape.has_leaders) {
                self.check_topic(spec, &what, shape).await?;
                return Ok(shape.partitions);
            }
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep(LOOK).await;
            shape = self.shape(&spec.name).await?;
        }
        if shape.is_some() {
            return Err(Error::new(Kind::Unavailable, format!("{what} has partitions without a leader")));
        }
        // Who may see nothing of it may not write to it either.
        let kind = match self.settings(spec, &what).await? {
            Some(_) => Kind::Unavailable,
            None => Kind::Config,
        };
        Err(Error::new(kind, format!("{what} is not shown, Describe must be allowed")))
    }

    /// `None` when there is no such topic, or its settings may not be seen.
    async fn settings(&self, spec: &TopicSpec, what: &str) -> Result<Option<ConfigResource>> {
        self.describe(&ResourceSpecifier::Topic(&spec.name), what).await
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

    /// `None` when there is no such topic, or it may not be seen.
    async fn shape(&self, name: &str) -> Result<Option<Shape>> {
        let name = name.to_owned();
        self.blocking(move |kafka| {
            let metadata = kafka.metadata(Some(&name))?;
            let shown = |topic: &&MetadataTopic| {
                topic.name() == name && topic.error().is_none() && !topic.partitions().is_empty()
            };
            Ok(metadata.topics().iter().find(shown).map(|topic| {
                let partitions = topic.partitions();
                Shape {
                    partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
                    fewest_replicas: partitions.iter().map(|each| each.replicas().len()).min().unwrap_or(0),
                    has_leaders: partitions.iter().all(|each| each.leader() >= 0),
                }
            }))
        })
        .await
    }

    async fn check_topic(&self, spec: &TopicSpec, what: &str, shape: &Shape) -> Result<()> {
        let mut problems = Problems::default();
        if let Some(expected) = spec.partitions {
            problems.check(shape.partitions == expected, || {
                format!("{what} has {} partitions, config expects {expected}", shape.partitions)
            });
        }
        if let Some(expected) = self.config.replication_factor {
            problems.check(i32::try_from(shape.fewest_replicas).is_ok_and(|count| count >= expected), || {
                format!("{what} has {} replicas, config expects {expected} or more", shape.fewest_replicas)
            });
        }
        self.check_settings(spec, what, &mut problems).await?;
        problems.into_result()
    }

    /// Looks at the settings only if any is asked for: the right to see them may be missing.
    async fn check_settings(&self, spec: &TopicSpec, what: &str, problems: &mut Problems) -> Result<()> {
        let compacted = spec.cleanup == Cleanup::Compact;
        let in_sync = self.config.min_insync_replicas;
        if !compacted && in_sync.is_none() {
            return Ok(());
        }
        let until = Instant::now() + TOLD;
        let settings = loop {
            match self.settings(spec, what).await? {
                Some(settings) => break settings,
                None if Instant::now() < until => tokio::time::sleep(LOOK).await,
                None => {
                    return Err(Error::new(
                        Kind::Denied,
                        format!("{what} does not tell its settings, DescribeConfigs must be allowed"),
                    ));
                }
            }
        };
        let setting = |name| value(&settings, name).unwrap_or_default();
        if compacted {
            let policy = setting("cleanup.policy");
            problems.check(policy.trim() == "compact", || {
                format!("{what} has cleanup.policy={policy}, expected compact alone")
            });
        }
        if let Some(expected) = in_sync {
            let in_sync = setting("min.insync.replicas");
            problems.check(in_sync.parse::<i32>().is_ok_and(|count| count >= expected), || {
                format!("{what} has min.insync.replicas={in_sync}, config expects {expected} or more")
            });
        }
        Ok(())
    }
}
