//! `cargo run --release --manifest-path bench/Cargo.toml`: see `--help`.

use std::process::ExitCode;

use clap::Parser;
use xero_bench::{
    options::{Options, Role},
    run, stage,
};

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.role {
        Some(Role::Play(cast)) => stage::play(cast).map(|()| ExitCode::SUCCESS),
        None => run::run(&options.run),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        ExitCode::FAILURE
    })
}
