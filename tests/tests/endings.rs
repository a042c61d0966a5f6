//! Early ends: of runtimes, futures, I/O threads, frozen processes. No peer keeps believing otherwise.

use std::{future::IntoFuture, time::Duration};

use tokio::time::Instant;
use xero::{CallError, Candidate, Client, RpcError, Worker, WorkerChoice, proto::message::Peer};
use xero_tests::{
    probe,
    scene::{
        PATIENCE, beating, bind, client, eventually, has_workers, joined, noting, probe, prober, run, runtime, timed,
        within, worker,
    },
    service::{Journal, block_thread},
};

#[test]
fn thawed_client_keeps_its_waiting_workers_and_their_calls() {
    run(async {
        let journal = Journal::new();
        // The client's own expiry is 600 ms; the worker's, by its own setting, far longer.
        let interval = Duration::from_millis(200);
        let mut process =
            probe!("client", "tcp://127.0.0.1:0", "--interval", "200", "--hold", "held", "--hold-for", "3000");
        let endpoint = process.line("bound ").await;
        let worker = Worker::connect(endpoint).heartbeat_interval(interval).liveness(10).serve(noting(&journal));
        let worker = worker.start().unwrap();
        eventually("the call runs", async || journal.count("held", "begin") == 1).await;
        process.freeze();
        let redials = worker.counters().await.redials;
        let frozen_at = Instant::now();
        eventually("twice the client's patience has passed", async || frozen_at.elapsed() > 6 * interval).await;
        process.thaw();
        // The call, which must not run twice, takes longer than the client's expiry.
        process.says(&format!("Ok(Whoami {{ worker: {}", worker.id())).await;
        assert_eq!(worker.counters().await.redials, redials, "the client has dropped its worker");
        assert_eq!((journal.count("held", "begin"), journal.count("held", "dropped")), (1, 0));
        process.kill();
    });
}

#[test]
fn client_with_a_stalled_io_thread_keeps_its_waiting_workers() {
    #[derive(Debug)]
    struct Slow(Duration);
    impl WorkerChoice for Slow {
        fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
            block_thread(std::mem::take(&mut self.0));
            candidates.next().map(|candidate| candidate.peer)
        }
    }
    run(async {
        // More heartbeats arrive meanwhile than one turn reads.
        let (interval, count) = (Duration::from_millis(300), 100);
        let client = bind(beating(interval).worker_choice(Slow(6 * interval))).await;
        let settings = || Worker::connect(client.endpoint()).heartbeat_interval(interval).liveness(10);
        let workers: Vec<_> = (0..count).map(|_| settings().serve(prober()).start().unwrap()).collect();
        has_workers(&client, count).await;
        let (before, began_at) = (client.counters().await, Instant::now());
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        assert!(began_at.elapsed() >= 6 * interval, "the thread was held up");
        assert_eq!(client.counters().await.expired_leases, before.expired_leases);
        has_workers(&client, count).await;
        for worker in &workers {
            assert!(worker.is_connected());
        }
    });
}

#[test]
fn worker_whose_runtime_has_ended_leaves_and_takes_no_more_calls() {
    run(async {
        let client = client().await;
        let theirs = runtime(1);
        let doomed = {
            let _inside = theirs.enter();
            Worker::connect(client.endpoint()).serve(prober()).start().unwrap()
        };
        joined(&client, &doomed).await;
        let good = worker(&client).await;
        theirs.shutdown_background();
        within(PATIENCE, doomed.left()).await;
        has_workers(&client, 1).await;
        for _ in 0..20 {
            assert_eq!(probe(&client).whoami().await.unwrap().worker, good.id());
        }
    });
}

#[test]
fn idempotent_calls_of_a_worker_whose_runtime_ends_run_elsewhere() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let theirs = runtime(1);
        let doomed = {
            let _inside = theirs.enter();
            Worker::connect(client.endpoint()).serve(noting(&journal)).start().unwrap()
        };
        joined(&client, &doomed).await;
        let again = probe(&client).work_again("again", 1_000).timeout(PATIENCE).start();
        let once = probe(&client).work("once", 60_000).timeout(PATIENCE).start();
        eventually("both run", async || journal.count("again", "begin") + journal.count("once", "begin") == 2).await;
        let good = worker(&client).await;
        theirs.shutdown_background();
        assert_eq!(again.await.unwrap().worker, good.id());
        let error = once.await.unwrap_err();
        assert!(error.maybe_executed() && !error.is_retryable(), "{error:?}");
        within(PATIENCE, doomed.left()).await;
    });
}

