//! A process without new threads or descriptors for a while: operations that need one fail or wait, and nothing is lost.

use xero_tests::{process::Process, scene::run};

#[test]
fn handles_without_a_thread_fail_with_an_error() {
    for runtime in ["one", "many"] {
        starve("start", runtime, &["worker: true", "client: true", "connecting client: true", "broker: true"]);
    }
}

#[test]
fn blocking_call_without_a_thread_is_not_started_and_the_worker_continues() {
    for runtime in ["one", "many"] {
        starve(
            "call",
            runtime,
            &["maybe executed: Some(false)", "task: Some(1)", "blocking: Some(3)", "dropped: true"],
        );
    }
}

#[test]
fn service_is_dropped_before_drain_returns_even_without_new_threads() {
    for runtime in ["one", "many", "full"] {
        starve("drain", runtime, &["dropped: true"]);
    }
}

#[test]
fn values_of_a_cancelled_inline_call_wait_for_a_thread() {
    for runtime in ["one", "many", "full"] {
        starve("cancel", runtime, &["task: Some(1)", "dropped: true"]);
    }
}

#[test]
fn name_look_up_without_a_thread_is_repeated() {
    for runtime in ["one", "many"] {
        starve("dial", runtime, &["bind: true"]);
    }
}

#[test]
fn io_thread_takes_the_sockets_of_a_blocked_program_without_a_free_descriptor() {
    let lines = ["readers: [Some(\"xero-worker\"), Some(\"xero-worker\")]", "rests: true", "task: Some(1)"];
    starve("take", "one", &lines);
}

#[test]
fn dropped_client_returns_its_descriptors_although_its_runtime_lives() {
    starve("forget", "none", &["uses some: true", "descriptors returned: true"]);
}

/// Runs the program `starved`, which prints these lines.
fn starve(what: &str, runtime: &str, lines: &[&str]) {
    run(async {
        let mut process = Process::start(env!("CARGO_BIN_EXE_starved"), &[what, runtime]);
        for line in lines {
            process.says(line).await;
        }
        process.says("ended: \"well\"").await;
        assert!(process.ended().await.success());
    });
}
