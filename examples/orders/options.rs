//! The command line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, value_parser};
use tidelock::prelude::*;

use crate::roles::Role;

const EXAMPLES: &str = "Examples, any log with any database:
  orders --load 10000                                            no server at all
  orders --load 10000 --database postgres://me@localhost/shop    PostgreSQL, and the embedded log
  orders --load 10000 --kafka localhost:9092                     Kafka, and SQLite
  orders --kafka localhost:9092 --database postgres://...        both";
/// Stands for the server that is not there: the embedded log or SQLite takes its place.
const NOT_USED: &str = "postgres://not-used";
const CONNECTIONS_PER_SERVICE: u32 = 10;
/// Their numbers are kept in memory.
const MOST_ORDERS: u64 = 10_000_000;

/// Order -> inventory -> payment -> shipping, each service with its own tables, through Kafka or a log in this process.
#[derive(Debug, Parser)]
#[command(name = "orders", after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Kafka brokers, separated by commas [default: an embedded log in --data, for one process]
    #[arg(long, value_name = "HOST:PORT", env = "TIDELOCK_KAFKA_BROKERS")]
    pub(crate) kafka: Option<String>,

    /// PostgreSQL, postgres://user:password@host:port/database [default: SQLite in --data]
    #[arg(long, value_name = "URL", env = "TIDELOCK_DATABASE_URL", hide_env_values = true)]
    pub(crate) database: Option<String>,

    /// The folder of the embedded log and the SQLite database [default: target/orders/ and embedded, with-kafka or with-postgres]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The services of this process; several separated by commas
    #[arg(long = "role", value_enum, value_delimiter = ',', default_value = "all")]
    roles: Vec<Role>,

    /// A stable name: a restart under it takes over at once. No two running processes of a role may share one
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,

    /// Where to answer HTTP [default: 127.0.0.1:8080 where the order service runs without --load, else nowhere]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// Place N orders, wait until all are settled, verify, and exit with 1 if anything is off
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=MOST_ORDERS))]
    pub(crate) load: Option<u64>,

    /// Names the load: started again under the same name, it goes on until there are N orders in all
    #[arg(long, value_name = "NAME", default_value = "load")]
    pub(crate) load_id: String,

    /// How many orders of the load are placed at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = value_parser!(u32).range(1..=10_000))]
    writers: u32,

    /// How long the load may stand still before it is given up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = value_parser!(u64).range(1..=86_400))]
    patience: u64,

    /// Verify what is there, and nothing else
    #[arg(long, conflicts_with = "load")]
    pub(crate) verify_only: bool,
}

impl Options {
    /// A log and a database belong together: each form has a folder of its own.
    pub(crate) fn data(&self) -> PathBuf {
        let form = match (&self.kafka, &self.database) {
            (None, None) => "embedded",
            (Some(_), _) => "with-kafka",
            (None, Some(_)) => "with-postgres",
        };
        self.data.clone().unwrap_or_else(|| Path::new("target/orders").join(form))
    }

    pub(crate) fn writers(&self) -> usize {
        self.writers as usize
    }

    /// What the services run on, and whether that can work.
    pub(crate) fn form(&self) -> Result<String, String> {
        let data = self.data();
        let services = self.services();
        if self.kafka.is_none() && !services.contains(&Role::Orders) && self.load.is_some() {
            return Err("--load places orders: the role orders must be among --role".to_owned());
        }
        if self.kafka.is_none() && services.len() < Role::services(&[Role::All]).len() {
            return Err("the embedded log is for one process, and nobody else would run the other services: leave --role \
                        out, or name a Kafka with --kafka"
                .to_owned());
        }
        Ok(match (&self.kafka, &self.database) {
            (None, None) => format!("the embedded log and SQLite in {}", data.display()),
            (None, Some(_)) => format!("the embedded log in {} and PostgreSQL", data.display()),
            (Some(kafka), None) => format!("Kafka at {kafka} and SQLite in {}", data.display()),
            (Some(kafka), Some(_)) => format!("Kafka at {kafka} and PostgreSQL"),
        })
    }

    pub(crate) fn services(&self) -> Vec<Role> {
        Role::services(&self.roles)
    }

    pub(crate) fn listen(&self) -> Option<SocketAddr> {
        let public = self.services().contains(&Role::Orders) && self.load.is_none();
        self.listen.or_else(|| public.then(|| SocketAddr::from(([127, 0, 0, 1], 8080))))
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    /// The framework's settings: the environment's, with what the command line says.
    pub(crate) fn settings(&self) -> Result<Settings, BoxError> {
        let given = [("TIDELOCK_KAFKA_BROKERS", &self.kafka), ("TIDELOCK_DATABASE_URL", &self.database)];
        let given =
            given.map(|(name, value)| (name.to_owned(), value.as_deref().unwrap_or(NOT_USED).to_owned()));
        let mut settings = Settings::from_vars("TIDELOCK_", std::env::vars().chain(given))?;
        // While one partition has the shelf or the till, the others wait for it, each with a connection: enough must
        // be left for the other services of this process.
        let least = CONNECTIONS_PER_SERVICE * u32::try_from(self.services().len())?;
        settings.database.max_connections = settings.database.max_connections.max(least);
        if settings.relay.name.is_empty() {
            settings.relay.name = "orders".to_owned();
        }
        Ok(settings)
    }
}
