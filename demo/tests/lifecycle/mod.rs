//! `demo-lifecycle`, called as an orchestrator calls it.

use std::{
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use crate::process::{Broker, PATIENCE, Process, Run, Worker, free_endpoint};

#[test]
fn port_counts_as_listening_while_a_socket_listens() {
    let (listener, port) = listener();
    assert_eq!(lifecycle(&["listening", &port]).code, 0);
    let (_second, second_port) = self::listener();
    assert_eq!(lifecycle(&["listening", &port, &second_port]).code, 0);

    drop(listener);
    until("nobody listens any more", || lifecycle(&["listening", &port]).code == 1);
}

#[test]
fn port_without_a_listener_is_named_in_the_answer_no() {
    let (_listener, port) = listener();
    for ports in [&[&port, NOBODYS][..], &[NOBODYS, &port], &[NOBODYS]] {
        let run = lifecycle(&[&["listening"], ports].concat());
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert_eq!(run.stderr, "error: nothing listens on port 1\n");
    }
}

#[test]
fn listener_of_ipv6_counts() {
    // Without IPv6, there is nothing to test.
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    assert_eq!(lifecycle(&["listening", &port_of(&listener)]).code, 0);
}

#[test]
fn connection_to_a_peers_port_counts_and_listening_on_it_does_not() {
    let (listener, port) = listener();
    let run = lifecycle(&["connected", &port]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert_eq!(run.stderr, format!("error: no connection to a peer's port {port}\n"));

    let stream = TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).expect("connects");
    assert_eq!(lifecycle(&["connected", &port]).code, 0);
    drop(stream);
    assert_eq!(lifecycle(&["connected", &port]).code, 1);
    drop(listener);
}

#[test]
fn broker_listens_and_its_worker_is_connected_until_the_broker_dies() {
    let mut broker = Broker::start();
    let (front, back) = (port_in(&broker.frontend), port_in(&broker.backend));
    assert_eq!(lifecycle(&["listening", &front, &back]).code, 0);
    let worker = broker.worker();
    until("the worker is connected", || lifecycle(&["connected", &back]).code == 0);
    broker.process.kill();
    until("nobody is connected to the dead broker", || lifecycle(&["connected", &back]).code == 1);
    drop(worker);
}

#[test]
fn drain_ends_when_the_worker_has_finished_its_call() {
    let mut worker = Worker::start(&free_endpoint(), &[]);
    let mut call = worker.start_call(&["slow_succeed", "--args", "0.7"]);
    assert_eq!(call.first_stdout_line(), "partial: \"started\"");
    let run = lifecycle(&["drain", "--pid", &worker.process.pid(), "--timeout", "60"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert!(worker.process.has_ended(), "the drain ended before the worker did");
    let run = call.wait();
    assert_eq!((run.code, run.stdout.as_str()), (0, "partial: \"started\"\nreply: true\n"), "{run:?}");
    let run = worker.process.wait();
    assert!(run.code == 0 && run.stderr.contains("stopped"), "{run:?}");
}

#[test]
fn drain_that_times_out_leaves_the_worker_to_its_caller() {
    let mut worker = Worker::start(&free_endpoint(), &[]);
    let mut call = worker.start_call(&["slow_fail", "--args", "60", "--timeout", "60"]);
    assert_eq!(call.first_stdout_line(), "partial: \"started\"");
    let run = lifecycle(&["drain", "--pid", &worker.process.pid(), "--timeout", "0.5"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.stderr, format!("error: process {} has not ended after 500ms\n", worker.process.pid()));
    assert!(!worker.process.has_ended());

    // Kubernetes sends its own SIGTERM next, the second one for the worker.
    worker.process.signal("TERM");
    assert_eq!(worker.process.wait().code, 130);
    let run = call.wait();
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("the procedure may have run"), "{run:?}");
}

#[test]
fn drain_of_a_missing_process_is_an_error() {
    // More than any Linux process id.
    let run = lifecycle(&["drain", "--pid", "2147483647"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
    assert!(run.stderr.starts_with("error: cannot stop process 2147483647: No such process"), "{run:?}");
}

#[test]
fn mistakes_exit_with_2_and_say_what_is_wrong() {
    for (arguments, said) in [
        (&[][..], "Usage: demo-lifecycle <COMMAND>"),
        (&["ready"], "ready"),
        (&["listening"], "<PORT>"),
        (&["listening", "0"], "'0' for '<PORT>...'"),
        (&["listening", "70000"], "give a whole number from 1 to 65535"),
        (&["connected"], "<PORT>"),
        (&["connected", "http"], "http"),
        (&["connected", "1", "2"], "'2'"),
        (&["drain", "1"], "'1'"),
        (&["drain", "--pid", "0"], "--pid <PID>"),
        (&["drain", "--pid=-1"], "--pid <PID>"),
        (&["drain", "--timeout", "-1"], "give a number of seconds"),
        (&["drain", "--timeout", "soon"], "give a number of seconds"),
    ] {
        let run = lifecycle(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {run:?}");
        assert!(run.stderr.contains(said), "{arguments:?}: {run:?}");
    }
}

#[test]
fn help_explains_questions_and_exit_codes() {
    let run = lifecycle(&["--help"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    for part in
        ["listening", "connected", "drain", "Exit codes:\n    0  ", "\n    1  ", "\n    2  ", "\n  137  ", "\nExamples"]
    {
        assert!(run.stdout.contains(part), "{part:?} in {run:?}");
    }
    let help = lifecycle(&["drain", "--help"]).stdout;
    assert!(["--pid <PID>", "--timeout <SECONDS>", "[default: 35]"].iter().all(|part| help.contains(part)), "{help}");
}

/// A port without a listener: it is reserved for root, and for an obsolete service (RFC 1078).
const NOBODYS: &str = "1";

fn lifecycle(arguments: &[&str]) -> Run {
    Process::start("demo-lifecycle", arguments).wait()
}

/// Listens on every address, so that no other test gets the port on another one.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = port_of(&listener);
    (listener, port)
}

fn port_of(listener: &TcpListener) -> String {
    listener.local_addr().expect("an address").port().to_string()
}

fn port_in(endpoint: &str) -> String {
    endpoint.rsplit(':').next().expect("a port").to_owned()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up_at, "not so: {what}");
        thread::yield_now();
    }
}
