//! Calls that wait at a broker: until their deadline, in turns, and within a bound.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use xero::{Broker, CallError, Candidate, Client, RpcError, Worker, WorkerChoice, proto::message::Peer};
use xero_tests::{
    process::UNNOTICED,
    scene::{
        PATIENCE, bind_broker, broker, client_of, connect, eventually, noting, probe, run, start_of, timed, within,
        worker_of,
    },
    service::{Journal, block_thread},
};

#[test]
fn call_that_arrives_at_a_stalled_broker_keeps_its_remaining_time() {
    #[derive(Debug)]
    struct Slow(Duration, Arc<AtomicBool>);
    impl WorkerChoice for Slow {
        fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
            self.1.store(true, Ordering::Relaxed);
            block_thread(std::mem::take(&mut self.0));
            candidates.next().map(|candidate| candidate.peer)
        }
    }
    run(async {
        let (held_up_for, is_held_up) = (Duration::from_secs(2), Arc::new(AtomicBool::new(false)));
        let settings = Broker::builder().worker_choice(Slow(held_up_for, Arc::clone(&is_held_up)));
        // In memory: messages arrive at once, and are read in the same turn.
        let broker = settings.bind("inproc://held-up-front", "inproc://held-up-back").await.unwrap();
        let _worker = worker_of(&broker).await;
        let client = client_of(&broker).await;
        let first = probe(&client).ping().timeout(PATIENCE).start();
        eventually("the thread is held up", async || is_held_up.load(Ordering::Relaxed)).await;
        let began_at = Instant::now();
        eventually("half of that time is over", async || began_at.elapsed() > held_up_for / 2).await;
        // Counted from before its arrival, its deadline would have passed when it is read.
        assert_eq!(probe(&client).ping().timeout(held_up_for * 9 / 10).await.unwrap(), "pong");
        assert_eq!(first.await.unwrap(), "pong");
    });
}

#[test]
fn waiting_calls_expire_on_time() {
    run(async {
        let (broker, journal) = (broker().await, Journal::new());
        let client = client_of(&broker).await;
        // Nobody offers the service yet.
        let timeout = Duration::from_millis(150);
        let (outcome, took) = timed(probe(&client).ping().timeout(timeout)).await;
        let error = outcome.unwrap_err();
        let CallError::Rpc(RpcError::NoWorker { brokers_missing, .. }) = &error else { panic!("{error}") };
        assert!(
            brokers_missing.is_empty() && error.to_string().ends_with("a broker is connected, without such a worker"),
            "{error}"
        );
        assert!(took >= timeout && took < UNNOTICED, "{took:?}");

        // The only worker is busy.
        let settings = Worker::connect(broker.backend()).concurrency(1).serve(noting(&journal));
        let _worker = start_of(&broker, settings).await;
        let busy = probe(&client).work("busy", 60_000).timeout(2 * PATIENCE).start();
        eventually("it is busy", async || journal.count("busy", "begin") == 1).await;
        let mut calls = JoinSet::new();
        for number in 1..20 {
            let (timeout, call) = (20 * number * Duration::from_millis(1), probe(&client).work("late", 0));
            calls.spawn(async move { (timeout, timed(call.timeout(timeout)).await) });
        }
        for (timeout, (outcome, took)) in within(PATIENCE, calls.join_all()).await {
            let error = outcome.unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { .. })), "{error}");
            assert!(took >= timeout && took < timeout + UNNOTICED, "{took:?} instead of {timeout:?}");
        }
        drop(busy);
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        assert_eq!(journal.count("late", "begin"), 0, "what has expired is not run");
    });
}

