//! Answers an orchestrator's questions about a container that has no shell to ask them with.

use std::process::ExitCode;

use clap::Parser;
use xero_demo::lifecycle::{self, LifecycleOptions};

/// What an orchestrator asks of a container that has no shell: probes that open no connection, and a drain to wait for.
/// Needs Linux.
#[derive(Debug, Parser)]
#[command(name = "demo-lifecycle", version, after_help = lifecycle::HELP)]
struct Options {
    #[command(subcommand)]
    lifecycle: LifecycleOptions,
}

fn main() -> ExitCode {
    lifecycle::answer(&Options::parse().lifecycle)
}
