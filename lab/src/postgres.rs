//! A PostgreSQL server: the binaries, the data directory, the unprivileged user, the command line.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, str};

use nix::sys::signal::Signal;
use nix::unistd::{User, chown, geteuid};

use crate::server::Spec;
use crate::{Error, Result, process};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Durable as in production: a lab that loses commits would prove nothing. No files outside the data directory
/// (sockets, shared memory), so that a killed server leaves none.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
dynamic_shared_memory_type = mmap
fsync = on
full_page_writes = on
wal_level = logical
max_prepared_transactions = 20
max_connections = 300
shared_buffers = 128MB
log_min_messages = warning
log_line_prefix = '%m [%p] '
";

/// Where the server's programs are: `TIDELOCK_LAB_PG_BIN`, or the newest of the usual places.
pub(crate) fn binaries() -> Result<PathBuf> {
    if let Some(chosen) = env::var_os("TIDELOCK_LAB_PG_BIN") {
        return Ok(chosen.into());
    }
    let versions = |root: &str, inner: &str| {
        let found =
            fs::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path().join(inner)));
        found.collect::<Vec<_>>()
    };
    let mut places = versions("/usr/lib/postgresql", "bin");
    places.extend(versions("/usr", "bin").into_iter().filter(|place| place.starts_with("/usr/pgsql")));
    places.extend(process::run(Command::new("pg_config").arg("--bindir")).map(|place| place.trim().into()));
    places.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut newest = None;
    for place in places.into_iter().filter(|place| place.join("initdb").is_file()) {
        let Ok(text) = process::run(Command::new(place.join("postgres")).arg("--version")) else {
            continue;
        };
        let digits = |word: &str| word.split('.').next()?.parse::<u32>().ok();
        let version = text.split_ascii_whitespace().find_map(digits).unwrap_or_default();
        if newest.as_ref().is_none_or(|(best, _)| version > *best) {
            newest = Some((version, place));
        }
    }
    newest.map(|(_, place)| place).ok_or(Error::Missing {
        what: "the PostgreSQL server (initdb)",
        hint: "install PostgreSQL, e.g. apt-get install postgresql, or name its directory in TIDELOCK_LAB_PG_BIN",
    })
}

/// Whom the server runs as: PostgreSQL refuses root.
pub(crate) fn user() -> Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok(Some((user.uid.as_raw(), user.gid.as_raw())));
        }
    }
    Err(Error::Config(
        "PostgreSQL does not run as root, and there is no user \"postgres\" or \"nobody\"".into(),
    ))
}

/// Whether the server's user can get at the directory: not when it is below another's home.
pub(crate) fn reachable(directory: &Path, (user, group): (u32, u32)) -> bool {
    let mut test = Command::new("test");
    test.arg("-x").arg(directory).current_dir("/").uid(user).gid(group);
    test.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Creates a directory of the server's user.
pub(crate) fn home(directory: &Path, user: Option<(u32, u32)>) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::io(format!("create {}", directory.display())))?;
    if let Some((user, group)) = user {
        chown(directory, Some(user.into()), Some(group.into())).map_err(|error| Error::Io {
            what: "give PostgreSQL its directory".into(),
            source: error.into(),
        })?;
    }
    Ok(())
}

/// Creates the data directory in `directory` if that is new, and returns what to start.
pub(crate) fn server(
    binaries: &Path,
    directory: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    settings: &[(String, String)],
) -> Result<Spec> {
    home(&directory, user)?;
    let data = directory.join("data");
    if !data.join("PG_VERSION").exists() {
        let mut create = Command::new(binaries.join("initdb"));
        create.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        create.current_dir(&directory).stdin(Stdio::null());
        if let Some((user, group)) = user {
            create.uid(user).gid(group);
        }
        process::run(&mut create)?;
        let config = data.join("postgresql.conf");
        let mut file =
            OpenOptions::new().append(true).open(&config).map_err(Error::io("open postgresql.conf"))?;
        file.write_all(SETTINGS.as_bytes()).map_err(Error::io("write postgresql.conf"))?;
        for (name, value) in settings {
            writeln!(file, "{name} = '{}'", value.replace('\'', "''"))
                .map_err(Error::io("write postgresql.conf"))?;
        }
    }
    let log = directory.join("console.log");
    Ok(Spec {
        name: "postgres".into(),
        program: binaries.join("postgres"),
        args: vec!["-D".into(), data.into(), "-p".into(), port.to_string().into()],
        directory,
        user,
        address: (Ipv4Addr::LOCALHOST, port).into(),
        log,
        stop: Signal::SIGINT,
        stop_immediate: Signal::SIGQUIT,
        clock: None,
        ready,
    })
}

fn ready(address: SocketAddr, _log: &str) -> std::result::Result<(), String> {
    log_in(address).map_err(|error| format!("no login: {error}"))
}

/// Logs in and out; a server that is still in recovery refuses.
fn log_in(address: SocketAddr) -> io::Result<()> {
    const WHO: &[u8] = b"user\0postgres\0database\0postgres\0\0";
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let length = u32::try_from(8 + WHO.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), &[0, 3, 0, 0], WHO].concat())?;
    let mut tag = [0];
    stream.read_exact(&mut tag)?;
    if tag != *b"R" {
        return Err(io::Error::other("refused"));
    }
    stream.write_all(b"X\0\0\0\x04")
}

#[cfg(test)]
mod tests {
    #[test]
    fn settings_never_trade_durability_for_speed() {
        assert!(super::SETTINGS.contains("fsync = on") && super::SETTINGS.contains("full_page_writes = on"));
    }
}
