//! The lab does what it says, on real servers.

mod clock;
mod cluster;
mod machine;
mod network;
mod postgres;
mod rules;
mod servers;
mod standby;
mod teardown;
mod through_proxy;
mod wire;
