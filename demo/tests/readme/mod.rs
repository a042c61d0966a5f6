//! Every command in README is run, here or elsewhere.

use std::{fs, path::Path};

use crate::process::{Broker, Process, Worker, client, free_endpoint};

#[test]
fn commands_in_readme_work() {
    let endpoint = free_endpoint();
    let mut worker: Option<Worker> = None;
    let mut broker: Option<Broker> = None;
    let mut behind: Option<Worker> = None;
    let mut clients = 0;
    for command in commands() {
        let words = split(&command);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match &words[..] {
            ["cargo", "run", "-p", "xero-demo"] => assert_eq!(Process::start("xero-demo", &[]).wait().code, 0),
            ["cargo", "run", "-p", "xero-demo", "--bin", "demo-worker", "--", "tcp://127.0.0.1:5550"] => {
                worker = Some(Worker::start(&endpoint, &[]));
            }
            ["cargo", "run", "-p", "xero-demo", "--bin", "demo-client", "--", "tcp://*:5550", call @ ..] => {
                assert!(worker.is_some(), "README starts no worker before {command}");
                let run = client(&[&[endpoint.as_str()], call].concat());
                assert_eq!(run.code, expected_code(call[0]), "{command}: {run:?}");
                clients += 1;
            }
            ["cargo", "run", "-p", "xero-demo", "--bin", "demo-broker", "--", "tcp://*:5560", "tcp://*:5561"] => {
                broker = Some(Broker::start());
            }
            ["cargo", "run", "-p", "xero-demo", "--bin", "demo-worker", "--", "tcp://127.0.0.1:5561"] => {
                behind = broker.as_ref().map(Broker::worker);
            }
            [
                "cargo",
                "run",
                "-p",
                "xero-demo",
                "--bin",
                "demo-client",
                "--",
                "--connect",
                "tcp://127.0.0.1:5560",
                call @ ..,
            ] => {
                assert!(behind.is_some(), "README starts no broker with a worker before {command}");
                let run = broker.as_ref().expect("there is one").call(call);
                assert_eq!(run.code, expected_code(call[0]), "{command}: {run:?}");
                clients += 1;
            }
            // The first runs this test; `.ci/run` runs the container tests, which run Compose; people run the rest.
            ["cargo", "test", "--workspace"]
            | ["cargo", "test", "-p", "xero-tests", "--test", "containers"]
            | ["docker", "compose", "up" | "down", ..]
            | ["deploy/base-images"]
            | ["cargo", "bench", ..] => {}
            // `.ci/run` compiles the targets.
            ["cargo", "fuzz", "run", "-s", "none", target, "--", ..] => {
                let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/fuzz_targets/{target}.rs"));
                assert!(target.exists(), "{} is not there", target.display());
            }
            // `.ci/run` compiles the benchmark; its own tests run all of it for a moment.
            ["cargo", "run", "--release", "--manifest-path", manifest @ "bench/Cargo.toml"] => {
                let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(manifest);
                assert!(manifest.exists(), "{} is not there", manifest.display());
            }
            // The long forms of tests, which `.ci/run` runs.
            ["cargo", "run", "--release", "-p", "xero-tests", "--bin", "chaos" | "soak", "--", ..]
            | ["cargo", "run", "--release", "-p", "xero-tests", "--bin", "costs" | "instructions"]
            | ["cargo", "run", "--release", "-p", "xero-simulator", "--", ..] => {}
            _ => panic!("README has a command that no test runs: {command}"),
        }
    }
    assert!(clients >= 8, "only {clients} commands of the client were found in README");
}

fn expected_code(method: &str) -> i32 {
    match method {
        "slow_fail" => 1,
        "invalid_request" => 3,
        _ => 0,
    }
}

/// The lines of README's shell blocks.
fn commands() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("README can be read");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines);
    lines.map(|line| line.split(" # ").next().unwrap_or(line).to_owned()).collect()
}

/// Splits at spaces outside single quotes, which is all the shell that README needs.
fn split(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (part, is_quoted) in command.split('\'').zip([false, true].into_iter().cycle()) {
        let mut pieces = if is_quoted { vec![part] } else { part.split(' ').collect() }.into_iter();
        words.last_mut().expect("there is a word").push_str(pieces.next().unwrap_or_default());
        words.extend(pieces.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    words
}
