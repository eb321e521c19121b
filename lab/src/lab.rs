//! A running lab.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::proxy::Proxy;
use crate::watchdog::Watchdog;
use crate::{Builder, Result, Server};

/// Names Kafka brokers that [`Lab::shared`] uses instead of its own.
const KAFKA: &str = "TIDELOCK_TEST_KAFKA";
/// Names a database that [`Lab::shared`] uses instead of its own.
const POSTGRES: &str = "TIDELOCK_TEST_POSTGRES";

/// Servers that run together, in a directory of their own. Dropping it ends them, and removes the directory unless
/// the lab has a [name](Builder::name).
#[derive(Debug)]
pub struct Lab {
    pub(crate) directory: PathBuf,
    pub(crate) brokers: Vec<Server>,
    pub(crate) kafka_proxies: Vec<Proxy>,
    pub(crate) postgres: Option<Server>,
    pub(crate) postgres_proxy: Option<Proxy>,
    pub(crate) foreign_kafka: Option<String>,
    pub(crate) foreign_database: Option<String>,
    pub(crate) watchdog: Arc<Watchdog>,
    /// Held while a lab with a name runs.
    pub(crate) _lock: Option<File>,
}

impl Lab {
    /// A lab of one broker and one database, to be changed and started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The lab that all tests of this process share: one broker and one database, started by the first caller.
    ///
    /// Servers that `TIDELOCK_TEST_KAFKA` (brokers) or `TIDELOCK_TEST_POSTGRES` (a URL) name are used instead of
    /// starting them; they cannot be killed, so a test that kills starts a lab of its own.
    ///
    /// # Panics
    ///
    /// With the reason, when a server does not start: no test of the process could go on.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Lab> = OnceLock::new();
        SHARED.get_or_init(|| {
            let named = |variable| env::var(variable).ok().filter(|value| !value.is_empty());
            let (kafka, database) = (named(KAFKA), named(POSTGRES));
            let builder = Self::builder().kafka(kafka.is_none()).postgres(database.is_none());
            match builder.start() {
                Ok(mut lab) => {
                    lab.foreign_kafka = kafka;
                    lab.foreign_database = database;
                    lab
                }
                Err(error) => panic!("the shared lab does not start: {error}"),
            }
        })
    }

    /// `127.0.0.1:port[,…]`, for `bootstrap.servers`.
    pub fn kafka_url(&self) -> String {
        let own =
            || self.brokers.iter().map(|broker| broker.address().to_string()).collect::<Vec<_>>().join(",");
        self.foreign_kafka.clone().unwrap_or_else(own)
    }

    /// The brokers by way of their proxies, also after the clients learned the brokers' addresses.
    pub fn proxied_kafka_url(&self) -> String {
        self.kafka_proxies.iter().map(|proxy| proxy.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// `postgres://…` of a superuser; the database is empty at first.
    pub fn database_url(&self) -> String {
        let own = || self.postgres.as_ref().map(|server| database_url(server.address())).unwrap_or_default();
        self.foreign_database.clone().unwrap_or_else(own)
    }

    /// The same database by way of the proxy.
    pub fn proxied_database_url(&self) -> String {
        self.postgres_proxy.as_ref().map(|proxy| database_url(proxy.address())).unwrap_or_default()
    }

    /// The brokers of this lab; none when it uses foreign ones.
    pub fn brokers(&self) -> &[Server] {
        &self.brokers
    }

    /// A broker, counted from 0.
    ///
    /// # Panics
    ///
    /// When the lab has no such broker.
    #[track_caller]
    pub fn broker(&self, index: usize) -> &Server {
        &self.brokers[index]
    }

    /// The PostgreSQL server.
    ///
    /// # Panics
    ///
    /// When the lab has none.
    #[track_caller]
    pub fn postgres(&self) -> &Server {
        self.postgres.as_ref().expect("the lab was built without PostgreSQL")
    }

    /// The proxy before a broker, counted from 0.
    ///
    /// # Panics
    ///
    /// When the lab was not built [proxied](Builder::proxied) or has no such broker.
    #[track_caller]
    pub fn kafka_proxy(&self, index: usize) -> &Proxy {
        &self.kafka_proxies[index]
    }

    /// The proxy before PostgreSQL.
    ///
    /// # Panics
    ///
    /// When the lab was not built [proxied](Builder::proxied) or has no PostgreSQL.
    #[track_caller]
    pub fn postgres_proxy(&self) -> &Proxy {
        self.postgres_proxy.as_ref().expect("the lab was built without proxies")
    }

    /// Data, configuration and logs of all servers.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All servers of this lab.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.brokers.iter().chain(&self.postgres)
    }

    /// Stops every server cleanly, then drops the lab. A plain drop is faster: it does not ask them nicely.
    pub fn stop(self) -> Result<()> {
        self.servers().filter(|server| server.pid().is_some()).try_for_each(Server::stop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for server in self.brokers.iter().chain(&self.postgres) {
            server.stop_immediate().ok();
        }
        self.watchdog.close();
    }
}

fn database_url(address: std::net::SocketAddr) -> String {
    format!("postgres://postgres@{address}/postgres")
}
