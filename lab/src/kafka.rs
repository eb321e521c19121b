//! A broker of Apache Kafka: its configuration, its data directory, its command line.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::server::Spec;
use crate::{Error, Result, process};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Everything that the brokers of one cluster agree on.
pub(crate) struct Cluster<'a> {
    pub(crate) java: &'a Path,
    pub(crate) jars: &'a Path,
    pub(crate) id: &'a str,
    pub(crate) ports: &'a [Ports],
    pub(crate) options: &'a [String],
    pub(crate) settings: &'a [(String, String)],
}

/// The ports of one broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) controller: u16,
    /// The listener behind the proxy, and the proxy's own port.
    pub(crate) proxied: Option<(u16, u16)>,
}

impl Cluster<'_> {
    /// Writes the configuration of broker `index` into `directory`, formats its data directory if that is new,
    /// and returns what to start.
    pub(crate) fn broker(&self, index: usize, directory: PathBuf) -> Result<Spec> {
        fs::create_dir_all(&directory).map_err(Error::io(format!("create {}", directory.display())))?;
        let config = directory.join("server.properties");
        let logging = directory.join("log4j2.properties");
        fs::write(&config, self.properties(index, &directory))
            .map_err(Error::io("write server.properties"))?;
        fs::write(&logging, include_str!("../kafka/log4j2.properties"))
            .map_err(Error::io("write log4j2.properties"))?;
        let classes = self.jars.join("*");
        let log = directory.join("server.log");
        if !directory.join("data/meta.properties").exists() {
            let mut format = Command::new(self.java);
            format
                .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp"])
                .arg(&classes);
            format.args(["kafka.tools.StorageTool", "format", "-t", self.id, "-c"]).arg(&config);
            process::run(&mut format)?;
        }
        let mut args: Vec<OsString> =
            ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData"].map(Into::into).to_vec();
        args.extend(self.options.iter().map(Into::into));
        args.push(format!("-Dtidelock.lab.log={}", log.display()).into());
        args.push(format!("-Dlog4j2.configurationFile={}", logging.display()).into());
        args.extend(["-cp".into(), classes.into_os_string(), "kafka.Kafka".into(), config.into_os_string()]);
        Ok(Spec {
            name: format!("kafka-{}", index + 1),
            program: self.java.to_owned(),
            args,
            directory,
            user: None,
            address: (Ipv4Addr::LOCALHOST, self.ports[index].client).into(),
            log,
            stop: Signal::SIGTERM,
            stop_immediate: Signal::SIGKILL,
            clock: None,
            ready,
        })
    }

    fn properties(&self, index: usize, directory: &Path) -> String {
        let Ports { client, controller, proxied } = self.ports[index];
        let replicas = self.ports.len();
        let in_sync = if replicas > 1 { 2 } else { 1 };
        let voters: Vec<_> =
            (1..).zip(self.ports).map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
        let mut listeners = format!("CLIENT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}");
        let mut advertised = format!("CLIENT://127.0.0.1:{client}");
        if let Some((listener, proxy)) = proxied {
            let _ = write!(listeners, ",PROXIED://127.0.0.1:{listener}");
            let _ = write!(advertised, ",PROXIED://127.0.0.1:{proxy}");
        }
        let mut text = include_str!("../kafka/server.properties").to_owned();
        let mut set = |name: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{name}={value}");
        };
        set("node.id", &(index + 1));
        set("log.dirs", &directory.join("data").display());
        set("controller.quorum.voters", &voters.join(","));
        set("listeners", &listeners);
        set("advertised.listeners", &advertised);
        set("default.replication.factor", &replicas);
        set("min.insync.replicas", &in_sync);
        set("offsets.topic.replication.factor", &replicas);
        set("transaction.state.log.replication.factor", &replicas);
        set("transaction.state.log.min.isr", &in_sync);
        set("share.coordinator.state.topic.replication.factor", &replicas);
        set("share.coordinator.state.topic.min.isr", &in_sync);
        for (name, value) in self.settings {
            set(name, value);
        }
        text
    }
}

/// The settings of brokers with an authorizer that allows what no rule is about. Until it has read its rules, which
/// takes a quorum, it forbids everything to all but super users: the controllers log in as one. Clients stay anonymous.
pub(crate) fn authorizer() -> Vec<(String, String)> {
    let settings = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
        ("listener.security.protocol.map", "CLIENT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"),
        ("sasl.mechanism.controller.protocol", "PLAIN"),
        ("listener.name.controller.sasl.enabled.mechanisms", "PLAIN"),
        (
            "listener.name.controller.plain.sasl.jaas.config",
            "org.apache.kafka.common.security.plain.PlainLoginModule required \
             username=\"lab\" password=\"lab\" user_lab=\"lab\";",
        ),
        ("super.users", "User:lab"),
    ];
    settings.map(|(name, value)| (name.into(), value.into())).to_vec()
}

/// A cluster id: 16 bytes in Kafka's unpadded base 64, all of whose letters are hexadecimal digits here.
pub(crate) fn new_cluster_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    // 22 letters of base 64 hold 132 bits: the last letter must end in four zero bits.
    format!("{:016x}{:05x}A", random(), random() & 0xf_ffff)
}

/// The log line says that the broker joined the cluster, the answer that it works (it could be paused).
fn ready(address: SocketAddr, log: &str) -> std::result::Result<(), String> {
    if !log.contains("Kafka Server started") {
        return Err("no \"Kafka Server started\" in its log yet".into());
    }
    api_versions(address).map_err(|error| format!("no answer to ApiVersions: {error}"))
}

fn api_versions(address: SocketAddr) -> io::Result<()> {
    // Key 18, version 0, correlation 1, no client id.
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(&REQUEST)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    match (&answer[4..8], &answer[8..]) {
        ([0, 0, 0, 1], [0, 0]) => Ok(()),
        _ => Err(io::Error::other("an error or another's answer")),
    }
}
