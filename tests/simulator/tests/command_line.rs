//! The command line of the simulator: its help names every option, and mistakes are reported.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use xero_tests::{
    command_line::READER_GONE,
    program::{explains, refuses, run},
};

const SIMULATE: &str = env!("CARGO_BIN_EXE_simulate");

#[test]
fn simulate_explains_its_options() {
    explains(SIMULATE, &["--seeds", "--from", "--seed", "--fault"]);
}

#[test]
fn simulate_refuses_what_is_no_option_and_what_is_out_of_range() {
    refuses(SIMULATE, &["--calls", "5"], "--calls");
    refuses(SIMULATE, &["--from", "x"], "from 0 to 2^64 - 1");
    refuses(SIMULATE, &["--seed", "-1"], "from 0 to 2^64 - 1");
    for seeds in ["0", "-1", "x"] {
        refuses(SIMULATE, &["--seeds", seeds], "from 1 to 2^64 - 1");
    }
    refuses(SIMULATE, &["--fault", "Nothing"], "LeaseNeverEnds");
    refuses(SIMULATE, &["--from", "18446744073709551615", "--seeds", "2"], "not 2 seeds");
}

#[test]
fn simulate_refuses_one_seed_together_with_many() {
    refuses(SIMULATE, &["--seeds", "5", "--seed", "3"], "cannot be used with");
    refuses(SIMULATE, &["--from", "5", "--seed", "3"], "cannot be used with");
}

#[test]
fn simulate_plays_the_given_seeds() {
    let output = run(SIMULATE, &["--seeds", "1_0", "--from", "7"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("10 seeds in ") && said.contains("from 7"), "{said}");
}

#[test]
fn simulate_ends_quietly_when_its_reader_has_enough() {
    let mut command = Command::new(SIMULATE);
    let command = command.args(["--seed", "3"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("is piped");
    BufReader::with_capacity(16, stdout).read_line(&mut line).expect("a line");
    assert!(line.contains("0.000000"), "{line}");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.code() == Some(READER_GONE) && output.stderr.is_empty(), "{output:?}");
}
