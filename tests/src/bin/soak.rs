//! The long form of the soak; the tests run a short one. See `xero_tests::soak`.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use xero_tests::{
    command_line::whole_number,
    load::{child, crew::Topology},
    scene::{runtime, show_logs},
    soak::{self, CONCURRENCY, SEED, Settings, WORKERS},
};

/// Makes very many calls of mixed sizes, up to 314159 bytes each way, to workers in processes of their own
#[derive(Debug, Parser)]
#[command(name = "soak", version, after_help = HELP)]
struct Options {
    /// direct: workers dial the client; brokered: all dial two brokers
    #[arg(long, value_name = "TOPOLOGY", default_value_t = Topology::Direct, value_enum, hide_possible_values = true)]
    topology: Topology,
    /// How many calls to make: 1 or more
    #[arg(long, value_name = "N", default_value_t = 1_000_000, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(1..=u64::MAX))]
    calls: u64,
    /// Concurrent calls: 1 to 1000
    #[arg(long, value_name = "N", default_value_t = CONCURRENCY, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<usize>(1..=1_000))]
    concurrency: usize,
    /// Worker processes: 1 to 50
    #[arg(long, value_name = "N", default_value_t = WORKERS, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<usize>(1..=50))]
    workers: usize,
    /// The seed of the sizes
    #[arg(long, value_name = "SEED", default_value_t = SEED, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(0..=u64::MAX))]
    seed: u64,
}

/// The rest of the help.
const HELP: &str = "\
Every call must have its own reply, whole, and no process's memory may grow. Every 5 seconds a line says how it goes.

Exit codes:
    0  every call had its reply, and no process has grown
    1  a promise was broken: a call failed, or a process has grown or died
    2  the command line was wrong

Examples:
    soak --calls 1000000 --topology brokered
    soak --calls 20_000 --concurrency 8";

fn main() -> ExitCode {
    child::play();
    let options = Options::parse();
    show_logs();
    let report = runtime(2).block_on(soak::run(options.settings()));
    print!("{report}");
    ExitCode::from(u8::from(!report.violations().is_empty()))
}

impl Options {
    fn settings(&self) -> Settings {
        let program = std::env::current_exe().expect("a running program has a path");
        let Self { topology, calls, concurrency, workers, seed } = *self;
        Settings { program, topology, calls, concurrency, workers, seed, telling: Some(TELLING) }
    }
}

/// The pause between progress reports.
const TELLING: Duration = Duration::from_secs(5);
