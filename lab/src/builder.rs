//! How a lab starts.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, process, thread};

use crate::kafka::{self, Cluster, Ports};
use crate::proxy::{Framing, Proxy};
use crate::watchdog::Watchdog;
use crate::{Error, Lab, Result, Server, jars, port, postgres};

/// Ports are tested, released and only then taken by the servers.
const ATTEMPTS: usize = 3;

/// What a lab is to be. From [`Lab::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing runs before start()"]
pub struct Builder {
    brokers: usize,
    kafka: bool,
    postgres: bool,
    proxied: bool,
    authorizer: bool,
    movable_clock: bool,
    name: Option<String>,
    data_dir: Option<PathBuf>,
    java_options: Vec<String>,
    kafka_settings: Vec<(String, String)>,
    postgres_settings: Vec<(String, String)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            brokers: 1,
            kafka: true,
            postgres: true,
            proxied: false,
            authorizer: false,
            movable_clock: false,
            name: None,
            data_dir: None,
            java_options: Vec::new(),
            kafka_settings: Vec::new(),
            postgres_settings: Vec::new(),
        }
    }
}

impl Builder {
    /// How many brokers: 1, or 3 with replication factor 3 and two in-sync replicas to acknowledge. Defaults to 1.
    pub fn brokers(mut self, count: usize) -> Self {
        self.brokers = count;
        self
    }

    /// Whether there is Kafka at all. Defaults to true.
    pub fn kafka(mut self, wanted: bool) -> Self {
        self.kafka = wanted;
        self
    }

    /// Whether there is PostgreSQL. Defaults to true.
    pub fn postgres(mut self, wanted: bool) -> Self {
        self.postgres = wanted;
        self
    }

    /// Whether a [`Proxy`] stands before every server, for the clients that use the proxied URLs. Defaults to false.
    pub fn proxied(mut self, wanted: bool) -> Self {
        self.proxied = wanted;
        self
    }

    /// A name keeps the data from one start to the next; the ports change. Defaults to none: data that goes with
    /// the lab.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the brokers ask an authorizer, which allows everything until
    /// [`Cluster::deny`](crate::Cluster::deny). Defaults to false.
    pub fn authorizer(mut self, wanted: bool) -> Self {
        self.authorizer = wanted;
        self
    }

    /// An option of every broker's Java, as in `-XX:TieredStopAtLevel=1`: brokers that are restarted again and again spend
    /// more on compiling well than they save by it.
    pub fn java_option(mut self, option: impl Into<String>) -> Self {
        self.java_options.push(option.into());
        self
    }

    /// Whether PostgreSQL, standbys included, has a [clock of its own](Server::clock). Defaults to false.
    pub fn movable_clock(mut self, wanted: bool) -> Self {
        self.movable_clock = wanted;
        self
    }

