//! What a client or a worker takes from the system it gives back.

use xero_tests::{
    probe,
    scene::{eventually, run},
};

#[test]
fn threads_and_descriptors_return_to_where_they_were_after_50_binds_and_closes() {
    run(async {
        let process = probe!("cycles", "--count", "50");
        let before = process.line("before ").await;
        process.says("closed").await;
        // The last sockets are closed a moment after the close, when a handshake that may be under way has ended.
        let (threads, descriptors) = numbers(&before);
        eventually(&format!("there are {threads} threads and {descriptors} descriptors again"), async || {
            let now = process.last_line("after ");
            now.is_some_and(|now| numbers(&now).0 <= threads && numbers(&now).1 <= descriptors)
        })
        .await;
    });
}

#[test]
fn handles_that_are_dropped_without_a_word_leave_nothing_behind() {
    run(async {
        let process = probe!("cycles", "--count", "20", "--hold", "drop");
        let (threads, descriptors) = numbers(&process.line("before ").await);
        process.says("closed").await;
        eventually(&format!("there are {threads} threads and {descriptors} descriptors again"), async || {
            let now = process.last_line("after ");
            now.is_some_and(|now| numbers(&now).0 <= threads && numbers(&now).1 <= descriptors)
        })
        .await;
    });
}

fn numbers(line: &str) -> (usize, usize) {
    let (threads, descriptors) = line.split_once(' ').expect("two numbers");
    (threads.parse().expect("a number"), descriptors.trim().parse().expect("a number"))
}
