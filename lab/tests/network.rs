//! The faults of a proxy's network, before real servers.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use tidelock_lab::Lab;
use tidelock_lab::proxy::request::METADATA;

use crate::postgres::Client;
use crate::wire::{NO_TOPIC, Wire};

type Outcome = Result<(), Box<dyn Error>>;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (call(), start.elapsed())
}

/// How many sessions the server has, this one aside.
fn sessions(client: &mut Client) -> std::io::Result<String> {
    let rows = client.query(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )?;
    Ok(rows.concat())
}

fn wait_for_sessions(client: &mut Client, count: &str) -> Outcome {
    let start = Instant::now();
    while sessions(client)? != count {
        assert!(start.elapsed() < LONG, "{} sessions, not {count}", sessions(client)?);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn a_narrow_network_is_slow_in_both_directions_and_wide_again_after() -> Outcome {
    let lab = Lab::builder().proxied(true).start()?;
    for (kafka, proxy) in [(true, lab.kafka_proxy(0)), (false, lab.postgres_proxy())] {
        let mut wire = Wire::connect(proxy.address())?;
        let mut client = (!kafka).then(|| Client::connect(proxy.address())).transpose()?;
        let mut call = || match &mut client {
            Some(client) => client.query("SELECT repeat('x', 400)").map(drop),
            None => wire.call(METADATA, 1, &NO_TOPIC).map(drop),
        };
        call()?;
        proxy.bandwidth(100);
        // 22 and more bytes there, 50 and more back.
        let (outcome, time) = timed(&mut call);
        outcome?;
        assert!(time >= Duration::from_millis(600), "{time:?}");
        proxy.restore();
        let (outcome, time) = timed(&mut call);
        outcome?;
        assert!(time < SHORT, "{time:?}");

        proxy.jitter(Duration::from_millis(50), Duration::from_millis(150), 3);
        let times: Vec<_> = (0..5).map(|_| timed(|| call().is_ok()).1).collect();
        assert!(times.iter().all(|time| *time >= Duration::from_millis(100)), "{times:?}");
        assert!(
            times.iter().max() > times.iter().min().map(|least| *least + Duration::from_millis(5)).as_ref()
        );
        proxy.restore();
    }
    Ok(())
}

#[test]
fn a_bandwidth_that_is_lifted_lets_go_what_waits() -> Outcome {
    let lab = Lab::builder().kafka(false).proxied(true).start()?;
    let proxy = lab.postgres_proxy();
    let mut client = Client::connect(proxy.address())?;
    proxy.bandwidth(1_000);
    let query = thread::spawn(move || client.query("SELECT repeat('x', 1000000)").is_ok());
    thread::sleep(SHORT);
    assert!(!query.is_finished());
    let ((), time) = timed(|| {
        proxy.restore();
        assert!(query.join().is_ok_and(|done| done));
    });
    assert!(time < LONG, "{time:?}");
    Ok(())
}

#[test]
fn half_open_connections_are_known_to_one_side_alone() -> Outcome {
    let lab = Lab::builder().kafka(false).proxied(true).start()?;
    let proxy = lab.postgres_proxy();
    let mut direct = Client::connect(lab.postgres().address())?;
    direct.query("CREATE TABLE held (n int); INSERT INTO held VALUES (1)")?;

    // The server's half is gone: the session ends, the client waits.
    let mut client = Client::connect(proxy.address())?;
    client.query("SELECT 1")?;
    proxy.lose_server_halves();
    wait_for_sessions(&mut direct, "0")?;
    client.patience(SHORT)?;
    let error = client.query("SELECT 2").err().ok_or("answered")?;
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it waits, it is not told");
    Client::connect(proxy.address())?.query("SELECT 3")?;
    proxy.restore();
    let error = client.query("SELECT 4").err().ok_or("answered")?;
    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "now it is told");
    wait_for_sessions(&mut direct, "0")?;

    // The client's half is gone: the session stays with its locks.
    let mut client = Client::connect(proxy.address())?;
    client.query("BEGIN; SELECT * FROM held FOR UPDATE")?;
    proxy.lose_client_halves();
    assert!(client.query("SELECT 5").is_err());
    let mut other = Client::connect(proxy.address())?;
    assert!(other.query("SELECT * FROM held FOR UPDATE NOWAIT").is_err());
    proxy.restore();
    wait_for_sessions(&mut direct, "1")?;
    other.query("SELECT * FROM held FOR UPDATE NOWAIT")?;
    drop(other);
    wait_for_sessions(&mut direct, "0")?;

    // A client that ends by itself, unnoticed.
    proxy.hide_client_ends();
    let mut client = Client::connect(proxy.address())?;
    client.query("BEGIN; SELECT * FROM held FOR UPDATE")?;
    drop(client);
    thread::sleep(SHORT);
    assert!(direct.query("SELECT * FROM held FOR UPDATE NOWAIT").is_err());
    proxy.restore();
    wait_for_sessions(&mut direct, "0")?;
    direct.query("SELECT * FROM held FOR UPDATE NOWAIT")?;
    Ok(())
}

#[test]
fn a_flapping_network_comes_and_goes_until_its_guard_drops() -> Outcome {
    let lab = Lab::builder().kafka(false).proxied(true).start()?;
    let proxy = lab.postgres_proxy();
    for by_restore in [false, true] {
        let flapping = proxy.flap(Duration::from_millis(100), Duration::from_millis(100));
        let (start, mut works, mut fails) = (Instant::now(), 0, 0);
        while (flapping.cuts() < 3 || works == 0 || fails == 0) && start.elapsed() < LONG {
            match Client::connect(proxy.address()).and_then(|mut client| client.query("SELECT 1")) {
                Ok(_) => works += 1,
                Err(_) => fails += 1,
            }
        }
        assert!(works > 0 && fails > 0, "{works} worked, {fails} failed");
        if by_restore {
            proxy.restore();
        }
        drop(flapping);
        let mut client = Client::connect(proxy.address())?;
        thread::sleep(SHORT);
        client.query("SELECT 1")?;
    }
    Ok(())
}

#[test]
fn another_server_can_take_the_place_of_the_one_behind() -> Outcome {
    let first = Lab::builder().kafka(false).proxied(true).start()?;
    let second = Lab::builder().kafka(false).start()?;
    let proxy = first.postgres_proxy();
    Client::connect(second.postgres().address())?.query("CREATE TABLE second (n int)")?;
    let mut client = Client::connect(proxy.address())?;
    proxy.retarget(second.postgres().address());
    assert!(client.query("SELECT 1").is_err());
    Client::connect(proxy.address())?.query("SELECT * FROM second")?;
    Ok(())
}
