//! Clients, workers and brokers that die or freeze, and the ends of their calls.

use std::collections::BTreeSet;

use xero::{Broker, CallError, Client, RpcError, Worker};
use xero_tests::{
    link::Link,
    probe,
    process::{Process, UNNOTICED},
    scene::{
        LONG, PATIENCE, SHORT, bind_broker, broker, client_of, connect, eventually, eventually_within, noting, probe,
        prober, run, start_of, timed, within, worker_of,
    },
    service::Journal,
};

#[test]
fn calls_of_a_client_that_vanishes_are_cancelled_on_the_workers() {
    run(async {
        let (broker, journal) = (bind_broker(Broker::builder().heartbeat_interval(LONG)).await, Journal::new());
        let worker = start_of(&broker, Worker::connect(broker.backend()).serve(noting(&journal))).await;
        let stays = connect(&broker, Client::builder().heartbeat_interval(LONG)).await;
        let kept = probe(&stays).work("kept", 500).timeout(PATIENCE).start();
        let mut leaver = probe!("client", "--connect", broker.frontend(), "--hold", "killed", "--interval", "20000");
        eventually("its call runs", async || journal.count("killed", "begin") == 1).await;
        leaver.kill();
        eventually_within(UNNOTICED, "it is cancelled", async || journal.count("killed", "dropped") == 1).await;
        eventually("the client is gone", async || broker.clients() == 1).await;

        let closes = client_of(&broker).await;
        let call = probe(&closes).work("closed", 60_000).timeout(PATIENCE).start();
        eventually("its call runs", async || journal.count("closed", "begin") == 1).await;
        closes.close().await;
        let error = call.await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::Closed { maybe_executed: true, .. })), "{error}");
        eventually("it is cancelled", async || journal.count("closed", "dropped") == 1).await;
        assert_eq!(kept.await.unwrap().worker, worker.id());
    });
}

#[test]
fn frozen_client_is_dropped_and_served_again_when_it_thaws() {
    run(async {
        let (broker, journal) = (bind_broker(Broker::builder().heartbeat_interval(SHORT)).await, Journal::new());
        let _worker = start_of(&broker, Worker::connect(broker.backend()).serve(noting(&journal))).await;
        let frozen = probe!("client", "--connect", broker.frontend(), "--hold", "frozen", "--interval", "200");
        eventually("its call runs", async || journal.count("frozen", "begin") == 1).await;
        frozen.freeze();
        eventually("it is given up", async || broker.clients() == 0).await;
        eventually("its call is cancelled", async || journal.count("frozen", "dropped") == 1).await;
        assert_eq!(broker.counters().await.expired_leases, 1);
        frozen.thaw();
        eventually("it is back", async || broker.clients() == 1).await;
    });
}

#[test]
fn idempotent_call_that_finds_no_second_worker_says_that_it_may_have_run() {
    run(async {
        let (broker, journal) = (bind_broker(Broker::builder().heartbeat_interval(LONG)).await, Journal::new());
        let client = connect(&broker, Client::builder().heartbeat_interval(LONG).attempts_max(1)).await;
        let path = journal.path().to_string_lossy();
        let mut process = probe!("worker", broker.backend(), "--journal", path, "--interval", "20000");
        client.wait_for_worker(PATIENCE).await.unwrap();
        let again = probe(&client).work_again("again", 60_000).timeout(2 * PATIENCE).start();
        eventually("it runs", async || journal.count("again", "begin") == 1).await;
        process.kill();
        let (error, took) = timed(again).await;
        let error = error.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::WorkerLost { .. })), "{error}");
        assert!(error.maybe_executed() && !error.is_retryable(), "{error}");
        assert!(took < PATIENCE, "{took:?}");
    });
}

