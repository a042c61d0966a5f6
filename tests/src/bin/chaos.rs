//! Chaos in its long form; the tests run the short one. See `xero_tests::chaos`.

use std::{process::ExitCode, time::Duration};

use xero_tests::{
    chaos::{self, Settings},
    load::{child, crew::Topology, options::Options},
    scene::{runtime, show_logs},
};

const USAGE: &str =
    "chaos [--topology direct|brokered] [--seconds N] [--seed N] [--rate CALLS_PER_SECOND] [--workers N] [--log]";

fn main() -> ExitCode {
    child::play();
    show_logs();
    let (settings, shows_log) = match settings() {
        Ok(read) => read,
        Err(error) => {
            eprintln!("{error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", settings.seed);
    let report = runtime(2).block_on(chaos::run(settings));
    let is_sound = report.violations().is_empty();
    match shows_log || !is_sound {
        true => print!("{report:#}"),
        false => print!("{report}"),
    }
    ExitCode::from(u8::from(!is_sound))
}

fn settings() -> Result<(Settings, bool), String> {
    let mut options = Options::read(std::env::args().skip(1), &["log"])?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let seconds = options.take("seconds")?.unwrap_or(60);
    let topology = options.take("topology")?.unwrap_or(Topology::Direct);
    let mut settings = Settings::new(program, topology, Duration::from_secs(seconds));
    settings.is_talkative = true;
    settings.seed = options.take("seed")?.unwrap_or(settings.seed);
    settings.calls_per_second = options.take("rate")?.unwrap_or(settings.calls_per_second);
    settings.workers = options.take("workers")?.unwrap_or(settings.workers);
    let shows_log = options.take_flag("log");
    match options.end()?.first() {
        Some(argument) => Err(format!("{argument} is no option")),
        None => Ok((settings, shows_log)),
    }
}
