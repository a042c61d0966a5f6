//! A run: rounds of measurements, written as they are made, then tables and plots of all.

use std::{
    fs::{self, File},
    future::Future,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    libzmq,
    load::Failure,
    machine::Machine,
    measure::{Plan, measure},
    options::RunOptions,
    peer::Peer,
    plot,
    record::{Case, Outcome, Record},
    stage,
    summary::Summary,
    table::Tables,
};

/// Measures, and reports. Interrupted, it reports what it has.
///
/// # Errors
/// When the results cannot be written, or there is nothing to measure.
pub fn run(options: &RunOptions) -> Result<ExitCode, Failure> {
    let cases = options.cases();
    if cases.is_empty() {
        eprintln!("none of these peers takes part in these modes");
        return Ok(ExitCode::from(2));
    }
    // Measurements take place in the children: one thread is enough to conduct them, and disturbs them least.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(perform(options, &cases))
}

async fn perform(options: &RunOptions, cases: &[Case]) -> Result<ExitCode, Failure> {
    let interrupted = interruption()?;
    let plan = Plan {
        warm_up: options.warm_up,
        seconds: options.seconds,
        cpus: stage::cpus()?,
        python: options.python.clone(),
    };
    if plan.cpus.len() < 2 {
        eprintln!("only one CPU may be used: every mode has all its processes on it");
    }
    if cfg!(debug_assertions) {
        eprintln!("a debug build: the figures say nothing; use --release");
    }
    let libzmq = libzmq::version(&plan.python).await;
    if let (Err(reason), true) = (&libzmq, cases.iter().any(|case| case.peer == Peer::Libzmq)) {
        eprintln!("libzmq: {reason}");
    }
    fs::create_dir_all(&options.output)?;
    let mut results = File::create(options.output.join("results.jsonl"))?;
    let machine = Machine::here(&plan, options.rounds, libzmq.as_deref().ok());
    writeln!(results, "{}", json!({ "machine": machine }))?;

    let mut records = Vec::new();
    let skipped = libzmq.err();
    let rounds = rounds(options.rounds, cases, &plan, skipped.as_deref(), |record| {
        writeln!(results, "{}", serde_json::to_string(&record)?)?;
        records.push(record);
        Ok(())
    });
    let is_complete = tokio::select! {
        outcome = rounds => outcome.map(|()| true)?,
        // Dropping the rounds kills the children.
        () = interrupted => false,
    };
    report(&records, &options.output)?;
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(128 + 2) })
}

/// Measures every case once a round, and hands each record over.
async fn rounds(
    rounds: u32,
    cases: &[Case],
    plan: &Plan,
    skipped: Option<&str>,
    mut keep: impl FnMut(Record) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let progress = progress(u64::from(rounds) * cases.len() as u64);
    for round in 1..=rounds {
        for case in cases {
            let runtime = case.runtime.map_or_else(String::new, |runtime| format!(", {}", runtime.name()));
            progress.set_message(format!("round {round}: {}, {}{runtime}", case.mode.name(), case.peer.name()));
            let outcome = match skipped {
                Some(reason) if case.peer == Peer::Libzmq => Outcome::Failed { error: reason.to_owned() },
                _ => measure(*case, plan).await,
            };
            keep(Record { round, case: *case, outcome })?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(())
}

/// Writes tables and plots, and prints the tables.
fn report(records: &[Record], output: &Path) -> Result<(), Failure> {
    let summary = Summary::new(records);
    let tables = Tables(summary).to_string();
    fs::write(output.join("tables.md"), &tables)?;
    plot::draw(&summary, output)?;
    match io::stdout().lock().write_all(tables.as_bytes()) {
        // Nobody reads the output any more; the files have it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// A bar on stderr, if that is a terminal.
fn progress(measurements: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, {eta} left: {msg}");
    ProgressBar::new(measurements).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Ready when the run is to end: ctrl-c, or SIGTERM.
fn interruption() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
