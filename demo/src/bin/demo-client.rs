//! Calls a method of the workers that connect to an endpoint, or that brokers have.

use std::process::ExitCode;

use clap::Parser;
use xero_demo::client::{self, ClientOptions};

/// Binds ENDPOINT, or connects to brokers; waits for a worker, calls METHOD, and prints its replies.
#[derive(Debug, Parser)]
#[command(name = "demo-client", version, after_help = client::HELP, override_usage = client::USAGE)]
struct Options {
    #[command(flatten)]
    client: ClientOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    client::call(Options::parse().client).await
}
