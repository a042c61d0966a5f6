//! The demo's commands as a user runs them: real processes, real sockets, exit codes.

mod broker;
#[cfg(target_os = "linux")]
mod lifecycle;
mod process;
mod readme;

use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use process::{Process, Run, Worker, client, free_endpoint, start_client};

// Every example of the Python original and of its containers, against a long-running worker.

#[test]
fn ping_replies_pong() {
    let run = client_with_worker(&["ping"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "reply: \"pong\"\n"), "{run:?}");
}

#[test]
fn return_none_replies_null() {
    let run = client_with_worker(&["return_none"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "reply: null\n"), "{run:?}");
}

#[test]
fn compare_takes_arguments_by_position_and_by_name() {
    let worker = Worker::start(&free_endpoint(), &[]);
    for (arguments, reply) in [
        (["--args", r#""apple", "orange""#], "reply: [false,2]\n"),
        (["--args", r#"["apple", "apple"]"#], "reply: [true,1]\n"),
        (["--kwargs", r#""str1":"apple", "str2":"orange""#], "reply: [false,2]\n"),
        (["--kwargs", r#"{"str2":"apple", "str1":"apple"}"#], "reply: [true,1]\n"),
    ] {
        let run = worker.call(&[&["compare"], &arguments[..]].concat());
        assert_eq!((run.code, run.stdout.as_str()), (0, reply), "{run:?}");
    }
}

#[test]
fn unknown_method_is_a_failed_call_that_has_not_run() {
    let run = client_with_worker(&["invalid_request"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:?}");
    assert!(run.stderr.contains("error: unknown method: service `Demo` has no method `invalid_request`"), "{run:?}");
    assert!(run.stderr.contains("the procedure has not run"), "{run:?}");
}

#[test]
fn slow_succeed_starts_and_succeeds() {
    let run = client_with_worker(&["slow_succeed", "--args", "0.2", "--timeout", "20"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "partial: \"started\"\nreply: true\n"), "{run:?}");
}

#[test]
fn slow_fail_starts_and_exits_with_1() {
    let run = client_with_worker(&["slow_fail", "--args", "0.2", "--timeout", "20"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, "partial: \"started\"\n"), "{run:?}");
    assert!(run.stderr.contains(r#"error: the procedure returned {"Failed":{"seconds":0.2}}"#), "{run:?}");
}

#[test]
fn every_interface_of_port_5550_is_bound_by_the_containers_command() {
    // If another process on this machine has the port, use a free one.
    let port = TcpListener::bind("0.0.0.0:5550").map_or_else(|_| process::free_port(Ipv4Addr::UNSPECIFIED), |_| 5550);
    let worker = Worker::start(&format!("tcp://localhost:{port}"), &[]);
    let run = client(&[&format!("tcp://*:{port}"), "ping", "--count", "20", "--wait", "20"]);
    assert_eq!((run.code, run.stdout.lines().count()), (0, 20), "{run:?}");
    assert!(run.stderr.contains(&format!("waiting for a worker at tcp://*:{port}\n")), "{run:?}");
    assert!(run.stderr.contains("20 calls in "), "{run:?}");
    drop(worker);
}

#[test]
fn ipc_endpoint_serves_as_well() {
    let path = std::env::temp_dir().join(format!("xero-demo-{}.sock", std::process::id()));
    let worker = Worker::start(&format!("ipc://{}", path.display()), &[]);
    let run = worker.call(&["echo", "--args", r#""over a file""#]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "reply: \"over a file\"\n"), "{run:?}");
}

// What is printed.

#[test]
fn json_lines_are_objects_with_one_thing_each() {
    let worker = Worker::start(&free_endpoint(), &[]);
    let run = worker.call(&["slow_succeed", "--args", "0.1", "--json"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "{\"partial\":\"started\"}\n{\"reply\":true}\n"), "{run:?}");

    let run = worker.call(&["slow_fail", "--args", "0.1", "--json"]);
    let lines = run.json_lines();
    assert_eq!((run.code, lines.len()), (1, 2), "{run:?}");
    assert_eq!(lines[1]["error"]["kind"], "application");
    assert_eq!(lines[1]["error"]["value"]["Failed"]["seconds"], 0.1);

    let run = worker.call(&["dance", "--json"]);
    let lines = run.json_lines();
    assert_eq!((run.code, lines.len()), (3, 1), "{run:?}");
    assert_eq!(lines[0]["error"]["kind"], "unknown_method");
    assert_eq!(lines[0]["error"]["maybe_executed"], false);
}

#[test]
fn several_calls_end_with_a_summary() {
    let worker = Worker::start(&free_endpoint(), &[]);
    let run = worker.call(&["ping", "--count", "50", "--concurrency", "5"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "reply: \"pong\"\n".repeat(50).as_str()), "{run:?}");
    for part in ["50 calls in ", "50 succeeded, 0 failed", " calls/s; p50 ", " ms, p99 "] {
        assert!(run.stderr.contains(part), "{part} in {run:?}");
    }

    let run = worker.call(&["ping", "--count", "50", "--concurrency", "5", "--json"]);
    let lines = run.json_lines();
    assert_eq!((run.code, lines.len()), (0, 51), "{run:?}");
    let mut calls: Vec<_> = lines[..50].iter().filter_map(|line| line["call"].as_u64()).collect();
    calls.sort_unstable();
    assert_eq!(calls, (1..=50).collect::<Vec<_>>());
    assert_eq!(lines[50]["summary"]["succeeded"], 50);
    assert!(lines[50]["summary"]["p99_ms"].as_f64() >= lines[50]["summary"]["p50_ms"].as_f64());
}

#[test]
fn calls_of_a_run_overlap_up_to_the_concurrency() {
    let run = client_with_worker(&["slow_succeed", "--args", "1", "--count", "8", "--concurrency", "8", "--json"]);
    let lines = run.json_lines();
    let first_reply = lines.iter().position(|line| line.get("reply").is_some());
    assert_eq!((run.code, first_reply), (0, Some(8)), "all eight start before the first ends: {run:?}");
}

#[test]
fn reader_that_closes_its_pipe_ends_the_run_quietly() {
    let worker = Worker::start(&free_endpoint(), &[]);
    let mut process = start_client(&[&worker.endpoint, "ping", "--count", "-1", "--wait", "20"]);
    process.first_stdout_line();
    process.close_stdout();
    let run = process.wait();
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("error"), "{run:?}");
}

// Usage.

#[test]
fn mistake_in_arguments_is_shown_with_its_position() {
    let run = client(&["tcp://127.0.0.1:0", "compare", "--args", r#""apple" "orange""#]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
    let shown = "error: --args: expected `,` or the end at character 9\n  \"apple\" \"orange\"\n          ^\n";
    assert_eq!(run.stderr, shown);
    let run = client(&["tcp://127.0.0.1:0", "compare", "--kwargs", "str1: 'apple'"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.starts_with("error: --kwargs: expected a name in double quotes at character 1\n"), "{run:?}");
}

#[test]
fn arguments_are_never_code() {
    let run = client(&["tcp://127.0.0.1:0", "echo", "--args", "__import__('os').getpid()"]);
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn usage_errors_exit_with_2_and_say_what_to_write() {
    let endpoint = "tcp://127.0.0.1:0";
    for (arguments, said) in [
        (&[endpoint][..], "error: <METHOD> is missing\n\nUsage: demo-client [OPTIONS] <ENDPOINT> <METHOD>\n"),
        (&["--wait", "1", endpoint], "error: <METHOD> is missing"),
        (&["ping"], "error: <ENDPOINT> is missing"),
        (&[], "error: <ENDPOINT> <METHOD> is missing"),
        (&[endpoint, "ping", "--wait", "1", "pong"], "unexpected argument 'pong'"),
        (&[endpoint, "ping", "--args", "1", "--kwargs", "\"a\":1"], "cannot be used with"),
        (&[endpoint, "ping", "--count", "0"], "give 1 or more, or -1"),
        (&[endpoint, "ping", "--count", "-2"], "give a whole number of 1 or more, or -1"),
        (&[endpoint, "ping", "--timeout", "0"], "more than 0 seconds"),
        (&[endpoint, "ping", "--timeout", "-1"], "give a number of seconds"),
        (&[endpoint, "ping", "--wait", "NaN"], "give a number of seconds"),
        (&[endpoint, "ping", "--timeout", "1e30"], "and at most 1,000,000,000"),
        (&[endpoint, "ping", "--concurrency", "0"], "give a whole number from 1 to 65535"),
        (&[endpoint, "ping", "--concurrency", "x"], "give a whole number from 1 to 65535"),
        (
            &["inproc://here", "ping"],
            "error: inproc://here is within one process, and this program is alone in its own",
        ),
        (&["--connect", "tcp://x:1,inproc://here", "ping"], "error: inproc://here is within one process"),
        (&["tcp://*", "ping"], "the port is missing"),
        (&["nonsense", "ping"], "is not an endpoint"),
    ] {
        let run = client(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {run:?}");
        assert!(run.stderr.contains(said), "{arguments:?}: {run:?}");
    }
}

#[test]
fn options_may_stand_anywhere() {
    let worker = Worker::start(&free_endpoint(), &[]);
    let endpoint = worker.endpoint.as_str();
    for arguments in [
        [endpoint, "ping", "--wait", "30", "--timeout=20"],
        [endpoint, "--wait", "30", "ping", "--timeout=20"],
        ["--wait", "30", endpoint, "--timeout=20", "ping"],
        ["--timeout=20", "--wait", "30", endpoint, "ping"],
    ] {
        let run = client(&arguments);
        assert_eq!((run.code, run.stdout.as_str()), (0, "reply: \"pong\"\n"), "{arguments:?}: {run:?}");
    }
}

#[test]
fn help_has_the_exit_codes_and_an_example() {
    for command in ["demo-client", "demo-worker", "demo-broker"] {
        let run = Process::start(command, &["--help"]).wait();
        assert_eq!(run.code, 0, "{command}: {run:?}");
        for said in ["\nExit codes:\n    0  ", "\n    2  ", "\n  130  ", "\nExample", &format!("\n    {command} ")] {
            assert!(run.stdout.contains(said), "{command}: {said}: {}", run.stdout);
        }
    }
}

#[test]
fn endpoint_in_use_exits_with_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = taken.local_addr().expect("is bound").port();
    let run = client(&[&format!("tcp://127.0.0.1:{port}"), "ping"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("error: "), "{run:?}");
}

#[test]
fn worker_refuses_a_malformed_endpoint() {
    for endpoint in ["tcp://nowhere", "tcp://*:5550", "tcp://127.0.0.1:0", "inproc://here", ""] {
        let run = Process::start("demo-worker", &[endpoint]).wait();
        assert_eq!(run.code, 2, "{endpoint}: {run:?}");
        assert!(run.stderr.starts_with("error: "), "{endpoint}: {run:?}");
    }
    assert_eq!(Process::start("demo-worker", &[]).wait().code, 2);
    assert_eq!(Process::start("demo-worker", &["tcp://127.0.0.1:1", "--concurrency", "0"]).wait().code, 2);
}

// Calls that fail, and say whether they may have run.

#[test]
fn no_worker_is_a_failed_call_after_the_wait() {
    let run = client(&["tcp://127.0.0.1:0", "ping", "--wait", "0.1"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:?}");
    assert!(run.stderr.contains("waiting for a worker at tcp://127.0.0.1:"), "{run:?}");
    assert!(run.stderr.contains("error: no worker for the service `Demo`: none came to tcp://127.0.0.1:"), "{run:?}");
    assert!(run.stderr.contains(" within 100ms; the procedure has not run"), "{run:?}");
}

#[test]
fn missing_worker_without_a_wait_is_an_error_without_a_time() {
    let run = client(&["tcp://127.0.0.1:0", "ping", "--wait", "0"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:?}");
    let said = "error: no worker for the service `Demo`: none is connected to tcp://127.0.0.1:";
    assert!(run.stderr.starts_with(said) && !run.stderr.contains("0ns"), "{run:?}");
}

#[test]
fn service_that_nobody_offers_is_a_failed_call() {
    let run = client_with_worker(&["Nope.ping", "--wait", "0.5"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("no worker for the service `Nope`"), "{run:?}");
}

#[test]
fn deadline_is_a_failed_call_that_may_have_run() {
    let run = client_with_worker(&["slow_succeed", "--args", "60", "--timeout", "0.2"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, "partial: \"started\"\n"), "{run:?}");
    assert!(run.stderr.contains("the deadline of 200ms has passed; the procedure may have run"), "{run:?}");
}

#[test]
fn killed_worker_is_a_failed_call_that_may_have_run() {
    let mut worker = Worker::start(&free_endpoint(), &[]);
    let mut process = worker.start_call(&["slow_fail", "--args", "60", "--timeout", "60"]);
    assert_eq!(process.first_stdout_line(), "partial: \"started\"");
    worker.process.kill();
    let run = process.wait();
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("was lost before it replied"), "{run:?}");
    assert!(run.stderr.contains("the procedure may have run"), "{run:?}");
}

#[test]
fn wrong_arguments_are_a_failed_call_that_has_not_run() {
    let worker = Worker::start(&free_endpoint(), &[]);
    for arguments in [["--args", "1, 2"], ["--args", "\"only one\""], ["--kwargs", r#""str1":"a", "str3":"b""#]] {
        let run = worker.call(&[&["compare"], &arguments[..]].concat());
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.stderr.contains("error: invalid arguments of `Demo.compare`: "), "{run:?}");
        assert!(run.stderr.contains("the procedure has not run"), "{run:?}");
    }
    for arguments in [["--args", "1"], ["--kwargs", "\"a\":1"]] {
        let run = worker.call(&[&["ping"], &arguments[..]].concat());
        assert!(run.stderr.contains("the method takes no arguments, but some were given"), "{run:?}");
    }
}

#[test]
fn seconds_out_of_range_are_the_methods_own_error() {
    let worker = Worker::start(&free_endpoint(), &[]);
    for seconds in ["-1", "1e300", "86401"] {
        let run = worker.call(&["slow_succeed", "--args", seconds]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.contains("InvalidSeconds"), "{run:?}");
    }
    assert_eq!(worker.call(&["ping"]).code, 0, "the worker is well");
}

#[test]
fn worst_of_several_calls_decides_the_exit_code() {
    let run = client_with_worker(&["slow_fail", "--args", "0", "--count", "5"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("0 succeeded, 5 failed"), "{run:?}");
}

// Signals.

#[test]
fn idle_worker_exits_with_0_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let mut worker = Worker::start(&free_endpoint(), &[]);
        assert_eq!(worker.call(&["ping"]).code, 0);
        worker.process.signal(signal);
        let (run, took) = worker.process.wait_timed();
        assert_eq!(run.code, 0, "{signal}: {run:?}");
        assert!(took < Duration::from_secs(1), "{signal}: {took:?}");
        assert!(run.stderr.contains("stopped"), "{signal}: {run:?}");
    }
}

#[test]
fn idle_worker_without_a_client_exits_at_once() {
    let mut worker = Worker::start(&free_endpoint(), &[]);
    worker.process.signal("TERM");
    let (run, took) = worker.process.wait_timed();
    assert_eq!(run.code, 0, "{run:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn worker_finishes_its_call_before_it_exits() {
    let mut worker = Worker::start(&free_endpoint(), &[]);
    let mut process = worker.start_call(&["slow_succeed", "--args", "0.7"]);
    assert_eq!(process.first_stdout_line(), "partial: \"started\"");
    worker.process.signal("TERM");
    let run = process.wait();
    assert_eq!((run.code, run.stdout.as_str()), (0, "partial: \"started\"\nreply: true\n"), "{run:?}");
    assert_eq!(worker.process.wait().code, 0);
}

#[test]
fn second_signal_ends_a_worker_at_once() {
    let mut worker = Worker::start(&free_endpoint(), &[]);
    let mut process = worker.start_call(&["slow_fail", "--args", "60", "--timeout", "60"]);
    assert_eq!(process.first_stdout_line(), "partial: \"started\"");
    worker.process.signal("INT");
    worker.process.wait_for_stderr("stopping: ");
    worker.process.signal_impatiently("INT");
    assert_eq!(worker.process.wait().code, 130);
    assert_eq!(process.wait().code, 3);
}

#[test]
fn repeated_signal_counts_once() {
    let mut worker = Worker::start(&free_endpoint(), &[]);
    let mut process = worker.start_call(&["slow_succeed", "--args", "0.7"]);
    assert_eq!(process.first_stdout_line(), "partial: \"started\"");
    worker.process.signal_twice();
    let run = process.wait();
    assert_eq!((run.code, run.stdout.as_str()), (0, "partial: \"started\"\nreply: true\n"), "{run:?}");
    assert_eq!(worker.process.wait().code, 0);
}

#[test]
fn interrupted_run_ends_with_its_summary() {
    let worker = Worker::start(&free_endpoint(), &[]);
    for signal in ["INT", "TERM"] {
        let mut process = worker.start_call(&["ping", "--count", "-1"]);
        process.first_stdout_line();
        process.signal(signal);
        let run = process.wait();
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stderr.contains("0 failed") && run.stderr.contains("; interrupted"), "{run:?}");
    }
}

#[test]
fn interrupted_before_any_call_has_ended_exits_with_130() {
    let mut process = start_client(&["tcp://127.0.0.1:0", "ping", "--wait", "60"]);
    process.wait_for_stderr("waiting for a worker");
    process.signal("INT");
    let run = process.wait();
    assert_eq!((run.code, run.stdout.as_str()), (130, ""), "{run:?}");
    assert!(run.stderr.contains("error: interrupted; the procedure has not run"), "{run:?}");
}

#[test]
fn interrupted_single_call_says_so() {
    for json in [false, true] {
        let worker = Worker::start(&free_endpoint(), &[]);
        let mut arguments = vec!["slow_succeed", "--args", "30", "--timeout", "60"];
        arguments.extend(json.then_some("--json"));
        let mut process = worker.start_call(&arguments);
        process.first_stdout_line();
        process.signal("INT");
        let run = process.wait();
        let said = if json { &run.stdout } else { &run.stderr };
        assert!(run.code == 130 && said.contains("interrupted; the procedure may have run"), "{run:?}");
    }
}

#[test]
fn empty_method_is_refused() {
    for method in ["", "Demo."] {
        let run = client(&["tcp://*:0", method]);
        assert!(run.code == 2 && run.stderr.contains("<METHOD> is empty"), "{run:?}");
    }
}

// Workers and clients that come and go.

#[test]
fn worker_serves_one_client_after_another() {
    let worker = Worker::start(&free_endpoint(), &[]);
    let replies: Vec<_> = (0..3).map(|_| worker.call(&["whoami", "--json"]).stdout).collect();
    assert!(replies[0].contains(&worker.id), "{replies:?}");
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
}

#[test]
fn worker_serves_two_clients_at_once() {
    let (first, second) = (free_endpoint(), free_endpoint());
    let worker = Worker::start(&first, &[&second]);
    let mut slow = worker.start_call(&["slow_succeed", "--args", "1"]);
    assert_eq!(slow.first_stdout_line(), "partial: \"started\"");
    let run = client(&[&second, "ping", "--wait", "20"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(slow.wait().code, 0);
}

#[test]
fn worker_of_concurrency_1_runs_one_call_after_another() {
    let worker = Worker::start(&free_endpoint(), &["--concurrency", "1"]);
    let run = worker.call(&["slow_succeed", "--args", "0.1", "--count", "3", "--concurrency", "3", "--json"]);
    let seconds = run.json_lines().last().and_then(|line| line["summary"]["seconds"].as_f64());
    assert!(seconds.is_some_and(|seconds| seconds >= 0.3), "three times 0.1 s: {run:?}");
}

// The tour.

#[test]
fn tour_succeeds_and_leaves_no_process() {
    let run = Process::start("xero-demo", &[]).wait();
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    for said in
        ["\"pong\"", "unknown method", "is killed (SIGKILL)", "\"started\" comes again", "may have run", ", new"]
    {
        assert!(run.stdout.contains(said), "{said} in {}", run.stdout);
    }
    assert!(run.stdout.trim_end().lines().last().is_some_and(|line| line.starts_with("Everything went as described")));
    process::assert_gone(&process::pids_in(&run.stdout));
}

#[test]
fn interrupted_tour_stops_its_workers() {
    let mut tour = Process::start("xero-demo", &[]);
    tour.wait_for_stdout("all three have registered");
    tour.signal("INT");
    let run = tour.wait();
    assert_eq!(run.code, 130, "{run:?}");
    process::assert_gone(&process::pids_in(&run.stdout));
}

#[test]
fn killed_tour_leaves_no_worker() {
    let mut tour = Process::start("xero-demo", &[]);
    tour.wait_for_stdout("all three have registered");
    tour.kill();
    let run = tour.wait();
    process::assert_gone(&process::pids_in(&run.stdout));
}

/// Runs the client once against a worker of its own.
fn client_with_worker(arguments: &[&str]) -> Run {
    Worker::start(&free_endpoint(), &[]).call(arguments)
}
