//! `checker`: watches and judges topics and tables from outside. `checker --help` tells all.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod cli;

use std::{
    fs, io,
    process::ExitCode,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use clap::Parser as _;
use cli::{Cli, HeaderArgs, JudgeArgs, Task, WatchArgs};
use tidelock_checker::{Identity, Watch, judge};
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error>;

/// Something is wrong with what was judged.
const WRONG: u8 = 1;
/// Nothing could be judged.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Watch(arguments) => watch(arguments),
        Task::Judge(arguments) => judgement(arguments),
        Task::Header(arguments) => {
            println!("{}", header(&arguments));
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|failure| {
        eprintln!("checker: {failure}");
        ExitCode::from(FAILED)
    })
}

fn judgement(arguments: JudgeArgs) -> Result<ExitCode, Failure> {
    let json = arguments.json.clone();
    let report = judge(&arguments.options())?;
    println!("{report}");
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if report.clean { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}

fn watch(arguments: WatchArgs) -> Result<ExitCode, Failure> {
    let (summary, detached) = (arguments.summary.clone(), arguments.detached);
    let (stop, stopped) = channel();
    await_signal(stop.clone())?;
    if !detached {
        thread::spawn(move || {
            io::copy(&mut io::stdin(), &mut io::sink()).ok();
            stop.send(()).ok();
        });
    }
    let watch = Watch::start(arguments.options())?;
    while !watch.has_failed() {
        use std::sync::mpsc::RecvTimeoutError;
        match stopped.recv_timeout(Duration::from_millis(100)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let seen = watch.finish()?;
    seen.write(&summary)?;
    for trace in &seen.traces {
        println!("{}[{}]: {} records to {}", trace.topic, trace.partition, trace.count, trace.position);
    }
    seen.backwards.iter().for_each(|text| println!("backwards: {text}"));
    seen.notes.iter().for_each(|text| println!("note: {text}"));
    Ok(ExitCode::SUCCESS)
}

/// Catches SIGTERM and Ctrl-C from here on.
fn await_signal(stop: Sender<()>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        io::Result::Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        stop.send(()).ok();
    });
    Ok(())
}

fn header(arguments: &HeaderArgs) -> String {
    let HeaderArgs { run, producer, seq, key_seq, txn, of, copy, at, key, payload } = arguments;
    let identity = Identity {
        run,
        producer: *producer,
        seq: *seq,
        key_seq: *key_seq,
        txn: *txn,
        of: *of,
        copy: *copy,
        at: *at,
    };
    identity.seal(key.as_deref().map(str::as_bytes), payload.as_deref().map(str::as_bytes))
}
