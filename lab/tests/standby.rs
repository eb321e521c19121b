//! A database that is followed, replaced, taken back in time, and whose sessions are ended.

use std::error::Error;
use std::thread;
use std::time::Duration;

use tidelock_lab::Lab;

use crate::postgres::Client;

type Outcome = Result<(), Box<dyn Error>>;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_standby_has_every_acknowledged_commit_and_takes_the_server_s_place() -> Outcome {
    let lab = Lab::builder().kafka(false).proxied(true).start()?;
    let proxy = lab.postgres_proxy();
    let mut client = Client::connect(proxy.address())?;
    client.query("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")?;
    let standby = lab.add_standby(lab.postgres(), true)?;
    assert_eq!(standby.server().psql("SELECT pg_is_in_recovery(), n FROM kept")?, "t|1");

    // Without its standby the server acknowledges nothing.
    standby.server().pause()?;
    let commit = thread::spawn(move || {
        client.query("INSERT INTO kept VALUES (2)").map(drop).map_err(|error| error.to_string())?;
        Ok::<_, String>(client)
    });
    thread::sleep(Duration::from_millis(300));
    assert!(!commit.is_finished());
    standby.server().resume()?;
    let mut client = commit.join().map_err(|_| "panicked")??;

    client.query("INSERT INTO kept SELECT generate_series(3, 100)")?;
    lab.postgres().kill()?;
    lab.promote(&standby)?;
    assert_eq!(proxy.target(), standby.server().address());
    assert!(client.query("SELECT 1").is_err());
    let mut client = Client::connect(proxy.address())?;
    assert_eq!(client.query("SELECT count(*) FROM kept")?, ["100"]);
    client.query("INSERT INTO kept VALUES (101)")?;

    // And has a standby itself.
    let next = lab.add_standby(standby.server(), false)?;
    assert_eq!(next.server().name(), "standby-2");
    let pid = next.server().pid();
    drop(next);
    assert!(pid.is_some_and(|pid| tidelock_lab::memory(pid).is_none()));
    Ok(())
}

#[test]
fn a_restored_server_is_where_its_backup_was_taken() -> Outcome {
    let lab = Lab::builder().kafka(false).start()?;
    let server = lab.postgres();
    server.psql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")?;
    let backup = lab.back_up(server)?;
    for _ in 0..2 {
        server.psql("INSERT INTO kept VALUES (2)")?;
        assert_eq!(server.psql("SELECT count(*) FROM kept")?, "2");
        lab.restore(server, &backup)?;
        assert_eq!(server.psql("SELECT n FROM kept")?, "1");
    }
    server.kill()?;
    lab.restore(server, &backup)?;
    assert_eq!(server.psql("SELECT n, 'x' FROM kept")?, "1|x");
    assert!(server.psql("SELECT * FROM nothing").is_err());
    Ok(())
}

#[test]
fn chosen_sessions_are_ended() -> Outcome {
    let lab = Lab::builder().kafka(false).start()?;
    let connect = || Client::connect(lab.postgres().address());
    let (mut idle, mut busy) = (connect()?, connect()?);
    busy.query("BEGIN")?;
    assert_eq!(lab.postgres().terminate_backends("state = 'idle in transaction'")?, 1);
    busy.patience(LONG)?;
    assert!(busy.query("COMMIT").is_err());
    idle.query("SELECT 1")?;
    assert_eq!(lab.postgres().terminate_backends("true")?, 1);
    assert!(idle.query("SELECT 1").is_err());
    assert!(lab.postgres().terminate_backends("nonsense").is_err());
    Ok(())
}
