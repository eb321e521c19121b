//! All settings together: plain structs with `Default`, from code or from the environment.

use crate::{
    config::{Fields, Problems},
    database::postgres::PostgresConfig,
    error::Result,
    log::kafka::KafkaConfig,
    processor::ProcessorConfig,
    relay::RelayConfig,
};

/// Everything that can be set, each part also usable alone.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How to reach Kafka, and what to demand of it: `PREFIX_KAFKA_*`.
    pub kafka: KafkaConfig,
    /// How to reach PostgreSQL: `PREFIX_DATABASE_*`.
    pub database: PostgresConfig,
    /// The relay: `PREFIX_RELAY_*`.
    pub relay: RelayConfig,
    /// Defaults for every processor: `PREFIX_PROCESSOR_*`.
    pub processor: ProcessorConfig,
}

impl Settings {
    /// Reads variables that begin with `prefix`, for example `TIDELOCK_`: `TIDELOCK_KAFKA_BROKERS`,
    /// `TIDELOCK_DATABASE_URL`, `TIDELOCK_RELAY_SHARDS`. The part after it is the field's path in capitals; durations
    /// read as `250ms`, `15s`, `1h 30m`. Variables of the tests (`TIDELOCK_TEST_*`, `TIDELOCK_LAB_*`,
    /// `TIDELOCK_FAILPOINTS`, `TIDELOCK_VARIANTS`) are passed over.
    ///
    /// # Errors
    /// Kind `Config`, naming at once every unknown variable, every value that cannot be read, and every value that
    /// [`validate`](Self::validate) refuses.
    pub fn from_env(prefix: &str) -> Result<Self> {
        Self::from_vars(prefix, std::env::vars())
    }

    /// [`from_env`](Self::from_env) with the variables given.
    ///
    /// # Errors
    /// As `from_env`.
    pub fn from_vars(prefix: &str, vars: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        const OURS: [&str; 4] = ["TEST_", "LAB_", "FAILPOINTS", "VARIANTS"];
        let values = vars
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value)))
            .filter(|(name, _)| !OURS.iter().any(|ours| name.starts_with(ours)))
            .collect();
        let mut fields = Fields::new(prefix, values);
        let mut settings = Self::default();
        fields.part("KAFKA", |fields| settings.kafka.read(fields));
        fields.part("DATABASE", |fields| settings.database.read(fields));
        fields.part("RELAY", |fields| settings.relay.read(fields));
        fields.part("PROCESSOR", |fields| settings.processor.read(fields));
        let mut problems = fields.finish();
        settings.report(&mut problems);
        problems.into_result()?;
        Ok(settings)
    }

    /// # Errors
    /// Kind `Config`, naming every problem of every part.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Problems::default();
        self.report(&mut problems);
        problems.into_result()
    }

    fn report(&self, problems: &mut Problems) {
        self.kafka.report(problems);
        self.database.report(problems);
        self.relay.report(problems);
        self.processor.report(problems);
    }
}
