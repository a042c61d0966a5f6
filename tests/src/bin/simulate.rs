//! Plays the simulator's seeds by the million, or one of them with a trace.

use std::{
    error::Error,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use xero_tests::sim::{Trace, campaign, play};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::read(std::env::args().skip(1))?;
    Ok(match options.seed {
        Some(seed) => replay(seed),
        None => hunt(&options),
    })
}

fn replay(seed: u64) -> ExitCode {
    match play(seed, Some(&Trace::live())) {
        Ok(()) => {
            println!("seed {seed} keeps every promise");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn hunt(options: &Options) -> ExitCode {
    // A machine's panic is a finding like any other; what it has to say is printed with the seed.
    std::panic::set_hook(Box::new(|_| {}));
    let started_at = Instant::now();
    let played = AtomicU64::new(0);
    let watch = |_| {
        let count = played.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(PROGRESS) {
            let speed = count as f64 / started_at.elapsed().as_secs_f64();
            println!("{count} of {} seeds, {speed:.0} a second", options.seeds);
        }
    };
    let seeds = options.from..options.from.saturating_add(options.seeds);
    let outcome = campaign::play_all(seeds, campaign::threads(), || {}, watch);
    let time = started_at.elapsed();
    match outcome.failure {
        Some(failure) => {
            println!("after {} seeds in {time:.1?}: {failure}", outcome.played);
            println!("replay it with a trace: --seed {}", failure.seed);
            ExitCode::FAILURE
        }
        None => {
            println!("{} seeds in {time:.1?}, from {}: every promise kept", outcome.played, options.from);
            ExitCode::SUCCESS
        }
    }
}

/// What the command line says.
struct Options {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self { seeds: 10_000, from: 0, seed: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?.replace('_', "").parse().map_err(|_| USAGE)?;
            match name.as_str() {
                "--seeds" => options.seeds = value,
                "--from" => options.from = value,
                "--seed" => options.seed = Some(value),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

const USAGE: &str = "simulate [--seeds HOW_MANY] [--from SEED] | --seed SEED";

/// Seeds between two lines of progress.
const PROGRESS: u64 = 10_000;