#[test]
fn calls_past_the_bound_of_a_broker_fail_at_once_as_overloaded() {
    run(async {
        let (broker, journal) = (bind_broker(Broker::builder().waiting_max(20)).await, Journal::new());
        let settings = Worker::connect(broker.backend()).concurrency(1).serve(noting(&journal));
        let _worker = start_of(&broker, settings).await;
        let clients = [client_of(&broker).await, client_of(&broker).await];
        let busy = probe(&clients[0]).work("busy", 60_000).timeout(2 * PATIENCE).start();
        eventually("it is busy", async || journal.count("busy", "begin") == 1).await;
        let mut calls = JoinSet::new();
        for number in 0..100 {
            calls.spawn(probe(&clients[number % 2]).ping().timeout(PATIENCE).into_future());
        }
        for _ in 0..80 {
            let error = within(UNNOTICED, calls.join_next()).await.unwrap().unwrap().unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::Overloaded { maybe_executed: false, .. })), "{error}");
            let text =
                "`Probe.ping`: overloaded: 20 calls wait for a worker at the broker already; raise its `waiting_max`";
            assert!(error.is_retryable() && error.to_string() == text, "{error}");
        }
        drop(busy);
        for outcome in within(PATIENCE, calls.join_all()).await {
            assert_eq!(outcome.unwrap(), "pong");
        }
    });
}

#[test]
fn calls_beyond_a_clients_credits_wait_at_the_client() {
    run(async {
        let (broker, journal) = (bind_broker(Broker::builder().client_credits(3)).await, Journal::new());
        let _worker = start_of(&broker, Worker::connect(broker.backend()).serve(noting(&journal))).await;
        let client = client_of(&broker).await;
        client.wait_for_worker(PATIENCE).await.unwrap();
        assert_eq!(client.workers()[0].credits, 3);
        let calls: Vec<_> =
            (0..10).map(|_| probe(&client).work("held", 60_000).timeout(2 * PATIENCE).start()).collect();
        eventually("three run", async || journal.count("held", "begin") == 3).await;
        // Another client has credits of its own.
        let other = client_of(&broker).await;
        assert_eq!(probe(&other).ping().timeout(PATIENCE).await.unwrap(), "pong");
        assert_eq!((journal.count("held", "begin"), broker.counters().await.requests), (3, 4));
        // Those that wait go first, so that none of them begins.
        calls.into_iter().rev().for_each(drop);
        eventually("they are cancelled", async || journal.count("held", "dropped") == 3).await;
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
    });
}

#[test]
fn flood_of_one_client_does_not_delay_the_others() {
    run(async {
        let (broker, journal) = (broker().await, Journal::new());
        let settings = Worker::connect(broker.backend()).concurrency(1).serve(noting(&journal));
        let _worker = start_of(&broker, settings).await;
        let (flood, other) = (client_of(&broker).await, client_of(&broker).await);
        let calls: Vec<_> = (0..200).map(|_| probe(&flood).work("flood", 10).timeout(2 * PATIENCE).start()).collect();
        eventually("the broker has them", async || broker.counters().await.requests == 200).await;
        probe(&other).work("other", 0).timeout(2 * PATIENCE).await.unwrap();
        // The worker ran one of the flood, and then the other client had its turn.
        let before = journal.count("flood", "begin");
        assert!(before < 150, "{before} calls of the flood went first");
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn large_arguments_wait_at_the_client_for_their_window() {
    run(async {
        let (broker, journal) = (bind_broker(Broker::builder().window_bytes(1 << 20)).await, Journal::new());
        let _worker = start_of(&broker, Worker::connect(broker.backend()).serve(noting(&journal))).await;
        let client = connect(&broker, Client::builder()).await;
        let mut calls = JoinSet::new();
        for size in 0..40 {
            calls.spawn(probe(&client).length(&vec![0; (300 << 10) + size]).timeout(PATIENCE).into_future());
        }
        // A payload that exceeds the window goes alone.
        calls.spawn(probe(&client).length(&vec![0; 3 << 20]).timeout(PATIENCE).into_future());
        let mut total = 0;
        for outcome in within(PATIENCE, calls.join_all()).await {
            total += outcome.unwrap();
        }
        assert_eq!(total, (0..40).map(|size| (300 << 10) + size).sum::<usize>() + (3 << 20));
    });
}
