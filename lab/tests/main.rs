//! The lab does what it says, on real servers.

mod postgres;
mod servers;
mod teardown;
mod through_proxy;
