//! Chaos in its long form; the tests run the short one. See `xero_tests::chaos`.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use xero_tests::{
    chaos::{self, CALLS_PER_SECOND, Settings, WORKERS},
    command_line::whole_number,
    load::{child, crew::Topology},
    scene::{runtime, show_logs},
};

/// Makes calls at a steady rate while the processes that serve them are killed, frozen, told to leave and started again,
/// and checks that each call ends as it must. At any time one worker at least is left alone.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, after_help = HELP)]
struct Options {
    /// How calls find workers: direct (workers dial the client) or brokered (all dial two brokers)
    #[arg(long, value_name = "TOPOLOGY", default_value_t = Topology::Direct, value_enum, hide_possible_values = true)]
    topology: Topology,
    /// How long the faults go on, in seconds, 1 to 86400; less than 10 prove little
    #[arg(long, value_name = "SECONDS", default_value_t = 60, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(1..=86_400))]
    seconds: u64,
    /// What faults and calls are drawn from: a number, the same for the same plan [default: another one each time]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true, value_parser = whole_number::<u64>(0..=u64::MAX))]
    seed: Option<u64>,
    /// How many calls are begun in a second, 1 to 10000; less than 1000 prove little
    #[arg(long, value_name = "CALLS", default_value_t = CALLS_PER_SECOND, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u32>(1..=10_000))]
    rate: u32,
    /// How many worker processes there are, 2 to 50: something is done to one only while another is reachable
    #[arg(long, value_name = "N", default_value_t = WORKERS, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<usize>(2..=50))]
    workers: usize,
    /// Print what was done to which process and when, also when no promise was broken
    #[arg(long)]
    log: bool,
}

/// What the options alone do not say.
const HELP: &str = "\
The load is held to the rate that was asked for: nine tenths of it, or 1000 calls a second where that is less, must have
been begun. A run of less than 10 seconds or 1000 calls a second gets a warning, and may end without a call that was hit.

Exit codes:
    0  every promise was kept
    1  a promise was broken; what was done to the processes is printed, too
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
