//! Standbys and backups of a PostgreSQL server, and what is asked of it in SQL.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Lab, Result, Server, port, postgres, process};

const STREAMING_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A PostgreSQL server that follows another one. From [`Lab::add_standby`]. Dropping it ends it.
#[derive(Debug)]
pub struct Standby {
    server: Server,
}

/// What a PostgreSQL server held at a moment. From [`Lab::back_up`]; goes with the lab.
#[derive(Debug)]
pub struct Backup {
    data: PathBuf,
}

impl Standby {
    /// The server: to be killed, paused and asked as any other.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.server.stop_immediate().ok();
    }
}

impl Lab {
    /// Copies a PostgreSQL server and starts the copy, which follows it from then on. Synchronous: the server
    /// acknowledges no commit before the standby has it on disk, and none at all while there is no standby. Otherwise
    /// the standby lags behind, and what it lacks is lost when it is [promoted](Self::promote).
    pub fn add_standby(&self, of: &Server, synchronous: bool) -> Result<Standby> {
        let binaries = of.binaries()?;
        let (name, directory) = self.free_directory("standby")?;
        postgres::home(&directory, of.user())?;
        copy(of, &directory, &["--write-recovery-conf"])?;
        let mut spec = postgres::server(binaries, directory, of.user(), port::free()?, &[])?;
        spec.clock = of.own_clock().map(|_| self.new_clock(&name)).transpose()?;
        spec.name = name;
        let standby = Standby { server: Server::new(spec, Arc::clone(&self.watchdog)) };
        standby.server.start()?;
        let mut wanted = "streaming";
        if synchronous {
            of.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
            of.psql("SELECT pg_reload_conf()")?;
            wanted = "sync";
        }
        let start = Instant::now();
        loop {
            let states = of.psql("SELECT state, sync_state FROM pg_stat_replication")?;
            if states.contains(wanted) && (!synchronous || !states.contains("async")) {
                return Ok(standby);
            }
            if start.elapsed() >= STREAMING_WITHIN {
                let (server, seconds) = (standby.server.name().into(), STREAMING_WITHIN.as_secs());
                return Err(Error::TooSlow { server, goal: "streaming", seconds, reason: states });
            }
            thread::sleep(POLL);
        }
    }

    /// Makes a standby a server of its own and puts it behind the proxy, whose connections are reset. The server it
    /// followed is left as it is: kill it before, or there are two.
    pub fn promote(&self, standby: &Standby) -> Result<()> {
        standby.server.psql("SELECT pg_promote()")?;
        if let Some(proxy) = &self.postgres_proxy {
            proxy.retarget(standby.server.address());
        }
        Ok(())
    }

    /// Copies what a PostgreSQL server holds while it runs.
    pub fn back_up(&self, server: &Server) -> Result<Backup> {
        let (_, directory) = self.free_directory("backup")?;
        postgres::home(&directory, server.user())?;
        copy(server, &directory, &[])?;
        Ok(Backup { data: directory.join("data") })
    }

    /// Puts a PostgreSQL server back to where it was at a backup, and starts it: what was committed since is gone.
    pub fn restore(&self, server: &Server, backup: &Backup) -> Result<()> {
        server.binaries()?;
        if server.pid().is_some() {
            server.stop()?;
        }
        let data = server.directory().join("data");
        fs::remove_dir_all(&data).map_err(Error::io(format!("remove {}", data.display())))?;
        process::run(Command::new("cp").arg("-a").arg(&backup.data).arg(&data))?;
        server.start()
    }

    /// `standby-1` and where it shall be.
    fn free_directory(&self, name: &str) -> Result<(String, PathBuf)> {
        let names = (1..1_000).map(|number| format!("{name}-{number}"));
        let mut free = names.map(|name| (self.directory.join(&name), name));
        let found = free.find(|(directory, _)| !directory.exists());
        let (directory, name) =
            found.ok_or_else(|| Error::Config(format!("no name is left for a {name}")))?;
        Ok((name, directory))
    }
}

impl Server {
    /// Runs SQL on this PostgreSQL server, past the proxy, and returns its rows as lines of `a|b|c`. Costs a process.
    pub fn psql(&self, text: &str) -> Result<String> {
        let mut psql = Command::new(self.binaries()?.join("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text, "-d", &self.connection()]);
        process::run(&mut psql).map(|rows| rows.trim_end().into())
    }

    /// Ends the client sessions for which a condition on `pg_stat_activity` holds (`true`, `application_name = 'relay'`,
    /// `state = 'idle in transaction'`), as an administrator would; returns how many.
    pub fn terminate_backends(&self, filter: &str) -> Result<usize> {
        let count = self.psql(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND ({filter})"
        ))?;
        count.parse().map_err(|_| Error::Config(format!("{count:?} is no count of sessions")))
    }

    /// Where the programs of this PostgreSQL server are.
    pub(crate) fn binaries(&self) -> Result<&Path> {
        let program = self.program();
        let postgres = program.file_name().is_some_and(|name| name == "postgres");
        let found = program.parent().filter(|_| postgres);
        found.ok_or_else(|| Error::Config(format!("{} is no PostgreSQL server", self.name())))
    }

    fn connection(&self) -> String {
        let address = self.address();
        let (host, port) = (address.ip(), address.port());
        format!("host={host} port={port} user=postgres dbname=postgres connect_timeout=5")
    }
}

/// Copies the running server's data to `data` in a directory of its user's.
fn copy(server: &Server, directory: &Path, options: &[&str]) -> Result<()> {
    let mut copy = Command::new(server.binaries()?.join("pg_basebackup"));
    copy.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "-d", &server.connection()]);
    copy.args(options).arg("-D").arg(directory.join("data")).current_dir("/");
    if let Some((user, group)) = server.user() {
        copy.uid(user).gid(group);
    }
    process::run(&mut copy).map(drop)
}
