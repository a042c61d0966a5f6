//! The soak in its long form; the tests run a short one. See `xero_tests::soak`.

use std::{process::ExitCode, time::Duration};

use xero_tests::{
    load::{child, crew::Topology, options::Options},
    scene::{runtime, show_logs},
    soak::{self, Settings},
};

const USAGE: &str = "soak [--topology direct|brokered] [--calls N] [--concurrency N] [--workers N] [--seed N]";

fn main() -> ExitCode {
    child::play();
    show_logs();
    let settings = match settings() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    let report = runtime(2).block_on(soak::run(settings));
    print!("{report}");
    ExitCode::from(u8::from(!report.violations().is_empty()))
}

fn settings() -> Result<Settings, String> {
    let mut options = Options::read(std::env::args().skip(1), &[])?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let calls = options.take("calls")?.unwrap_or(1_000_000);
    let topology = options.take("topology")?.unwrap_or(Topology::Direct);
    let mut settings = Settings::new(program, topology, calls);
    settings.telling = Some(Duration::from_secs(5));
    settings.concurrency = options.take("concurrency")?.unwrap_or(settings.concurrency);
    settings.workers = options.take("workers")?.unwrap_or(settings.workers);
    settings.seed = options.take("seed")?.unwrap_or(settings.seed);
    match options.end()?.first() {
        Some(argument) => Err(format!("{argument} is no option")),
        None => Ok(settings),
    }
}
