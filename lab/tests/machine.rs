//! A machine that is short of CPU or disk.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use tidelock_lab::{CpuLimit, Lab, Server, memory};

use crate::postgres::Client;
use crate::wire::Wire;

type Outcome = Result<(), Box<dyn Error>>;

/// Time on a CPU, of the process alone.
fn used(pid: u32) -> Result<Duration, Box<dyn Error>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    Ok(Duration::from_nanos(text.split(' ').next().ok_or("empty")?.parse()?))
}

#[test]
fn a_process_gets_its_share_of_a_cpu_and_then_all_of_it() -> Outcome {
    let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?;
    let pid = child.id();
    let share = |seconds| -> Result<f64, Box<dyn Error>> {
        let (before, start) = (used(pid)?, Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        Ok((used(pid)? - before).as_secs_f64() / start.elapsed().as_secs_f64())
    };
    let limit = CpuLimit::new(pid, 0.05)?;
    let limited = share(2)?;
    drop(limit);
    let free = share(1)?;
    let memory = memory(pid).ok_or("no such process")?;
    child.kill()?;
    child.wait()?;
    // A busy machine wakes the one that limits late.
    assert!(limited < 0.25 && limited < free, "{limited} of a CPU, then {free}");
    assert!(memory.now > 100_000 && memory.peak >= memory.now, "{memory:?}");
    assert!(tidelock_lab::memory(pid).is_none());
    assert!(CpuLimit::new(pid, 0.5).is_err() && CpuLimit::new(std::process::id(), 2.0).is_err());
    Ok(())
}

#[test]
fn a_slow_server_serves_and_can_be_stopped() -> Outcome {
    let lab = Lab::builder().kafka(false).start()?;
    let limit = lab.postgres().limit_cpu(0.05)?;
    let mut client = Client::connect(lab.postgres().address())?;
    assert_eq!(client.query("SELECT count(*) FROM generate_series(1, 1000)")?, ["1000"]);
    assert!(lab.postgres().memory().is_some_and(|memory| memory.now > 1_000_000));
    lab.postgres().stop()?;
    assert!(lab.postgres().limit_cpu(0.5).is_err());
    lab.postgres().start()?;
    drop(limit);
    Ok(())
}

#[test]
fn a_table_cannot_grow_on_a_full_disk() -> Outcome {
    let lab = Lab::builder().kafka(false).start()?;
    let postgres = lab.postgres();
    let mut client = Client::connect(postgres.address())?;
    client.query("CREATE TABLE big (n int, filling text)")?;
    let fill = "INSERT INTO big SELECT n, repeat('x', 1000) FROM generate_series(1, 40000) n";
    postgres.limit_file_size(Some(17 << 20))?;
    let mut newer = Client::connect(postgres.address())?;
    for client in [&mut client, &mut newer] {
        let error = client.query(fill).err().ok_or("it grew")?.to_string();
        assert!(error.contains("could not extend file"), "{error}");
        assert_eq!(client.query("SELECT count(*) FROM big")?, ["0"]);
        client.query("INSERT INTO big VALUES (0, '')")?;
        client.query("DELETE FROM big")?;
    }
    postgres.limit_file_size(None)?;
    newer.query(fill)?;
    assert_eq!(client.query("SELECT count(*) FROM big")?, ["40000"]);

    // No place for the log of transactions.
    postgres.limit_file_size(Some(4 << 20))?;
    newer.query(fill).err().ok_or("no panic")?;
    wait_for_the_end(postgres);
    assert!(postgres.limit_file_size(None).is_err(), "there is no process to limit");
    postgres.start()?;
    let mut client = Client::connect(postgres.address())?;
    assert_eq!(client.query("SELECT count(*) FROM big")?, ["40000"]);
    client.query(fill)?;
    Ok(())
}

#[test]
fn a_broker_halts_on_a_full_disk_and_comes_back_with_its_data() -> Outcome {
    let lab = Lab::builder().postgres(false).start()?;
    let broker = lab.broker(0);
    let mut wire = Wire::connect(broker.address())?;
    wire.create_topic("in", 1, 1)?;
    broker.limit_file_size(Some(1 << 10))?;
    wait_for_the_end(broker);
    broker.start()?;
    assert_eq!(lab.cluster().describe("in")?.len(), 1);
    Wire::connect(broker.address())?.create_topic("more", 1, 1)?;
    Ok(())
}

fn wait_for_the_end(server: &Server) {
    let start = Instant::now();
    while server.pid().is_some() {
        assert!(start.elapsed() < Duration::from_secs(30), "{} lives", server.name());
        std::thread::sleep(Duration::from_millis(20));
    }
}
