//! `demo-broker` with workers and clients, each a process of its own.

use std::{net::TcpListener, time::Duration};

use crate::process::{Broker, Process, Worker, client, connect, free_endpoint, free_port, start_client};

#[test]
fn client_calls_a_worker_through_a_broker() {
    let broker = Broker::start();
    let worker = broker.worker();
    let run = broker.call(&["slow_succeed", "--args", "0.1"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "partial: \"started\"\nreply: true\n"), "{run:?}");
    let run = broker.call(&["whoami", "--json"]);
    assert!(run.stdout.contains(&worker.id), "{run:?}");
    let run = broker.call(&["slow_fail", "--args", "0.1"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains(r#"the procedure returned {"Failed":{"seconds":0.1}}"#), "{run:?}");
    let run = broker.call(&["ping", "--count", "200", "--concurrency", "16"]);
    assert!(run.stderr.contains("200 succeeded, 0 failed"), "{run:?}");
}

#[test]
fn broker_on_every_interface_and_a_socket_file_prints_its_endpoints() {
    let directory = std::env::temp_dir().join(format!("xero-broker-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let backend = format!("ipc://{}", directory.join("back.sock").display());
    let mut broker = Broker::bind("tcp://*:0", &backend);
    let port = broker.frontend.strip_prefix("tcp://*:").expect("every interface");
    assert_ne!(port, "0");
    assert_eq!(broker.backend, backend);
    let _worker = broker.worker();
    let run = connect(&format!("tcp://localhost:{port}"), &["ping"]).wait();
    assert_eq!(run.code, 0, "{run:?}");
    broker.process.signal("TERM");
    assert_eq!(broker.process.wait().code, 0);
    assert_eq!(std::fs::read_dir(&directory).expect("it is there").count(), 0, "the socket file is left behind");
    let _ = std::fs::remove_dir(&directory);
}

#[test]
fn everyone_may_be_started_before_the_broker() {
    let (frontend, backend) = (free_endpoint(), free_endpoint());
    let _worker = Worker::start(&backend, &[]);
    let mut call = connect(&frontend, &["ping", "--wait", "60"]);
    call.wait_for_stderr(&format!("waiting for a broker with a worker at {frontend}\n"));
    let _broker = Broker::bind(&frontend, &backend);
    let run = call.wait();
    assert_eq!((run.code, run.stdout.as_str()), (0, "reply: \"pong\"\n"), "{run:?}");
}

#[test]
fn client_of_two_brokers_uses_the_one_that_runs() {
    let (mut first, mut second) = (Broker::start(), Broker::start());
    let _worker = Worker::start(&first.backend, &[&second.backend]);
    let endpoints = format!("{},{}", first.frontend, second.frontend);
    assert_eq!(connect(&endpoints, &["ping", "--count", "20"]).wait().code, 0);
    first.process.kill();
    let run = connect(&endpoints, &["ping", "--count", "20"]).wait();
    assert_eq!(run.code, 0, "{run:?}");
    second.process.kill();
    let run = connect(&endpoints, &["ping", "--wait", "0.5"]).wait();
    assert_eq!(run.code, 3, "{run:?}");
    let said =
        format!("no broker at {}, {} is connected after 500ms; the log says why", first.frontend, second.frontend);
    assert!(run.stderr.contains(&said), "{run:?}");
}

#[test]
fn stopping_broker_lets_running_calls_end() {
    for signal in ["TERM", "INT"] {
        let mut broker = Broker::start();
        let _worker = broker.worker();
        let mut call = broker.start_call(&["slow_succeed", "--args", "0.7"]);
        assert_eq!(call.first_stdout_line(), "partial: \"started\"");
        broker.process.signal(signal);
        let run = call.wait();
        assert_eq!((run.code, run.stdout.as_str()), (0, "partial: \"started\"\nreply: true\n"), "{run:?}");
        let (run, took) = broker.process.wait_timed();
        assert_eq!(run.code, 0, "{run:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(run.stderr.contains("stopping: ") && run.stderr.contains("stopped"), "{run:?}");
    }
}

#[test]
fn repeated_signal_counts_once() {
    let mut broker = Broker::start();
    let _worker = broker.worker();
    let mut call = broker.start_call(&["slow_succeed", "--args", "0.7"]);
    assert_eq!(call.first_stdout_line(), "partial: \"started\"");
    broker.process.signal_twice();
    let run = call.wait();
    assert_eq!((run.code, run.stdout.as_str()), (0, "partial: \"started\"\nreply: true\n"), "{run:?}");
    assert_eq!(broker.process.wait().code, 0);
}

#[test]
fn second_signal_ends_a_broker_at_once() {
    let mut broker = Broker::start();
    let _worker = broker.worker();
    let mut call = broker.start_call(&["slow_fail", "--args", "60", "--timeout", "60"]);
    assert_eq!(call.first_stdout_line(), "partial: \"started\"");
    broker.process.signal("INT");
    broker.process.wait_for_stderr("stopping: ");
    broker.process.signal_impatiently("INT");
    assert_eq!(broker.process.wait().code, 130);
    let run = call.wait();
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("the procedure may have run"), "{run:?}");
}

#[test]
fn broker_without_workers_is_a_failed_call_that_has_not_run() {
    let broker = Broker::start();
    let run = broker.call(&["ping", "--wait", "1"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:?}");
    let at = &broker.frontend;
    let said =
        format!("no worker for the service `Demo`: the broker at {at} is connected, without any worker after 1s");
    assert!(run.stderr.contains(&said), "{run:?}");
    assert!(run.stderr.contains("the procedure has not run"), "{run:?}");

    let _worker = broker.worker();
    assert_eq!(broker.call(&["ping"]).code, 0);
    let run = broker.call(&["Nope.ping", "--wait", "1"]);
    let said = format!("the broker at {at} is connected, without such a worker after 1s; live workers offer Demo;");
    assert!(run.code == 3 && run.stderr.contains(&said), "{run:?}");
}

#[test]
fn absent_broker_differs_from_one_without_workers() {
    let nowhere = free_endpoint();
    for (wait, after) in [("0.2", " after 200ms; the log says why"), ("0", " yet, or any more")] {
        let run = connect(&nowhere, &["ping", "--wait", wait]).wait();
        let said =
            format!("no worker for the service `Demo`: no broker at {nowhere} is connected{after}; the procedure");
        assert!(run.code == 3 && run.stderr.contains(&said), "{run:?}");
    }
}

#[test]
fn mistakes_of_usage_exit_with_2_and_say_what_to_write() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = format!("tcp://{}", taken.local_addr().expect("an address"));
    let same = format!("tcp://127.0.0.1:{}", free_port(std::net::Ipv4Addr::LOCALHOST));
    let free = "tcp://127.0.0.1:0";
    for (arguments, said) in [
        (&[][..], "<FRONTEND>"),
        (&[free], "<BACKEND>"),
        (&["nowhere", free], "is not an endpoint"),
        (&[free, "tcp://nowhere"], "the port is missing"),
        (&[free, &taken], "the address is in use"),
        (&[&same, &same], "cannot serve both clients and workers"),
    ] {
        let run = Process::start("demo-broker", arguments).wait();
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {run:?}");
        assert!(run.stderr.starts_with("error: ") && run.stderr.contains(said), "{arguments:?}: {run:?}");
    }
    for (arguments, said) in [
        (&["--connect", "tcp://*:5560", "ping"][..], "`*` is for binding"),
        (&["--connect", "tcp://x:1,tcp://x:1", "ping"], "tcp://x:1 is named twice"),
        (&["--connect", "", "ping"], "is not an endpoint"),
        (
            &["--connect", "tcp://x:1,", "ping"],
            "error: --connect: an endpoint is missing beside a comma in \"tcp://x:1,\"",
        ),
        (&["--connect", "tcp://x:1,,tcp://y:1", "ping"], "a comma in "),
        (&["--connect", "tcp://x:1"], "<METHOD>"),
        (&["--connect", "tcp://x:1", free, "ping"], "cannot be used with"),
        (&["--connect", "tcp://x:1", free], "cannot be used with"),
        (&["--connect", "tcp://x:1", "ping", "pong"], "give <METHOD> only"),
        (&["ping"], "<ENDPOINT>"),
    ] {
        let run = client(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {run:?}");
        assert!(run.stderr.contains(said), "{arguments:?}: {run:?}");
    }
}

#[test]
fn peer_at_the_wrong_endpoint_gets_one_clear_error() {
    let mut broker = Broker::start();
    let mut worker = Worker::start(&broker.frontend, &[]);
    worker.process.wait_for_stderr(
        "a worker has connected where clients are expected: the frontend of a broker; workers connect to its backend, the \
         second endpoint",
    );
    let run = connect(&broker.backend, &["ping", "--wait", "1"]).wait();
    let said = "a client has connected where workers are expected: a client that binds, or the backend of a broker; clients \
                connect to a broker's frontend, its first endpoint";
    assert_eq!((run.code, run.stderr.matches(said).count()), (3, 1), "{run:?}");
    for said in ["refused a connection", "a worker has connected", "a client has connected"] {
        broker.process.wait_for_stderr(said);
    }
    // A client that binds is not a broker.
    let binding = free_endpoint();
    let mut binds = start_client(&[&binding, "ping", "--wait", "20"]);
    binds.wait_for_stderr("waiting for a worker at ");
    let run = connect(&binding, &["ping", "--wait", "1"]).wait();
    assert_eq!((run.code, run.stderr.matches(said).count()), (3, 1), "{run:?}");
    // All others are served as before.
    let _right = broker.worker();
    let run = broker.call(&["ping"]);
    assert_eq!(run.code, 0, "{run:?}");
    let _other = Worker::start(&binding, &[]);
    assert_eq!(binds.wait().code, 0);
    worker.process.signal("TERM");
    let run = worker.process.wait();
    assert_eq!((run.code, run.stderr.matches("the connection of this worker was refused").count()), (0, 1), "{run:?}");
}
