//! What brokers must be able to do.

use std::time::Duration;

use rdkafka::{
    admin::{AdminOptions, ConfigResource, ResourceSpecifier},
    metadata::Metadata,
    util::Timeout,
};

use super::{Kafka, fault};
use crate::{
    config::Problems,
    error::{Error, Kind, Result},
};

/// Without it a late write of one transaction can hang outside of every transaction: loss.
const VERIFICATION: &str = "transaction.partition.verification.enable";

impl Kafka {
    pub(super) async fn check_brokers(&self) -> Result<()> {
        let brokers = self
            .blocking(|kafka| {
                let metadata = kafka.metadata(None)?;
                Ok(metadata
                    .brokers()
                    .iter()
                    .map(|broker| broker.id())
                    .collect::<Vec<_>>())
            })
            .await?;
        if brokers.is_empty() {
            return Err(Error::new(
                Kind::Unavailable,
                format!("no broker answers at {:?}", self.config.brokers),
            ));
        }
        let mut problems = Problems::default();
        for id in brokers {
            let settings = self
                .describe(&ResourceSpecifier::Broker(id), &format!("broker {id}"))
                .await?
                .ok_or_else(|| {
                    Error::new(
                        Kind::Unavailable,
                        format!("broker {id} does not tell its settings"),
                    )
                })?;
            self.check_broker(&format!("broker {id}"), &settings, &mut problems);
        }
        problems.into_result()
    }

    fn check_broker(&self, broker: &str, settings: &ConfigResource, problems: &mut Problems) {
        match value(settings, VERIFICATION) {
            Some("true") => {}
            Some(other) => problems.add(format!("{broker} has {VERIFICATION}={other}, expected true")),
            None => problems.add(format!(
                "{broker} does not know {VERIFICATION}: it must be Kafka 3.6 or later"
            )),
        }
        let mut limit = |setting: &str, ours: &str, value_of_ours: Duration, upper: bool| {
            let limit = value(settings, setting).and_then(|text| text.parse::<u64>().ok());
            let ours_ms = value_of_ours.as_millis() as u64;
            if let Some(limit) = limit {
                let fine = if upper { ours_ms <= limit } else { ours_ms >= limit };
                problems.check(fine, || {
                    format!("{broker} has {setting}={limit}, config has {ours} {value_of_ours:?}")
                });
            }
        };
        let config = &self.config;
        limit(
            "transaction.max.timeout.ms",
            "transaction_timeout",
            config.transaction_timeout,
            true,
        );
        limit(
            "group.max.session.timeout.ms",
            "session_timeout",
            config.session_timeout,
            true,
        );
        limit(
            "group.min.session.timeout.ms",
            "session_timeout",
            config.session_timeout,
            false,
        );
    }

    /// The settings of a broker or a topic; `None` when there is no such topic.
    pub(super) async fn describe(
        &self,
        resource: &ResourceSpecifier<'_>,
        what: &str,
    ) -> Result<Option<ConfigResource>> {
        use rdkafka::types::RDKafkaErrorCode as Code;
        let failed = |kind, cause: String| Error::caused(kind, format!("settings of {what}"), cause);
        let answer = self
            .admin
            .describe_configs([resource], &self.options())
            .await
            .map_err(|error| fault::failed(format!("settings of {what}"), error))?;
        match answer.into_iter().next() {
            Some(Ok(settings)) => Ok(Some(settings)),
            Some(Err(Code::UnknownTopicOrPartition | Code::UnknownTopic)) => Ok(None),
            Some(Err(code)) => Err(failed(fault::kind_of(code), code.to_string())),
            None => Err(failed(Kind::Unavailable, "no answer".to_owned())),
        }
    }

    pub(super) fn options(&self) -> AdminOptions {
        let timeout = Some(Timeout::After(self.config.query_timeout));
        AdminOptions::new()
            .request_timeout(timeout)
            .operation_timeout(timeout)
    }

    pub(super) fn metadata(&self, topic: Option<&str>) -> Result<Metadata> {
        self.admin
            .inner()
            .fetch_metadata(topic, self.config.query_timeout)
            .map_err(|error| {
                let what = match topic {
                    Some(topic) => format!("topic {topic:?}"),
                    None => format!("brokers at {:?}", self.config.brokers),
                };
                fault::failed(what, error)
            })
    }
}

pub(super) fn value<'a>(settings: &'a ConfigResource, name: &str) -> Option<&'a str> {
    settings.get(name)?.value.as_deref()
}
