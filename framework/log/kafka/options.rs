//! Settings of librdkafka that have no field of their own.

use std::{collections::BTreeMap, fmt};

use crate::config::{FromSetting, Problems};

/// Settings of librdkafka by name. Their values never appear in `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// What the protocol rests on, and what has a field of its own.
    const OURS: [&'static str; 37] = [
        "acks",
        "allow.auto.create.topics",
        "auto.commit.enable",
        "auto.offset.reset",
        "bootstrap.servers",
        "client.id",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "fetch.message.max.bytes",
        "fetch.queue.backoff.ms",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "heartbeat.interval.ms",
        "isolation.level",
        "linger.ms",
        "max.poll.interval.ms",
        "message.max.bytes",
        "message.timeout.ms",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "partitioner",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "queued.max.messages.kbytes",
        "request.required.acks",
        "retries",
        "retry.backoff.max.ms",
        "retry.backoff.ms",
        "session.timeout.ms",
        "socket.timeout.ms",
        "transaction.timeout.ms",
        "transactional.id",
    ];

    /// One more; a second value for a name replaces the first.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn report(&self, problems: &mut Problems) {
        for name in self.0.keys() {
            problems.check(!Self::OURS.contains(&name.as_str()), || {
                format!("kafka option {name} cannot be set: the protocol rests on it, or it has a setting of its own")
            });
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromSetting for Options {
    const SECRET: bool = true;

    fn from_setting(text: &str) -> Result<Self, String> {
        text.split(';')
            .filter(|each| !each.trim().is_empty())
            .map(|each| {
                let (name, value) = each.split_once('=').ok_or("name=value separated by ;")?;
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<_, &str>>()
            .map(Self)
            .map_err(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_are_ours_are_sorted() {
        assert!(Options::OURS.is_sorted());
    }

    #[test]
    fn options_are_read_from_one_variable() {
        let options = Options::from_setting("security.protocol=SASL_SSL; sasl.mechanisms=PLAIN;");
        assert_eq!(
            options,
            Ok(Options::default().with("security.protocol", "SASL_SSL").with("sasl.mechanisms", "PLAIN"))
        );
        assert!(Options::from_setting("x").is_err());
    }
}