#[test]
fn call_of_a_killed_worker_runs_elsewhere_if_idempotent_and_else_is_lost_at_once() {
    run(async {
        let (broker, journal) = (bind_broker(Broker::builder().heartbeat_interval(LONG)).await, Journal::new());
        let client = connect(&broker, Client::builder().heartbeat_interval(LONG)).await;
        let path = journal.path().to_string_lossy();
        let mut process = probe!("worker", broker.backend(), "--journal", path, "--interval", "20000");
        client.wait_for_worker(PATIENCE).await.unwrap();
        let once = probe(&client).work("once", 60_000).timeout(2 * PATIENCE).start();
        let again = probe(&client).work_again("again", 1_000).timeout(2 * PATIENCE).start();
        let began = async || journal.count("once", "begin") + journal.count("again", "begin") == 2;
        eventually("both run", began).await;
        let other = worker_of(&broker).await;
        process.kill();
        let (lost, took) = timed(once).await;
        let lost = lost.unwrap_err();
        assert!(matches!(lost, CallError::Rpc(RpcError::WorkerLost { maybe_executed: true, .. })), "{lost}");
        assert!(took < UNNOTICED, "{took:?}");
        let whoami = again.await.unwrap();
        assert_eq!((whoami.worker, whoami.attempt), (other.id(), 2));
        assert_eq!(journal.count("once", "begin"), 1);
    });
}

#[test]
fn call_of_a_frozen_worker_ends_with_its_lease() {
    run(async {
        let broker = bind_broker(Broker::builder().heartbeat_interval(SHORT)).await;
        let (client, journal) = (client_of(&broker).await, Journal::new());
        let path = journal.path().to_string_lossy();
        let process = probe!("worker", broker.backend(), "--journal", path, "--interval", "200");
        client.wait_for_worker(PATIENCE).await.unwrap();
        let again = probe(&client).work_again("again", 500).timeout(2 * PATIENCE).start();
        eventually("it runs", async || journal.count("again", "begin") == 1).await;
        process.freeze();
        let other = worker_of(&broker).await;
        assert_eq!(again.await.unwrap().worker, other.id());
        assert_eq!(broker.counters().await.workers.expired_leases, 1);
    });
}

#[test]
fn procedures_are_cancelled_when_their_broker_dies() {
    run(async {
        let journal = Journal::new();
        let (mut process, frontend, backend) = broker_process().await;
        let worker = Worker::connect(&backend).heartbeat_interval(LONG).serve(noting(&journal)).start().unwrap();
        let client = Client::builder().heartbeat_interval(LONG).connect(&frontend).unwrap();
        client.wait_for_worker(PATIENCE).await.unwrap();
        let call = probe(&client).work("orphan", 60_000).timeout(2 * PATIENCE).start();
        eventually("it runs", async || journal.count("orphan", "begin") == 1).await;
        process.kill();
        let (error, took) = timed(call).await;
        let error = error.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::WorkerLost { maybe_executed: true, .. })), "{error}");
        assert!(took < UNNOTICED, "{took:?}");
        eventually("it is cancelled", async || journal.count("orphan", "dropped") == 1).await;
        eventually("both know", async || !worker.is_connected() && !client.is_connected()).await;
    });
}

