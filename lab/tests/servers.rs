//! Servers start, die, stop, pause and come back with their data.

use std::error::Error;
use std::time::{Duration, Instant};

use tidelock_lab::Lab;

use crate::postgres::Client;

type Outcome = Result<(), Box<dyn Error>>;

#[test]
fn a_lab_keeps_port_and_data_through_every_end() -> Outcome {
    let lab = Lab::builder().start()?;
    let (postgres, broker) = (lab.postgres(), lab.broker(0));
    let mut client = Client::connect(postgres.address())?;
    client.query("CREATE TABLE kept (n int)")?;
    for setting in ["fsync", "full_page_writes"] {
        assert_eq!(client.query(&format!("SHOW {setting}"))?, ["on"], "{setting}");
    }
    let mut ends = 0;
    for end in [tidelock_lab::Server::kill, tidelock_lab::Server::stop_immediate, tidelock_lab::Server::stop]
    {
        let mut client = Client::connect(postgres.address())?;
        client.query("INSERT INTO kept VALUES (1)")?;
        ends += 1;
        end(postgres)?;
        assert!(Client::connect(postgres.address()).is_err());
        assert_eq!(postgres.pid(), None);
        postgres.start()?;
        let rows = Client::connect(postgres.address())?.query("SELECT count(*) FROM kept")?;
        assert_eq!(rows, [ends.to_string()]);
    }
    let before = broker.pid();
    broker.kill()?;
    assert!(broker.wait_ready().is_err());
    broker.start()?;
    assert_ne!(broker.pid(), before);
    assert!(lab.directory().join("kafka-1/data/__cluster_metadata-0").exists());
    broker.stop()?;
    assert!(broker.stop().is_err(), "a server that does not run cannot be stopped");
    Ok(())
}

#[test]
fn a_paused_server_keeps_its_connections_and_answers_later() -> Outcome {
    let lab = Lab::builder().kafka(false).start()?;
    let mut client = Client::connect(lab.postgres().address())?;
    client.patience(Duration::from_millis(300))?;
    lab.postgres().pause()?;
    assert!(client.query("SELECT 1").is_err(), "an open session does not answer");
    client.patience(Duration::from_secs(20))?;
    lab.postgres().resume()?;
    lab.postgres().wait_ready()?;
    assert_eq!(client.query("SELECT 2")?, ["1"], "the answer that was due comes first");
    lab.postgres().pause()?;
    lab.postgres().stop()?;
    Ok(())
}

#[test]
fn labs_run_side_by_side() -> Outcome {
    let first = Lab::builder().kafka(false).start()?;
    let second = Lab::builder().kafka(false).start()?;
    assert_ne!(first.database_url(), second.database_url());
    Client::connect(first.postgres().address())?.query("CREATE TABLE mine (n int)")?;
    assert!(Client::connect(second.postgres().address())?.query("SELECT * FROM mine").is_err());
    let directory = first.directory().to_owned();
    drop(first);
    assert!(!directory.exists(), "a lab without a name leaves nothing");
    Client::connect(second.postgres().address())?;
    Ok(())
}

#[test]
fn a_name_keeps_the_data_for_the_next_start_and_excludes_a_second_lab() -> Outcome {
    let name = format!("kept-{}", std::process::id());
    let start = || Lab::builder().kafka(false).name(&name).start();
    let lab = start()?;
    Client::connect(lab.postgres().address())?.query("CREATE TABLE kept (n int)")?;
    assert!(matches!(start(), Err(tidelock_lab::Error::InUse { .. })));
    lab.stop()?;
    let lab = start()?;
    Client::connect(lab.postgres().address())?.query("SELECT * FROM kept")?;
    let directory = lab.directory().to_owned();
    drop(lab);
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

#[test]
fn three_brokers_survive_the_loss_of_one() -> Outcome {
    let lab = Lab::builder().brokers(3).postgres(false).start()?;
    assert_eq!(lab.kafka_url().split(',').count(), 3);
    lab.broker(2).kill()?;
    let start = Instant::now();
    lab.broker(0).wait_ready()?;
    lab.broker(2).start()?;
    assert!(start.elapsed() < Duration::from_secs(60));
    Ok(())
}

#[test]
fn four_brokers_are_refused() {
    assert!(matches!(Lab::builder().brokers(4).start(), Err(tidelock_lab::Error::Config(_))));
}
