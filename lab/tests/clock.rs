//! A database and processes whose clocks go wrong.

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidelock_lab::{Clock, Lab};

type Outcome = Result<(), Box<dyn Error>>;

const HOUR: Duration = Duration::from_secs(3_600);

/// Waits until a clock that tells seconds is so many seconds ahead of this process's, give or take 10.
fn wait_for(ahead: i64, tell: impl Fn() -> Result<i64, Box<dyn Error>>) -> Outcome {
    let start = Instant::now();
    loop {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let seen = tell()? - now;
        if (seen - ahead).abs() <= 10 {
            return Ok(());
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{seen} s ahead, not {ahead} s");
    }
}

fn leftovers(pid: u32) -> bool {
    std::path::Path::new(&format!("/dev/shm/faketime_shm_{pid}")).exists()
}

#[test]
fn a_server_lives_on_through_jumps_of_its_clock() -> Outcome {
    let lab = Lab::builder().kafka(false).movable_clock(true).start()?;
    let server = lab.postgres();
    let tell = || Ok(server.psql("SELECT extract(epoch FROM clock_timestamp())::bigint")?.parse()?);
    wait_for(0, tell)?;
    server.clock()?.forward(HOUR)?;
    assert_eq!(server.clock()?.offset_ms(), 3_600_000);
    wait_for(3_600, tell)?;
    server.psql("CREATE TABLE later (n int)")?;
    server.clock()?.back(2 * HOUR)?;
    wait_for(-3_600, tell)?;
    server.psql("INSERT INTO later VALUES (1)")?;
    server.kill()?;
    server.start()?;
    wait_for(-3_600, tell)?;
    let standby = lab.add_standby(server, true)?;
    standby.server().clock()?.forward(HOUR)?;
    server.psql("INSERT INTO later VALUES (2)")?;
    server.clock()?.restore()?;
    wait_for(0, tell)?;
    assert_eq!(server.psql("SELECT count(*) FROM later")?, "2");
    let pids = [server.pid().ok_or("gone")?, standby.server().pid().ok_or("gone")?];
    drop(standby);
    drop(lab);
    assert!(!pids.into_iter().any(leftovers));
    Ok(())
}

#[test]
fn a_child_process_has_the_clock_of_its_variables() -> Outcome {
    let lab = Lab::builder().kafka(false).start()?;
    assert!(lab.postgres().clock().is_err(), "not built so");
    let clock = lab.new_clock("child")?;
    let tell = || {
        let date = Command::new("date").arg("+%s").envs(clock.variables()).output()?;
        Ok(String::from_utf8(date.stdout)?.trim().parse()?)
    };
    wait_for(0, tell)?;
    clock.forward(HOUR)?;
    wait_for(3_600, tell)?;
    let mut child = Command::new("sleep").arg("60").envs(clock.variables()).stdin(Stdio::null()).spawn()?;
    let start = Instant::now();
    while !leftovers(child.id()) && start.elapsed() < Duration::from_secs(10) {}
    child.kill()?;
    child.wait()?;
    assert!(leftovers(child.id()));
    Clock::sweep(child.id());
    assert!(!leftovers(child.id()));
    Ok(())
}
