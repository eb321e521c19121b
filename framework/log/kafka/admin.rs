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
                Ok(metadata.brokers().iter().map(|broker| broker.id()).collect::<Vec<_>>())
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
                        Kind::Config,
                        format!("broker {id} does not tell its settings, DescribeConfigs must be allowed"),
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
            None => {
                problems.add(format!("{broker} does not know {VERIFICATION}: it must be Kafka 3.6 or later"))
            }
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
        limit("transaction.max.timeout.ms", "transaction_timeout", config.transaction_timeout, true);
        limit("group.max.session.timeout.ms", "session_timeout", config.session_timeout, true);
        limit("group.min.session.timeout.ms", "session_timeout", config.session_timeout, false);
    }

    /// The settings of a broker or a topic; `None` when there is no such topic or we may not see them: rdkafka hides
    /// which, it shows no settings at all.
    pub(super) async fn describe(
        &self,
        resource: &ResourceSpecifier<'_>,
        what: &str,
    ) -> Result<Option<ConfigResource>> {
        let answer = self
            .admin
            .describe_configs([resource], &self.options())
            .await
            .map_err(|error| fault::failed(format!("settings of {what}"), error))?;
        match answer.into_iter().next() {
            Some(Ok(settings)) => Ok(Some(settings).filter(|settings| !settings.entries.is_empty())),
            Some(Err(code)) => {
                Err(Error::caused(fault::kind_of(code), format!("settings of {what}"), code.to_string()))
            }
            None => Ok(None),
        }
    }

    pub(super) fn options(&self) -> AdminOptions {
        let timeout = Some(Timeout::After(self.config.query_timeout));
        AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
    }

    pub(super) fn metadata(&self, topic: Option<&str>) -> Result<Metadata> {
        self.admin.inner().fetch_metadata(topic, self.config.query_timeout).map_err(|error| {
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

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;
    use crate::log::kafka::KafkaConfig;

    fn refusal(settings: &[(&str, &str)]) -> String {
        let kafka = Kafka::new(KafkaConfig { brokers: "127.0.0.1:1".to_owned(), ..KafkaConfig::default() })
            .expect("settings are fine");
        let entries = settings
            .iter()
            .map(|(name, value)| ConfigEntry {
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
                source: ConfigSource::Default,
                is_read_only: false,
                is_default: true,
                is_sensitive: false,
            })
            .collect();
        let settings = ConfigResource { specifier: OwnedResourceSpecifier::Broker(1), entries };
        let mut problems = Problems::default();
        kafka.check_broker("broker 1", &settings, &mut problems);
        problems.into_result().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn brokers_that_cannot_keep_the_promise_are_refused() {
        assert_eq!(refusal(&[(VERIFICATION, "true")]), "");
        assert_eq!(
            refusal(&[]),
            format!("broker 1 does not know {VERIFICATION}: it must be Kafka 3.6 or later")
        );
        assert_eq!(
            refusal(&[
                (VERIFICATION, "false"),
                ("transaction.max.timeout.ms", "5000"),
                ("group.min.session.timeout.ms", "30000")
            ]),
            format!(
                "broker 1 has {VERIFICATION}=false, expected true; broker 1 has transaction.max.timeout.ms=5000, \
                 config has transaction_timeout 15s; broker 1 has group.min.session.timeout.ms=30000, config has \
                 session_timeout 10s"
            )
        );
    }
}
