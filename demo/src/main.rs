//! The tour of Xero: `cargo run -p xero-demo`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xero_demo::{
    tour,
    worker::{self, WorkerOptions},
};

/// Starts workers as processes of their own, calls them, kills some, and tells what happens. Takes a few seconds, and
/// needs nothing but this machine. The demo's worker and client for a network are demo-worker and demo-client.
#[derive(Debug, Parser)]
#[command(name = "xero-demo", version)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// What the tour starts.
    #[command(hide = true)]
    Worker(WorkerOptions),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Options::parse().role {
        None => tour::tour().await,
        Some(Role::Worker(options)) => worker::serve(options).await,
    }
}
