//! Real Kafka brokers and real PostgreSQL servers on this machine, for tests and for people, without containers.
//!
//! ```no_run
//! use tidelock_lab::Lab;
//!
//! let lab = Lab::builder().brokers(1).start()?;
//! println!("{} {}", lab.kafka_url(), lab.database_url());
//! lab.broker(0).kill()?; // as a power cut would
//! lab.broker(0).start()?; // the same port, the same data
//! # Ok::<(), tidelock_lab::Error>(())
//! ```
//!
//! - A [`Lab`] is its servers and its directory; several run side by side. [`Lab::shared`] is one for all tests of a
//!   test binary, and uses servers of the user's choice where the environment names some.
//! - A [`Server`] is killed, stopped, paused and started again; its CPU and its disk run short, its
//!   [`Clock`] goes wrong.
//! - A [`Proxy`](proxy::Proxy) in front of a server loses requests or answers at chosen points.
//! - A [`Cluster`] is its brokers together: who leads, who is in sync, and how to change that while they run.
//! - A [`Standby`] follows PostgreSQL and takes its place; a [`Backup`] takes it back in time.
//!
//! Nothing is left running or lying about: a watchdog ends the servers and removes the data however the process
//! ends, by return, panic, Ctrl-C or SIGKILL.
//!
//! The calls block. That is by choice: they work the same from threads and from inside any async runtime, where
//! they occupy the worker that makes them. A test whose own tasks must go on meanwhile makes them from
//! `tokio::task::spawn_blocking`.
//!
//! What must be installed: a Java runtime from 17 on, the PostgreSQL server, and, until the first start has fetched
//! Kafka's jars, Maven; libfaketime for clocks. `./check --install` installs them on Debian and Ubuntu.

mod builder;
mod clock;
mod cluster;
mod cpu;
mod disk;
mod error;
mod jars;
mod kafka;
mod lab;
mod port;
mod postgres;
mod process;
pub mod proxy;
mod server;
mod standby;
mod tools;
mod watchdog;

pub use builder::{Builder, root};
pub use clock::Clock;
pub use cluster::{Cluster, Partition, Right};
pub use cpu::{CpuLimit, Memory, limit_memory, memory};
pub use error::{Error, Result};
pub use jars::{KAFKA_VERSION, fetch};
pub use lab::Lab;
pub use server::Server;
pub use standby::{Backup, Standby};
