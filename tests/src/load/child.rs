//! The processes that serve: a program that is started with a role as its first argument plays it.

use std::{error::Error, io::Read, path::PathBuf, process, thread, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use xero::Worker;

use super::{Porter, options::Options};
use crate::scene::show_logs;

/// Plays the role that the arguments name, and ends the process with it. Returns when they name none.
pub fn play() {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    if role != WORKER {
        return;
    }
    show_logs();
    thread::spawn(|| {
        // Nothing is ever said to it: this ends when the process that has started this one does.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(3);
    });
    if let Err(error) = try_playing(&role, arguments) {
        eprintln!("{error}");
        process::exit(2);
    }
    process::exit(0);
}

fn try_playing(_role: &str, arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let options = Options::read(arguments, &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(work(options))
}

/// Serves until SIGTERM, then drains.
async fn work(mut options: Options) -> Result<(), Box<dyn Error>> {
    let mut terminated = terminated()?;
    let journal: Option<PathBuf> = options.take("journal")?;
    let interval = Duration::from_millis(options.take("interval")?.unwrap_or(1000));
    let concurrency = options.take("concurrency")?.unwrap_or(64);
    let mut endpoints = options.end()?.into_iter();
    let first = endpoints.next().ok_or("a worker needs an endpoint")?;
    let settings = endpoints.fold(Worker::connect(first), |settings, endpoint| settings.connect(endpoint));
    let settings = settings.heartbeat_interval(interval).concurrency(concurrency).backoff(BACKOFF.0, BACKOFF.1);
    let settings = settings.drain_timeout(DRAIN).serve(Porter::noting(journal.as_deref())?);
    let worker = settings.start()?;
    println!("{STARTED}{}", worker.id());
    terminated.recv().await;
    worker.drain().await;
    println!("left");
    Ok(())
}

fn terminated() -> std::io::Result<Signal> {
    signal(SignalKind::terminate())
}

/// The role of a worker.
pub const WORKER: &str = "worker";

/// How a process begins to say that it serves; its id follows.
pub const STARTED: &str = "started ";

/// How long a drain may take here.
pub const DRAIN: Duration = Duration::from_secs(5);

/// The bounds of the wait between two dials: short, as in a run of seconds much is to come back.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
