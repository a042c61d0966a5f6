//! Defects of connections: which peers are connected, which are gone, and who notices.

use std::{collections::HashSet, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use xero::{CallError, Client, RpcError, Worker, proto::message::Message};
use xero_tests::{
    raw::{self, Dispatcher},
    scene::{
        LONG, PATIENCE, Port, beating, bind, client, eventually, eventually_within, has_workers, joined, noting, probe,
        prober, run, start, timed, within, worker,
    },
    service::Journal,
};

#[test]
fn d04_goodbye_reaches_the_other_side_at_every_clean_stop() {
    run(async {
        let dispatcher = Dispatcher::bind().await;
        for _ in 0..10 {
            let worker = Worker::connect(&dispatcher.endpoint).serve(prober()).start().unwrap();
            let mut link = dispatcher.register().await;
            assert!(worker.wait_for_client(PATIENCE).await);
            let draining = tokio::spawn(async move { worker.drain().await });
            assert_eq!(link.receive_news().await, Some(Message::Drain));
            assert_eq!(link.receive_news().await, Some(Message::Goodbye));
            drop(link);
            within(PATIENCE, draining).await.unwrap();
        }
        for _ in 0..10 {
            let client = client().await;
            let mut link = raw::worker(client.endpoint(), raw::ready()).await;
            let closing = tokio::spawn(async move { client.close().await });
            assert_eq!(link.receive_news().await, Some(Message::Goodbye));
            drop(link);
            within(PATIENCE, closing).await.unwrap();
        }
    });
}

#[test]
fn d05_worker_of_a_client_that_stops_serves_the_next_one_without_waiting_for_silence() {
    run(async {
        let port = Port::reserve();
        let client = beating(LONG).bind(port.endpoint()).await.unwrap();
        let worker = start(&client, Worker::connect(port.endpoint()).heartbeat_interval(LONG)).await;
        for _ in 0..3 {
            client.close().await;
        }
        let client = beating(LONG).bind(port.endpoint()).await.unwrap();
        // Long before the first heartbeat could be missed.
        eventually_within(LONG / 2, "the worker is back", async || xero_tests::scene::has(&client, &worker)).await;
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
    });
}

#[test]
fn d08_losing_the_last_worker_means_not_connected() {
    run(async {
        let client = client().await;
        for _ in 0..3 {
            let worker = worker(&client).await;
            client.wait_for_worker(PATIENCE).await.unwrap();
            assert!(client.is_connected());
            worker.drain().await;
            has_workers(&client, 0).await;
            assert!(!client.is_connected());
            let wait = Duration::from_millis(100);
            let (outcome, time) = timed(client.wait_for_worker(wait)).await;
            outcome.unwrap_err();
            assert!(time >= wait, "gave up after {time:?}");
        }
    });
}

#[test]
fn d10_replacement_serves_before_the_dead_worker_expires() {
    run(async {
        let client = bind(beating(LONG)).await;
        // It sends nothing more, and its lease is long.
        let mut silent = raw::worker(client.endpoint(), raw::ready()).await;
        let _stuck = probe(&client).ping().start();
        silent.receive_request().await;

        let replacement = worker(&client).await;
        assert_eq!(client.workers().len(), 2);
        assert_eq!(probe(&client).whoami().await.unwrap().worker, replacement.id());

        // The same process over a second connection, as after a cut that only one side has noticed.
        let ready = raw::Ready { incarnation: replacement.id(), ..raw::ready() };
        let _again = raw::worker(client.endpoint(), ready).await;
        has_workers(&client, 3).await;
    });
}

#[test]
fn d11_worker_notices_the_loss_of_its_client_and_sends_the_next_one_no_old_replies() {
    run(async {
        let port = Port::reserve();
        let (journal, client) = (Journal::new(), Client::bind(port.endpoint()).await.unwrap());
        let worker = Worker::connect(port.endpoint()).serve(noting(&journal)).start().unwrap();
        let old = probe(&client).work("old", 60_000).timeout(PATIENCE).start();
        eventually("the procedure runs", async || journal.count("old", "begin") == 1).await;
        assert!(worker.is_connected());

        client.close().await;
        let error = old.await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::Closed { maybe_executed: true, .. })), "{error}");
        eventually("the worker knows", async || !worker.is_connected()).await;
        eventually("work for the lost client stops", async || journal.count("old", "dropped") == 1).await;

        let client = Client::bind(port.endpoint()).await.unwrap();
        joined(&client, &worker).await;
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
        let counters = client.counters().await;
        assert_eq!((counters.unsolicited_replies, counters.late_replies), (0, 0));
    });
}