#[test]
fn dropping_the_future_of_a_served_worker_drains_it() {
    run(async {
        let client = client().await;
        let serving = tokio::spawn(Worker::connect(client.endpoint()).serve(prober()).into_future());
        has_workers(&client, 1).await;
        serving.abort();
        has_workers(&client, 0).await;
    });
}

#[test]
fn procedure_of_an_ended_call_is_not_started() {
    let journal = Journal::new();
    // One thread for blocking procedures.
    let theirs = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    theirs.block_on(async {
        let client = client().await;
        let worker = Worker::connect(client.endpoint()).serve(noting(&journal)).start().unwrap();
        joined(&client, &worker).await;
        let timeout = Duration::from_millis(200);
        let calls: Vec<_> = (0..6).map(|_| probe(&client).block("once", 600).timeout(timeout).start()).collect();
        for call in calls {
            let error = call.await.unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { .. })), "{error}");
        }
        // Draining waits for running calls; calls that had not begun by then never will.
        within(PATIENCE, worker.drain()).await;
        assert_eq!(journal.count("once", "begin"), 1);
    });
}

#[test]
fn waiting_for_a_worker_of_a_closed_client_is_an_error_that_says_so() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        client.close().await;
        let (outcome, time) = timed(client.wait_for_worker(PATIENCE)).await;
        let error = outcome.unwrap_err();
        assert!(error.is_closed() && error.to_string().contains("the client is closed"), "{error}");
        assert!(time < PATIENCE / 2);
        assert!(!client.is_connected() && client.workers().is_empty());
    });
}

#[test]
fn client_whose_io_thread_has_died_does_not_count_as_connected() {
    #[derive(Debug)]
    struct Broken;
    impl WorkerChoice for Broken {
        fn choose(&mut self, _: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
            panic!("a broken choice")
        }
    }
    run(async {
        let client = bind(Client::builder().worker_choice(Broken)).await;
        let _worker = worker(&client).await;
        let error = probe(&client).ping().await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::Crashed { .. })), "{error}");
        assert!(!client.is_connected() && client.workers().is_empty());
        assert!(client.wait_for_worker(PATIENCE).await.is_err());
    });
}

#[test]
fn draining_worker_does_not_count_as_connected() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let worker = Worker::connect(client.endpoint()).serve(noting(&journal)).start().unwrap();
        joined(&client, &worker).await;
        let call = probe(&client).work("slow", 600_000).timeout(2 * PATIENCE).start();
        eventually("it runs", async || journal.count("slow", "begin") == 1).await;
        let draining = tokio::spawn(async move { worker.drain().await });
        has_workers(&client, 0).await;
        assert!(!client.is_connected());
        let error = probe(&client).ping().fail_fast().await.unwrap_err();
        assert!(matches!(&error, CallError::Rpc(RpcError::NoWorker { offered, .. }) if offered.is_empty()), "{error}");
        assert_eq!(journal.count("slow", "dropped"), 0, "it still drains");
        drop(call);
        within(PATIENCE, draining).await.unwrap();
    });
}

#[test]
fn calls_that_wait_for_many_services_delay_no_other() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let waiting: Vec<_> =
            (0..3000).map(|n| client.call(&format!("Nope{n}.ping")).timeout(PATIENCE).start()).collect();
        for _ in 0..20 {
            assert_eq!(probe(&client).ping().timeout(Duration::from_secs(2)).await.unwrap(), "pong");
        }
        drop(waiting);
    });
}

#[test]
fn timeouts_near_the_end_of_the_clock_do_no_harm() {
    run(async {
        let near = [0, 10, 100, 300, 600, 900, 2000].map(Duration::from_micros);
        for before_the_end in near.into_iter().map(Some).chain([None]) {
            let client = client().await;
            let timeout = before_the_end.map_or(Duration::MAX, |time| longest_time() - time);
            // Without a worker, its deadline is the client's next timer.
            let waiting = client.call("Absent.method").timeout(timeout).start();
            within(PATIENCE, client.counters()).await;
            let _worker = worker(&client).await;
            assert_eq!(probe(&client).ping().timeout(timeout).await.unwrap(), "pong");
            drop(waiting);
        }
    });
}

/// The longest time that the clock can add to now.
fn longest_time() -> Duration {
    let now = Instant::now();
    let seconds = (0..64).rev().map(|bit| Duration::from_secs(1 << bit));
    let nanoseconds = (0..30).rev().map(|bit| Duration::from_nanos(1 << bit));
    seconds.chain(nanoseconds).fold(Duration::ZERO, |time, more| {
        time.checked_add(more).filter(|longer| now.checked_add(*longer).is_some()).unwrap_or(time)
    })
}