#[test]
fn loss_of_either_of_two_brokers_is_survived() {
    run(async {
        for lost in 0..2 {
            let (first, second) = (broker_process().await, broker_process().await);
            let backends = [&first.2, &second.2];
            let journal = Journal::new();
            let settings = || Worker::connect(backends.map(String::as_str)).heartbeat_interval(LONG);
            let workers = [settings(), settings()].map(|settings| settings.serve(noting(&journal)).start().unwrap());
            let client = Client::builder().heartbeat_interval(LONG).connect([&first.1, &second.1]).unwrap();
            eventually("the client has both brokers and their workers", async || {
                client.workers().iter().filter(|broker| !broker.services.is_empty()).count() == 2
            })
            .await;
            let probe = probe(&client);
            let calls: Vec<_> = (0..8).map(|_| probe.work_again("again", 300).timeout(PATIENCE).start()).collect();
            let waits: Vec<_> = (0..8).map(|_| probe.work("once", 300).timeout(PATIENCE).start()).collect();
            eventually("all run", async || {
                journal.count("again", "begin") + journal.count("once", "begin") == calls.len() + waits.len()
            })
            .await;
            let mut brokers = [first.0, second.0];
            brokers[lost].kill();
            let number = calls.len();
            for call in calls {
                call.await.expect("another broker");
            }
            let retries = client.counters().await.retries as usize;
            assert!(
                (2..=number - 2).contains(&retries),
                "both brokers had several of the calls, not {retries} repeated"
            );
            assert_eq!(journal.count("again", "begin"), number + retries, "only what the lost broker had is repeated");
            for call in waits {
                match call.await {
                    Ok(_) | Err(CallError::Rpc(RpcError::WorkerLost { maybe_executed: true, .. })) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(workers.iter().all(Worker::is_connected));
            let mut served = BTreeSet::new();
            for _ in 0..20 {
                served.insert(probe.whoami().await.unwrap().worker);
            }
            assert_eq!(served, workers.iter().map(Worker::id).collect());
        }
    });
}

#[test]
fn frozen_broker_is_noticed_and_the_other_one_used() {
    run(async {
        let (first, second) = (broker_process_with("200").await, broker_process_with("200").await);
        let settings = Worker::connect([&first.2, &second.2]).heartbeat_interval(SHORT);
        let worker = settings.serve(prober()).start().unwrap();
        let client = Client::builder().heartbeat_interval(SHORT).connect([&first.1, &second.1]).unwrap();
        let has = async |count| client.workers().iter().filter(|broker| !broker.services.is_empty()).count() == count;
        eventually("both are there", async || has(2).await).await;
        first.0.freeze();
        for _ in 0..50 {
            assert_eq!(probe(&client).whoami().timeout(PATIENCE).await.unwrap().worker, worker.id());
        }
        eventually("the frozen one is given up", async || has(1).await).await;
        first.0.thaw();
        eventually("both are there again", async || has(2).await).await;
    });
}

#[test]
fn killed_broker_of_many_calls_loses_none_that_may_be_repeated() {
    run(async {
        let (mut first, second) = (broker_process().await, broker_process().await);
        let settings = || Worker::connect([&first.2, &second.2]).heartbeat_interval(LONG);
        let _workers = [settings(), settings(), settings()].map(|settings| settings.serve(prober()).start().unwrap());
        let client = Client::builder().heartbeat_interval(LONG).connect([&first.1, &second.1]).unwrap();
        eventually("both are there", async || {
            client.workers().iter().filter(|broker| !broker.services.is_empty()).count() == 2
        })
        .await;
        let calls: Vec<_> = (0..500).map(|number| probe(&client).add(number, 1).timeout(PATIENCE).start()).collect();
        first.0.kill();
        for (number, call) in (0..).zip(calls) {
            assert_eq!(within(PATIENCE, call).await.unwrap(), number + 1);
        }
    });
}

#[test]
fn large_payloads_on_slow_links_at_both_sides_of_a_broker_lose_no_peer() {
    run(async {
        // 3 MiB at 3 MB a second take more than the expiry of 600 ms, on each of the two links.
        let broker = bind_broker(Broker::builder().heartbeat_interval(SHORT)).await;
        let (front, back) =
            (Link::narrow(3_000_000).to(broker.frontend()).await, Link::narrow(3_000_000).to(broker.backend()).await);
        let settings = Worker::connect(back).heartbeat_interval(SHORT).serve(prober());
        let worker = start_of(&broker, settings).await;
        let client = Client::builder().heartbeat_interval(SHORT).connect(front).unwrap();
        client.wait_for_worker(PATIENCE).await.unwrap();
        assert_eq!(probe(&client).length(&vec![7; 3 << 20]).timeout(PATIENCE).await.unwrap(), 3 << 20);
        assert_eq!(probe(&client).bytes(3 << 20).timeout(PATIENCE).await.unwrap().len(), 3 << 20);
        let counters = broker.counters().await;
        assert_eq!((counters.expired_leases, counters.workers.expired_leases), (0, 0));
        assert_eq!(client.counters().await.expired_leases + worker.counters().await.expired_leases, 0);
    });
}

/// A broker process that is never silent during a test, and its two endpoints.
async fn broker_process() -> (Process, String, String) {
    broker_process_with("20000").await
}

async fn broker_process_with(interval: &str) -> (Process, String, String) {
    let process = probe!("broker", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "--interval", interval);
    let line = process.line("bound ").await;
    let (frontend, backend) = line.split_once(' ').expect("two endpoints");
    (process, frontend.to_owned(), backend.to_owned())
}

#[test]
fn broker_outlives_peers_that_come_and_go() {
    run(async {
        let broker = broker().await;
        for _ in 0..20 {
            let (worker, client) = (worker_of(&broker).await, client_of(&broker).await);
            assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
            worker.drain().await;
            drop(client);
        }
        eventually("all are gone", async || broker.clients() + broker.workers().len() == 0).await;
    });
}
