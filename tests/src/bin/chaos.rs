//! The long form of chaos; the tests run the short one. See `xero_tests::chaos`.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use xero_tests::{
    chaos::{self, CALLS_PER_SECOND, Settings, WORKERS},
    command_line::whole_number,
    load::{child, crew::Topology},
    scene::{runtime, show_logs},
};

/// Calls at a steady rate while the serving processes are killed, frozen, drained and restarted
#[derive(Debug, Parser)]
#[command(name = "chaos", version, after_help = HELP)]
struct Options {
    /// direct: workers dial the client; brokered: all dial two brokers
    #[arg(long, value_name = "TOPOLOGY", default_value_t = Topology::Direct, value_enum, hide_possible_values = true)]
    topology: Topology,
    /// The time of the faults: 1 to 86400; less than 10 prove little
    #[arg(long, value_name = "SECONDS", default_value_t = 60, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(1..=86_400))]
    seconds: u64,
    /// The seed of the faults and calls [default: random]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true, value_parser = whole_number::<u64>(0..=u64::MAX))]
    seed: Option<u64>,
    /// Calls that start per second: 1 to 10000; less than 1000 prove little
    #[arg(long, value_name = "CALLS", default_value_t = CALLS_PER_SECOND, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u32>(1..=10_000))]
    rate: u32,
    /// Worker processes: 2 to 50
    #[arg(long, value_name = "N", default_value_t = WORKERS, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<usize>(2..=50))]
    workers: usize,
    /// Print the faults of each process with their times, even if no promise was broken
    #[arg(long)]
    log: bool,
}

/// The rest of the help.
const HELP: &str = "\
Each call must end in time: an idempotent one with its reply, another with its reply or the loss of its worker; and no
call may run twice that must not. A fault hits a process only while a worker is reachable without it.

Nine tenths of the calls of --rate must start, or 1000 a second if that is less. A run of less than 10 seconds or 1000
calls a second gets a warning, and is sound even if no fault has hit a call.

Exit codes:
    0  every promise was kept
    1  a promise was broken; the faults are printed too
    2  the command line was wrong

Examples:
    chaos --seconds 60 --topology brokered
    chaos --seconds 10 --seed 7 --log";

fn main() -> ExitCode {
    child::play();
    let options = Options::parse();
    show_logs();
    let settings = options.settings();
    if let Some(doubt) = settings.doubt() {
        eprintln!("warning: {doubt}");
    }
    println!("seed {}", settings.seed);
    let report = runtime(2).block_on(chaos::run(settings));
    let is_sound = report.violations().is_empty();
    match options.log || !is_sound {
        true => print!("{report:#}"),
        false => print!("{report}"),
    }
    ExitCode::from(u8::from(!is_sound))
}

impl Options {
    fn settings(&self) -> Settings {
        let program = std::env::current_exe().expect("a running program has a path");
        let usual = Settings::new(program, self.topology, Duration::from_secs(self.seconds));
        Settings {
            seed: self.seed.unwrap_or(usual.seed),
            calls_per_second: self.rate,
            workers: self.workers,
            is_talkative: true,
            ..usual
        }
    }
}
