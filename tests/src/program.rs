//! Rules for the command line of each program: help that names every option, and reported mistakes.

use std::process::{Command, Output};

/// Checks `--help` and `-h`: they succeed, explain each of these options on its own line, and have exit codes and
/// examples.
///
/// # Panics
/// When a check fails.
pub fn explains(program: &str, options: &[&str]) {
    for asked in ["--help", "-h"] {
        let output = run(program, &[asked]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let help = String::from_utf8_lossy(&output.stdout);
        names(&help, options);
        for part in ["\nExit codes:\n    0  ", "\n    1  ", "\n    2  ", "\nExamples:\n"] {
            assert!(help.contains(part), "{asked} does not say {part:?}: {help}");
        }
    }
}

/// Checks that the help has a line for each of these, and no line that is too long.
///
/// # Panics
/// When a check fails.
pub fn names(help: &str, options: &[&str]) {
    for option in options {
        let explains = |line: &str| line.split_whitespace().next() == Some(option);
        assert!(help.lines().any(explains), "the help does not explain {option}: {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 120), "the help has lines that are too long: {help}");
}

/// Checks that the command line is refused with this message.
///
/// # Panics
/// When a check fails.
pub fn refuses(program: &str, arguments: &[&str], reason: &str) {
    let output = run(program, arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: ") && said.contains(reason), "{arguments:?}: {said}");
}

/// Runs the program to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}
