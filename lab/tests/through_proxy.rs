//! What the proxy loses, and when.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tidelock_lab::Lab;
use tidelock_lab::proxy::request;

use crate::postgres::Client;
use crate::wire::{NO_TOPIC, Wire};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn requests_and_answers_are_lost_at_the_chosen_point() -> Result<(), Box<dyn Error>> {
    let lab = Lab::builder().kafka(false).proxied(true).start()?;
    let proxy = lab.postgres_proxy();
    let through = || Client::connect(proxy.address());
    let mut direct = Client::connect(lab.postgres().address())?;
    direct.query("CREATE TABLE seen (n int)")?;
    let mut count = || direct.query("SELECT count(*) FROM seen");

    let mut client = through()?;
    client.query("BEGIN; INSERT INTO seen VALUES (1)")?;
    let trap = proxy.cut_after_request(request::postgres_commit, Duration::ZERO);
    assert!(!trap.sprung());
    assert!(client.query("COMMIT").is_err(), "the client never learns of its commit");
    assert!(trap.wait(LONG));
    assert_eq!(count()?, ["1"], "but it happened");

    let mut client = through()?;
    client.query("BEGIN; INSERT INTO seen VALUES (2)")?;
    let trap = proxy.cut_before_request(request::postgres_commit);
    assert!(client.query("COMMIT").is_err());
    assert!(trap.sprung());
    assert_eq!(count()?, ["1"], "and this one did not");

    let mut client = through()?;
    client.query("BEGIN; INSERT INTO seen VALUES (3)")?;
    let trap = proxy.hold_request(request::postgres_commit);
    let commit = thread::spawn(move || client.query("COMMIT").is_ok());
    assert!(trap.wait(LONG));
    assert_eq!(count()?, ["1"], "a held commit has not happened");
    trap.release();
    assert!(commit.join().is_ok_and(|committed| committed));
    assert_eq!(count()?, ["2"]);

    through()?.query("INSERT INTO seen VALUES (4)")?;
    assert_eq!(count()?, ["3"], "a trap springs once");
    Ok(())
}

#[test]
fn switches_act_on_open_connections_and_on_new_ones() -> Result<(), Box<dyn Error>> {
    let lab = Lab::builder().kafka(false).proxied(true).start()?;
    let proxy = lab.postgres_proxy();
    let mut client = Client::connect(proxy.address())?;
    assert_eq!(proxy.connections(), 1);

    proxy.delay(SHORT);
    let start = Instant::now();
    client.query("SELECT 1")?;
    assert!(start.elapsed() >= 2 * SHORT, "there and back");

    proxy.delay(Duration::ZERO);
    proxy.blackhole();
    client.patience(SHORT)?;
    assert!(client.query("SELECT 2").is_err());
    client.patience(LONG)?;
    proxy.restore();
    assert_eq!(client.query("SELECT 3")?, ["2"], "what was held arrives");

    let mut client = Client::connect(proxy.address())?;
    proxy.drop_answers();
    client.patience(SHORT)?;
    assert!(client.query("CREATE TABLE done (n int)").is_err());
    proxy.restore();
    assert!(client.query("SELECT 1").is_err(), "a connection that lost an answer is of no use");
    Client::connect(proxy.address())?.query("SELECT * FROM done")?;

    let mut client = Client::connect(proxy.address())?;
    proxy.cut();
    assert!(client.query("SELECT 1").is_err());
    assert!(Client::connect(proxy.address()).is_err());
    proxy.restore();
    Client::connect(proxy.address())?;
    Ok(())
}

#[test]
fn brokers_advertise_their_proxies_to_those_who_come_through_them() -> Result<(), Box<dyn Error>> {
    let lab = Lab::builder().postgres(false).proxied(true).start()?;
    let (direct, proxied) = (lab.broker(0).address(), lab.kafka_proxy(0).address());
    assert_ne!(direct, proxied);
    let advertised = |answer: Vec<u8>, port: u16| answer.windows(2).any(|bytes| bytes == port.to_be_bytes());
    assert!(advertised(metadata(direct)?, direct.port()));
    assert!(advertised(metadata(proxied)?, proxied.port()));

    let trap = lab.kafka_proxy(0).cut_after_request(request::kafka_key(3), Duration::ZERO);
    assert!(metadata(proxied).is_err());
    assert!(trap.sprung());
    metadata(proxied)?;
    Ok(())
}

fn metadata(address: SocketAddr) -> io::Result<Vec<u8>> {
    Wire::connect(address)?.call(request::METADATA, 1, &NO_TOPIC)
}
