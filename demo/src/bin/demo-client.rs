//! Calls a method of the workers that connect to an endpoint.

use std::process::ExitCode;

use clap::Parser;
use xero_demo::client::{self, ClientOptions};

/// Binds ENDPOINT, waits for a worker, calls METHOD, and prints its replies.
#[derive(Debug, Parser)]
#[command(name = "demo-client", version, after_help = client::HELP)]
struct Options {
    #[command(flatten)]
    client: ClientOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    client::call(Options::parse().client).await
}
