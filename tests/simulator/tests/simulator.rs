//! The promises hold in every seed, and the simulator finds every planted fault.

use xero::proto::fault::{Fault, plant};
use xero_simulator::{Failure, Trace, campaign, play};

/// The seeds of the test of the promises.
const SEEDS: u64 = 2_000;

/// The seeds in which a planted fault must be found. Most are within a hundred.
const HUNT_SEEDS: u64 = 20_000;

#[test]
fn promises_hold_in_every_seed() {
    let outcome = campaign::play_all(0..SEEDS, campaign::threads(), || {}, |_| {});
    if let Some(failure) = outcome.failure {
        panic!("{}", account_of(&failure));
    }
    assert_eq!(outcome.played, SEEDS);
}

#[test]
fn every_planted_fault_is_found() {
    let found = Fault::ALL.map(|fault| (fault, hunt(fault)));
    for (fault, failure) in &found {
        match failure {
            Some(failure) => println!("{fault:?}: {}", first_line(failure)),
            None => println!("{fault:?}: not found"),
        }
    }
    let missed: Vec<_> = found.iter().filter(|(_, failure)| failure.is_none()).map(|(fault, _)| fault).collect();
    assert!(missed.is_empty(), "not found within {HUNT_SEEDS} seeds: {missed:?}");
}

#[test]
fn equal_seeds_play_alike_and_others_do_not() {
    let lines = |seed| {
        let trace = Trace::kept();
        play(seed, Some(&trace)).expect("a seed that keeps every promise");
        trace.lines()
    };
    assert!(lines(3) == lines(3), "one seed, two traces");
    assert!(lines(3) != lines(4), "two seeds, one trace");
}

/// The first seed in which the fault breaks a promise.
fn hunt(fault: Fault) -> Option<Failure> {
    campaign::play_all(0..HUNT_SEEDS, campaign::threads(), || plant(Some(fault)), |_| {}).failure
}

/// The end of the history, and how to see all of it.
fn account_of(failure: &Failure) -> String {
    let trace = Trace::kept();
    let _ = play(failure.seed, Some(&trace));
    let lines = trace.lines();
    let end = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    let command = format!("cargo run -p xero-simulator -- --seed {}", failure.seed);
    format!("{failure}\nthe end of its trace:\n{end}\nthe whole of it: {command}")
}

fn first_line(failure: &Failure) -> String {
    let text = failure.to_string();
    text.lines().next().unwrap_or_default().chars().take(160).collect()
}

/// Lines of a trace that a failure shows.
const SHOWN: usize = 80;
