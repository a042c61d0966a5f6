//! Routes calls between clients and workers.

use std::process::ExitCode;

use clap::Parser;
use xero_demo::broker::{self, BrokerOptions};

/// Routes calls from clients, which connect to FRONTEND, to workers, which connect to BACKEND, until SIGINT or SIGTERM;
/// then running calls may end, and it exits with 0. Logs to standard error; RUST_LOG=debug logs more.
#[derive(Debug, Parser)]
#[command(name = "demo-broker", version, after_help = broker::HELP)]
struct Options {
    #[command(flatten)]
    broker: BrokerOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    broker::serve(Options::parse().broker).await
}
