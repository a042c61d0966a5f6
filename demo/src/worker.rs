//! `demo-worker`: serves the demo's service until it is stopped.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
};

use clap::Args;
use tokio::sync::oneshot;
use tracing::{info, level_filters::LevelFilter};
use tracing_subscriber::EnvFilter;
use xero::Worker;

use crate::{Here, check_reachable, report::complain, signals::Signals, whole};

/// The command line of `demo-worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerOptions {
    /// Where the clients or brokers are, such as tcp://127.0.0.1:5550. They need not be there yet.
    #[arg(value_name = "ENDPOINT", required = true)]
    endpoints: Vec<String>,
    /// How many calls run at once [default: 32 for each CPU, and at least 256]
    #[arg(long, value_name = "N", value_parser = concurrency)]
    concurrency: Option<u32>,
    /// Stop when standard input ends, so that no worker outlives the program that started it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// The rest of the help.
pub const HELP: &str = "\
Exit codes:
    0  it was stopped, and all running calls have ended
    2  the command line was wrong, or names what is no endpoint to connect to
  130  a second signal, 300 ms or later after the first, cut it short

Examples, for a client that binds, and for two brokers:
    demo-worker tcp://127.0.0.1:5550
    demo-worker tcp://broker-1:5561 tcp://broker-2:5561";

/// Exit code for a wrong command line, or an endpoint that is malformed or cannot be bound.
pub(crate) const USAGE: u8 = 2;

/// Serves until SIGINT, SIGTERM or the end of standard input, then finishes running calls.
///
/// The exit code is 0 after that, 2 when it could not start, 130 when a second signal cut it short.
pub async fn serve(options: WorkerOptions) -> ExitCode {
    log(LevelFilter::INFO);
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot handle signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let worker = match start(&options) {
        Ok(worker) => worker,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    announce(&worker, &options.endpoints);
    tokio::select! {
        () = signals.first() => info!("stopping: finishing running calls; signal again to stop at once"),
        () = stdin_ends(options.until_stdin_ends) => info!("standard input has ended: finishing running calls"),
    }
    worker.drain().await;
    info!("stopped");
    ExitCode::SUCCESS
}

/// Logs to standard error, from this level on, unless `RUST_LOG` says otherwise.
pub fn log(level: LevelFilter) {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    // A second subscriber of one process is refused and the first stays, so nothing is lost.
    let _ = subscriber.with_ansi(io::stderr().is_terminal()).try_init();
}

fn start(options: &WorkerOptions) -> Result<Worker, String> {
    options.endpoints.iter().try_for_each(|endpoint| check_reachable(endpoint))?;
    let mut builder = Worker::connect(&options.endpoints).serve(Here);
    if let Some(calls) = options.concurrency {
        builder = builder.concurrency(calls);
    }
    builder.start().map_err(|error| error.to_string())
}

fn concurrency(text: &str) -> Result<u32, String> {
    whole(text, 1..=u32::MAX.into())
}

/// The one line on standard output, for people and for scripts that want the id.
fn announce(worker: &Worker, endpoints: &[String]) {
    // A missing reader is no reason not to serve.
    let _ = writeln!(io::stdout(), "worker {} serves Demo, connecting to {}", worker.id(), endpoints.join(", "));
}

/// Waits for the end of standard input, or for ever if that does not matter.
pub(crate) async fn stdin_ends(matters: bool) {
    if !matters {
        return std::future::pending().await;
    }
    let (sender, ended) = oneshot::channel::<()>();
    // A thread of its own: a runtime cannot shut down while one of its threads reads standard input.
    let reader = thread::Builder::new().spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(sender);
    });
    if reader.is_ok() {
        let _ = ended.await;
    }
}
