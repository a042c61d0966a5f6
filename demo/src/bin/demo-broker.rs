//! Routes calls between clients and workers.

use std::process::ExitCode;

use clap::Parser;
use xero_demo::broker::{self, BrokerOptions};

/// Stands between clients, which connect to FRONTEND, and workers, which connect to BACKEND, and goes on until SIGINT or
/// SIGTERM, on which it lets what runs end and exits with 0. Says what happens on standard error; RUST_LOG=debug says
/// more.
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
