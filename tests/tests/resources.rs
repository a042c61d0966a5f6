//! A client, a broker or a worker returns all of the system's resources.

use xero_tests::{
    process::Process,
    scene::{eventually, run},
};

#[test]
fn threads_and_descriptors_return_to_where_they_were_after_50_binds_and_closes() {
    run(returns_to_where_it_was(&["cycles", "--count", "50"]));
}

#[test]
fn clients_that_are_dropped_leave_nothing_behind() {
    run(returns_to_where_it_was(&["cycles", "--count", "20", "--hold", "drop"]));
}

#[test]
fn brokers_that_are_closed_or_dropped_leave_nothing_behind() {
    run(returns_to_where_it_was(&["broker-cycles", "--count", "30"]));
    run(returns_to_where_it_was(&["broker-cycles", "--count", "20", "--hold", "drop"]));
}

async fn returns_to_where_it_was(arguments: &[&str]) {
    let process = Process::start(env!("CARGO_BIN_EXE_probe"), arguments);
    let (threads, descriptors) = numbers(&process.line("before ").await);
    process.says("closed").await;
    // The last sockets are closed a moment after the close, when a pending handshake has ended.
    eventually(&format!("there are {threads} threads and {descriptors} descriptors again"), async || {
        let now = process.last_line("after ").map(|line| numbers(&line));
        now.is_some_and(|now| now.0 <= threads && now.1 <= descriptors)
    })
    .await;
}

fn numbers(line: &str) -> (usize, usize) {
    let (threads, descriptors) = line.split_once(' ').expect("two numbers");
    (threads.parse().expect("a number"), descriptors.trim().parse().expect("a number"))
}
