//! `demo-broker`: routes calls between clients and workers until it is stopped.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use tracing::{info, level_filters::LevelFilter};
use xero::Broker;

use crate::{
    check_reachable,
    client::shown_endpoint,
    report::complain,
    signals::Signals,
    worker::{USAGE, log, stdin_ends},
};

/// The command line of `demo-broker`.
#[derive(Clone, Debug, Args)]
pub struct BrokerOptions {
    /// Where clients can connect to: tcp://*:5560, tcp://127.0.0.1:0 (any free port), ipc:///path
    #[arg(value_name = "FRONTEND")]
    frontend: String,
    /// Where workers can connect to, in the same forms; another endpoint than FRONTEND
    #[arg(value_name = "BACKEND")]
    backend: String,
    /// Stop when standard input ends, so that no broker outlives the program that started it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// The rest of the help.
pub const HELP: &str = "\
Exit codes:
    0  it was stopped, and all running calls have ended
    2  the command line was wrong, or an endpoint cannot be bound
  130  a second signal, 300 ms or later after the first, cut it short

Example, with a worker and a client of its own:
    demo-broker 'tcp://*:5560' 'tcp://*:5561'
    demo-worker tcp://127.0.0.1:5561
    demo-client --connect tcp://127.0.0.1:5560 ping";

/// Routes calls until SIGINT, SIGTERM or the end of standard input, then lets running calls end.
///
/// The exit code is 0 after that, 2 when it could not start, 130 when a second signal cut it short.
pub async fn serve(options: BrokerOptions) -> ExitCode {
    log(LevelFilter::INFO);
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot handle signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let settings = Broker::builder().offers_bytes_max(OFFERS_BYTES_MAX).total_bytes_max(TOTAL_BYTES_MAX);
    let reachable =
        [&options.frontend, &options.backend].into_iter().try_for_each(|endpoint| check_reachable(endpoint));
    let bound = match reachable {
        Ok(()) => settings.bind(&options.frontend, &options.backend).await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    let broker = match bound {
        Ok(broker) => broker,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    announce(&broker, &options);
    tokio::select! {
        () = signals.first() => info!("stopping: running calls may end; signal again to stop at once"),
        () = stdin_ends(options.until_stdin_ends) => info!("standard input has ended: running calls may end"),
    }
    broker.drain().await;
    info!("stopped");
    ExitCode::SUCCESS
}

/// The one line on standard output, for people and for scripts that want the endpoints.
fn announce(broker: &Broker, options: &BrokerOptions) {
    let frontend = shown_endpoint(&options.frontend, broker.frontend());
    let backend = shown_endpoint(&options.backend, broker.backend());
    // A missing reader is no reason not to serve.
    let _ = writeln!(io::stdout(), "broker {} between clients at {frontend} and workers at {backend}", broker.id());
}

/// Thousands of methods, and little beside the memory limit of `deploy/kubernetes/broker.yaml`.
const OFFERS_BYTES_MAX: u64 = 8 << 20;

/// Within the same limit, with room for the windows of 50 workers.
const TOTAL_BYTES_MAX: u64 = 384 << 20;
