//! Plays the simulator's seeds by the million, or one of them with a trace.

use std::{
    ops::Range,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use xero::proto::fault::{Fault, plant};
use xero_simulator::{Trace, campaign, play};
use xero_tests::command_line::{print_line, whole_number};

/// Plays clients, brokers and workers against each other on a simulated network where everything goes wrong
#[derive(Debug, Parser)]
#[command(name = "simulate", version, after_help = HELP, override_usage = USAGE)]
struct Options {
    /// How many seeds to play: 1 or more
    #[arg(long, value_name = "N", default_value_t = 10_000, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(1..=u64::MAX))]
    seeds: u64,
    /// The first of them: 0 or more
    #[arg(long, value_name = "SEED", default_value_t = 0, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(0..=u64::MAX))]
    from: u64,
    /// Play this seed alone and print a trace of everything that happens in it: 0 or more
    #[arg(long, value_name = "SEED", allow_negative_numbers = true, conflicts_with_all = ["seeds", "from"])]
    #[arg(value_parser = whole_number::<u64>(0..=u64::MAX))]
    seed: Option<u64>,
    /// Plant this mistake in the core first, by its name in `Fault`: the run is meant to fail
    #[arg(long, value_name = "NAME", value_parser = fault)]
    fault: Option<Fault>,
}

fn fault(name: &str) -> Result<Fault, String> {
    let known = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
    known.ok_or_else(|| format!("no fault has this name; there are {:?}", Fault::ALL))
}

/// The usage line.
const USAGE: &str = "\
simulate [--seeds <N>] [--from <SEED>] [--fault <NAME>]
       simulate --seed <SEED> [--fault <NAME>]";

/// What the options alone do not say.
const HELP: &str = "\
Each seed draws who takes part, what they call and what goes wrong; every promise is checked at every step, and the
first seed that breaks one ends the run. A seed plays the same each time: --seed shows what happens in it.

Exit codes:
    0  every promise was kept
    1  a promise was broken; the seed is printed
    2  the command line was wrong
  141  nobody reads the output any more

Examples:
    simulate --seeds 1_000_000
    simulate --seeds 5000 --from 20000
    simulate --seed 31415
    simulate --fault LeaseNeverEnds";

fn main() -> ExitCode {
    let options = Options::parse();
    plant(options.fault);
    match options.seed {
        Some(seed) => replay(seed),
        None => hunt(&options),
    }
}

fn replay(seed: u64) -> ExitCode {
    match play(seed, Some(&Trace::live())) {
        Ok(()) => {
            print_line(format_args!("seed {seed} keeps every promise"));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            print_line(failure);
            ExitCode::FAILURE
        }
    }
}

fn hunt(options: &Options) -> ExitCode {
    let seeds = options.seeds();
    // A machine's panic is a finding like any other; its message is printed with the seed.
    std::panic::set_hook(Box::new(|_| {}));
    let started_at = Instant::now();
    let played = AtomicU64::new(0);
    let watch = |_| {
        let count = played.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(PROGRESS) {
            let speed = count as f64 / started_at.elapsed().as_secs_f64();
            print_line(format_args!("{count} of {} seeds, {speed:.0} a second", options.seeds));
        }
    };
    let outcome = campaign::play_all(seeds, campaign::threads(), || plant(options.fault), watch);
    let time = started_at.elapsed();
    match outcome.failure {
        Some(failure) => {
            print_line(format_args!("after {} seeds in {time:.1?}: {failure}", outcome.played));
            print_line(format_args!("replay it with a trace: --seed {}", failure.seed));
            ExitCode::FAILURE
        }
        None => {
            print_line(format_args!(
                "{} seeds in {time:.1?}, from {}: every promise kept",
                outcome.played, options.from
            ));
            ExitCode::SUCCESS
        }
    }
}

impl Options {
    /// The seeds to play; ends the process if there are not that many.
    fn seeds(&self) -> Range<u64> {
        let Some(end) = self.from.checked_add(self.seeds) else {
            let mistake = format!("there are not {} seeds from {} on: the last is 2^64 - 2", self.seeds, self.from);
            Self::command().error(ErrorKind::ValueValidation, mistake).exit();
        };
        self.from..end
    }
}

/// Seeds between two lines of progress.
const PROGRESS: u64 = 10_000;
