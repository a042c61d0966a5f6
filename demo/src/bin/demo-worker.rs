//! Serves the demo's service to the clients and brokers at the given endpoints.

use std::process::ExitCode;

use clap::Parser;
use xero_demo::worker::{self, WorkerOptions};

/// Serves the demo's service to the clients and brokers at the given endpoints until SIGINT or SIGTERM; then it finishes
/// running calls and exits with 0. Logs to standard error; RUST_LOG=debug logs more.
#[derive(Debug, Parser)]
#[command(name = "demo-worker", version, after_help = worker::HELP)]
struct Options {
    #[command(flatten)]
    worker: WorkerOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    worker::serve(Options::parse().worker).await
}