#[test]
fn d12_nothing_piles_up_for_a_client_that_does_not_answer() {
    run(async {
        let dispatcher = Dispatcher::bind().await;
        let (interval, pause) = (Duration::from_millis(20), Duration::from_millis(1));
        let worker = Worker::connect(&dispatcher.endpoint).heartbeat_interval(interval).backoff(pause, 5 * pause);
        let _worker = worker.serve(prober()).start().unwrap();
        for _ in 0..5 {
            let mut link = dispatcher.accept().await;
            let mut received = Vec::new();
            while let Some(message) = link.receive().await {
                received.push(message);
            }
            assert!(matches!(received[..], [Message::Ready(_)]), "{received:?}");
        }
    });
}

#[test]
fn d19_stopping_is_quick_and_may_be_requested_several_times_at_once() {
    run(async {
        // The quickest of a few rounds, so that a busy machine does not matter.
        let mut quickest = PATIENCE;
        for _ in 0..5 {
            let client = bind(beating(LONG)).await;
            let worker = start(&client, Worker::connect(client.endpoint()).heartbeat_interval(LONG)).await;
            let mut stops = JoinSet::new();
            let begin = Instant::now();
            for _ in 0..4 {
                let worker = worker.clone();
                stops.spawn(async move { worker.drain().await });
            }
            within(PATIENCE, stops.join_all()).await;
            let mut stops = JoinSet::new();
            for _ in 0..4 {
                let client = client.clone();
                stops.spawn(async move { client.close().await });
            }
            within(PATIENCE, stops.join_all()).await;
            quickest = quickest.min(begin.elapsed());
        }
        assert!(quickest < Duration::from_millis(400), "stopped after {quickest:?}");
    });
}

#[test]
fn d20_worker_dials_with_fresh_identities_and_ever_longer_pauses_and_queues_are_bounded() {
    run(async {
        let dispatcher = Dispatcher::bind().await;
        let first = Duration::from_millis(20);
        let worker = Worker::connect(&dispatcher.endpoint).backoff(first, 16 * first);
        let worker = worker.serve(prober()).start().unwrap();
        let mut identities = HashSet::new();
        let begin = Instant::now();
        for _ in 0..12 {
            let link = dispatcher.accept().await;
            assert!(identities.insert(link.identity.clone()), "an identity came twice");
            assert_eq!(link.identity.len(), 16);
        }
        // The pauses are random parts of 20, 40, 80, 160 ms and then 320 ms; the chance that all are close to zero is
        // below one in ten million.
        assert!(begin.elapsed() > 5 * first, "12 dials within {:?}", begin.elapsed());
        assert!(worker.counters().await.redials >= 11);

        let client = bind(Client::builder().waiting_max(10)).await;
        let waiting: Vec<_> = (0..10).map(|_| probe(&client).ping().timeout(PATIENCE).start()).collect();
        let (outcome, time) = timed(probe(&client).ping().timeout(PATIENCE)).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::Overloaded { maybe_executed: false, .. })), "{error}");
        assert!(time < PATIENCE / 2);
        let _worker = xero_tests::scene::worker(&client).await;
        for call in waiting {
            assert_eq!(call.await.unwrap(), "pong");
        }
    });
}