    /// The directory below which this lab makes its own. Defaults to [`root`].
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(directory.into());
        self
    }

    /// A line for every broker's `server.properties`, last and so stronger than the lab's own. Defaults to none.
    pub fn kafka_setting(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.kafka_settings.push((name.into(), value.to_string()));
        self
    }

    /// A line for `postgresql.conf`, last and so stronger than the lab's own. Defaults to none.
    pub fn postgres_setting(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.postgres_settings.push((name.into(), value.to_string()));
        self
    }

    /// Starts the servers and waits until they serve.
    pub fn start(self) -> Result<Lab> {
        if self.kafka && !matches!(self.brokers, 1 | 3) {
            return Err(Error::Config(format!("a lab has 1 or 3 brokers, not {}", self.brokers)));
        }
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.contains(['/', '.', '\n'])) {
            return Err(Error::Config(format!("{:?} is no name for a lab", self.name.unwrap_or_default())));
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.attempt() {
                Err(error) if error.port_was_taken() => last = Some(error),
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(|| Error::Config("not started".into())))
    }

    fn attempt(&self) -> Result<Lab> {
        let postgres = if self.postgres { Some((postgres::binaries()?, postgres::user()?)) } else { None };
        let java = if self.kafka { Some((jars::java()?, jars::fetch(&root())?)) } else { None };
        let directory = self.directory(postgres.as_ref().and_then(|(_, user)| *user))?;
        let lock = self.name.is_some().then(|| lock(&directory)).transpose()?;
        let watchdog = Arc::new(Watchdog::start(if self.name.is_none() { Some(&directory) } else { None })?);
        let mut lab = Lab {
            directory,
            brokers: Vec::new(),
            kafka_proxies: Vec::new(),
            postgres: None,
            postgres_proxy: None,
            foreign_kafka: None,
            foreign_database: None,
            watchdog,
            _lock: lock,
        };
        // From here on an error drops the lab, which ends what runs already.
        if let Some((binaries, user)) = postgres {
            let settings = &self.postgres_settings;
            let mut spec =
                postgres::server(&binaries, lab.directory.join("postgres"), user, port::free()?, settings)?;
            spec.clock = self.movable_clock.then(|| lab.new_clock(&spec.name)).transpose()?;
            if self.proxied {
                lab.postgres_proxy = Some(Proxy::start_framed(spec.address, Framing::Postgres)?);
            }
            let server = lab.postgres.insert(Server::new(spec, Arc::clone(&lab.watchdog)));
            server.launch()?;
        }
        if let Some((java, jars)) = java {
            self.launch_brokers(&mut lab, &java, &jars)?;
        }
        lab.servers().try_for_each(Server::wait_ready)?;
        Ok(lab)
    }

    fn launch_brokers(&self, lab: &mut Lab, java: &Path, jars: &Path) -> Result<()> {
        let mut ports = Vec::new();
        for _ in 0..self.brokers {
            let proxied = if self.proxied {
                let listener = port::free()?;
                let proxy = Proxy::start_framed((Ipv4Addr::LOCALHOST, listener).into(), Framing::Kafka)?;
                let pair = (listener, proxy.address().port());
                lab.kafka_proxies.push(proxy);
                Some(pair)
            } else {
                None
            };
            ports.push(Ports { client: port::free()?, controller: port::free()?, proxied });
        }
        let id = kafka::new_cluster_id();
        let mut settings = if self.authorizer { kafka::authorizer() } else { Vec::new() };
        settings.extend_from_slice(&self.kafka_settings);
        let options = &self.java_options;
        let cluster = Cluster { java, jars, id: &id, ports: &ports, options, settings: &settings };
        let directory = |index| lab.directory.join(format!("kafka-{}", index + 1));
        // Formatting takes a JVM per broker: side by side.
        let specs: Vec<_> = thread::scope(|scope| {
            let cluster = &cluster;
            let threads: Vec<_> = (0..self.brokers)
                .map(|index| (index, directory(index)))
                .map(|(index, directory)| scope.spawn(move || cluster.broker(index, directory)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for spec in specs {
            let server = Server::new(spec?, Arc::clone(&lab.watchdog));
            server.launch()?;
            lab.brokers.push(server);
        }
        Ok(())
    }

    /// Creates the lab's directory, where the user that PostgreSQL runs as can reach it.
    fn directory(&self, user: Option<(u32, u32)>) -> Result<PathBuf> {
        let random = || format!("{}-{:08x}", process::id(), RandomState::new().build_hasher().finish() >> 32);
        let name = self.name.clone().unwrap_or_else(random);
        let directory = self.data_dir.clone().unwrap_or_else(root).join(&name);
        create(&directory)?;
        let directory =
            directory.canonicalize().map_err(Error::io(format!("find {}", directory.display())))?;
        let Some(user) = user else { return Ok(directory) };
        if postgres::reachable(&directory, user) {
            return Ok(directory);
        }
        fs::remove_dir(&directory).ok();
        let elsewhere = env::temp_dir().join("tidelock-lab").join(&name);
        create(&elsewhere)?;
        if postgres::reachable(&elsewhere, user) {
            return Ok(elsewhere);
        }
        Err(Error::Config(format!(
            "user {} can enter neither {} nor {}: give the lab another data directory",
            user.0,
            directory.display(),
            elsewhere.display()
        )))
    }
}

/// Where labs live unless told otherwise, and where the jars are: `TIDELOCK_LAB_DIR`, else `lab` in
/// `CARGO_TARGET_DIR` or in the workspace's `target`. A lab whose PostgreSQL cannot reach it (root's home, for
/// the user `postgres`) lives in `tidelock-lab` in the temporary directory instead; [`Lab::directory`] tells.
pub fn root() -> PathBuf {
    if let Some(chosen) = env::var_os("TIDELOCK_LAB_DIR") {
        return chosen.into();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|target| target.is_absolute());
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target")).join("lab")
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::io(format!("create {}", directory.display())))
}

fn lock(directory: &Path) -> Result<File> {
    let file = File::create(directory.join("lab.lock")).map_err(Error::io("create lab.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::InUse { directory: directory.to_owned() }),
    }
}
