//! Plays one part in a test, in a container of its own. See `xero_tests::load::role`.

use std::process::ExitCode;

use clap::Parser;
use xero_tests::{command_line::log_to_standard_error, load::role::Role};

/// Plays one part in a test: a worker, a broker, a client or a faulty link between them
#[derive(Debug, Parser)]
#[command(name = "crew", version, after_help = HELP)]
struct Options {
    #[command(subcommand)]
    role: Role,
}

/// The rest of the help.
const HELP: &str = "\
Records go to standard output as lines of JSON, among a few other lines; logs go to standard error, from the level of
RUST_LOG, `info` by default. Without an option, the library's default applies.

Exit codes:
    0  SIGTERM stopped it, and all open calls have ended
    1  it could not continue: a call failed that must not, or no worker came
    2  the command line was wrong, or an endpoint is malformed or cannot be bound

Examples:
    crew broker 'tcp://*:5560' 'tcp://*:5561'
    crew worker tcp://broker-1:5561 tcp://broker-2:5561
    crew load tcp://broker-1:5560 tcp://broker-2:5560 --rate 500 --seed 7 --first 1_000_000
    crew link 0.0.0.0:5560=broker-1:5560 --latency 200 --jitter 100";

fn main() -> ExitCode {
    let options = Options::parse();
    log_to_standard_error();
    match options.role.play(true) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
