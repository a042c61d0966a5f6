//! A slow peer is not dead, and a dead one is noticed: peers that are killed, frozen, blocked or cut off.

use std::time::Duration;

use tokio::{runtime::Runtime, time::Instant};
use xero::{CallError, Client, RpcError, Worker, WorkerBuilder, proto::message::Message};
use xero_tests::{
    link::Link,
    probe,
    process::UNNOTICED,
    raw::{self, Dispatcher},
    scene::{
        LONG, PATIENCE, SHORT, beating, bind, eventually, eventually_within, has_workers, joined, noting, probe,
        prober, run, runtime, start,
    },
    service::{Journal, block_thread},
};

#[test]
fn killed_worker_is_noticed_at_once_by_its_connection() {
    run(async {
        let client = bind(beating(LONG)).await;
        let mut process = probe!("worker", client.endpoint(), "--interval", "20000");
        has_workers(&client, 1).await;
        process.kill();
        eventually_within(UNNOTICED, "the worker is missed", async || !client.is_connected()).await;
        assert_eq!(client.counters().await.expired_leases, 0);
    });
}

#[test]
fn idempotent_call_of_a_killed_worker_finishes_on_another() {
    run(async {
        let client = bind(beating(LONG)).await;
        let journal = Journal::new();
        let path = journal.path().to_string_lossy();
        let start = || probe!("worker", client.endpoint(), "--interval", "20000", "--journal", path);
        let first = start();
        // One after the other: in the order of their registration they get the calls.
        has_workers(&client, 1).await;
        let mut processes = [first, start()];
        has_workers(&client, 2).await;
        // At most once: this one must not run again, although the same death ends it.
        let once = probe(&client).work("once", 60_000).timeout(2 * PATIENCE).start();
        eventually("it runs", async || journal.count("once", "begin") == 1).await;
        let again = probe(&client).work_again("again", 1000).timeout(PATIENCE).start();
        eventually("it runs", async || journal.count("again", "begin") == 1).await;

        processes[1].kill();
        let whoami = again.await.unwrap();
        assert_eq!((whoami.process, whoami.attempt), (processes[0].id(), 2));
        assert_eq!((journal.count("again", "begin"), journal.count("again", "end")), (2, 1));
        assert_eq!(client.counters().await.retries, 1);

        processes.iter_mut().for_each(|process| process.kill());
        let error = once.await.unwrap_err();
        assert!(
            matches!(error, CallError::Rpc(RpcError::WorkerLost { attempts: 1, maybe_executed: true, .. })),
            "{error}"
        );
        assert_eq!(journal.count("once", "begin"), 1);
    });
}

#[test]
fn frozen_worker_expires_with_its_lease_and_serves_again_once_thawed() {
    run(async {
        let client = bind(beating(SHORT)).await;
        let process = probe!("worker", client.endpoint(), "--interval", "200");
        has_workers(&client, 1).await;
        let call = probe(&client).work("frozen", 60_000).timeout(2 * PATIENCE).start();
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");

        let frozen_at = Instant::now();
        process.freeze();
        has_workers(&client, 0).await;
        let noticed_after = frozen_at.elapsed();
        // 3 intervals of silence after the last message, which is at most one interval old.
        assert!(noticed_after >= 2 * SHORT, "noticed after {noticed_after:?}");
        assert!(noticed_after < 4 * SHORT + UNNOTICED, "noticed after {noticed_after:?}");
        assert_eq!(client.counters().await.expired_leases, 1);
        let error = call.await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::WorkerLost { maybe_executed: true, .. })), "{error}");

        process.thaw();
        has_workers(&client, 1).await;
        assert_eq!(probe(&client).whoami().await.unwrap().process, process.id());
    });
}

#[test]
fn frozen_client_is_noticed_by_its_workers_and_served_again_once_thawed() {
    run(async {
        let port = xero_tests::scene::Port::reserve();
        let journal = Journal::new();
        let process = probe!("client", port.endpoint(), "--interval", "200", "--hold", "held");
        let worker = Worker::connect(port.endpoint()).heartbeat_interval(SHORT).serve(noting(&journal));
        let worker = worker.start().unwrap();
        process.says("pong").await;
        eventually("it runs", async || journal.count("held", "begin") == 1).await;

        let frozen_at = Instant::now();
        process.freeze();
        eventually("the client is missed", async || !worker.is_connected()).await;
        let noticed_after = frozen_at.elapsed();
        assert!(noticed_after >= 2 * SHORT, "noticed after {noticed_after:?}");
        assert!(noticed_after < 4 * SHORT + UNNOTICED, "noticed after {noticed_after:?}");
        eventually("its procedures are cancelled", async || journal.count("held", "dropped") == 1).await;
        process.thaw();
        assert!(worker.wait_for_client(PATIENCE).await);
    });
}

#[test]
fn killed_client_is_noticed_at_once_and_its_procedures_are_cancelled() {
    run(async {
        let port = xero_tests::scene::Port::reserve();
        let journal = Journal::new();
        let mut process = probe!("client", port.endpoint(), "--interval", "20000", "--hold", "held");
        let worker = Worker::connect(port.endpoint()).heartbeat_interval(LONG).serve(noting(&journal));
        let worker = worker.start().unwrap();
        eventually("it runs", async || journal.count("held", "begin") == 1).await;
        process.kill();
        eventually_within(UNNOTICED, "the client is missed", async || !worker.is_connected()).await;
        eventually("its procedures are cancelled", async || journal.count("held", "dropped") == 1).await;
        assert_eq!(worker.counters().await.expired_leases, 0);
    });
}

#[test]
fn procedures_that_block_every_thread_of_the_runtime_lose_no_peer() {
    run(async {
        let (interval, journal) = (Duration::from_millis(50), Journal::new());
        let client = bind(beating(interval).liveness(5)).await;
        let theirs = runtime(2);
        let settings =
            Worker::connect(client.endpoint()).heartbeat_interval(interval).liveness(5).serve(noting(&journal));
        let worker = start_on(&theirs, &client, settings).await;
        let probe = probe(&client);
        // Ten times the silence after which a peer is declared dead.
        let block = || probe.block("long", 10 * 5 * 50).timeout(PATIENCE).start();
        let (mut first, mut second) = (block(), block());
        eventually("both threads are blocked", async || journal.count("long", "begin") == 2).await;
        let mut stuck = probe.ping().timeout(PATIENCE).start();
        // A procedure on the I/O thread answers meanwhile; one that needs the runtime must wait.
        assert_eq!(probe.ping_inline().await.unwrap(), "pong");
        tokio::select! {
            biased;
            ended = &mut first => assert_eq!(ended.unwrap(), 2500),
            ended = &mut second => assert_eq!(ended.unwrap(), 2500),
            _ = &mut stuck => panic!("a thread was free"),
        }
        assert_eq!(stuck.await.unwrap(), "pong");
        assert_eq!(client.counters().await.expired_leases, 0);
        let counters = worker.counters().await;
        assert_eq!((counters.expired_leases, counters.redials), (0, 0));
        theirs.shutdown_background();
    });
}

#[test]
fn client_whose_runtime_is_blocked_keeps_its_workers() {
    run(async {
        let interval = Duration::from_millis(50);
        let theirs = runtime(1);
        let client = theirs.spawn(bind(beating(interval).liveness(5))).await.unwrap();
        let worker = start(&client, Worker::connect(client.endpoint()).heartbeat_interval(interval).liveness(5)).await;
        let probe = probe(&client);
        let caller = theirs.spawn(async move {
            // Sent, then not polled for ten times the silence after which a peer is declared dead.
            let call = probe.add(19, 23).start();
            block_thread(10 * 5 * interval);
            call.await
        });
        assert_eq!(caller.await.unwrap().unwrap(), 42);
        assert_eq!(client.counters().await.expired_leases, 0);
        let counters = worker.counters().await;
        assert_eq!((counters.expired_leases, counters.redials), (0, 0));
        theirs.shutdown_background();
    });
}

#[test]
fn heartbeats_alone_keep_both_sides_connected_and_do_not_pile_up() {
    run(async {
        let interval = Duration::from_millis(100);
        let dispatcher = Dispatcher::bind().await;
        let worker = Worker::connect(&dispatcher.endpoint).heartbeat_interval(interval).serve(prober());
        let worker = worker.start().unwrap();
        let mut link = dispatcher.register().await;
        let begin = Instant::now();
        for _ in 0..20 {
            assert_eq!(link.receive().await, Some(Message::Heartbeat));
        }
        // They arrive one by one, each an interval after the previous one.
        assert!(begin.elapsed() > 15 * interval, "20 heartbeats within {:?}", begin.elapsed());
        assert!(worker.is_connected());

        let client = bind(beating(interval)).await;
        let worker = start(&client, Worker::connect(client.endpoint()).heartbeat_interval(interval)).await;
        // A third peer counts the client's heartbeats, and so the time.
        let mut counting = raw::worker(client.endpoint(), raw::ready()).await;
        for _ in 0..20 {
            assert_eq!(counting.receive().await, Some(Message::Heartbeat));
        }
        assert_eq!(client.workers()[0].id, worker.id());
        assert_eq!(worker.counters().await.redials, 0);
    });
}

#[test]
fn payload_that_takes_longer_than_the_expiry_loses_no_peer() {
    run(async {
        // 4 MiB at 3 MB a second take twice the expiry of 600 ms.
        let client = bind(beating(SHORT)).await;
        let endpoint = Link::narrow(3_000_000).to(client.endpoint()).await;
        let settings = Worker::connect(endpoint).heartbeat_interval(SHORT);
        let worker = start(&client, settings).await;
        let beside = probe(&client).work("beside", 4000).timeout(PATIENCE).start();
        assert_eq!(probe(&client).bytes(4 << 20).timeout(PATIENCE).await.unwrap().len(), 4 << 20);
        assert_eq!(probe(&client).length(&vec![7; 4 << 20]).timeout(PATIENCE).await.unwrap(), 4 << 20);
        assert_eq!(beside.await.unwrap().worker, worker.id());
        assert_eq!(client.counters().await.expired_leases, 0);
        assert_eq!(worker.counters().await.expired_leases, 0);
    });
}

#[test]
fn peers_with_different_intervals_stay_connected() {
    run(async {
        for (ours, theirs) in [(100, 2000), (2000, 100)] {
            let (ours, theirs) = (Duration::from_millis(ours), Duration::from_millis(theirs));
            let client: Client = bind(beating(ours).liveness(5)).await;
            let worker =
                start(&client, Worker::connect(client.endpoint()).heartbeat_interval(theirs).liveness(5)).await;
            // Two expiries of the one, but none of the other.
            assert_eq!(probe(&client).work("quiet", 1200).await.unwrap().worker, worker.id());
            assert_eq!(client.counters().await.expired_leases, 0);
            assert_eq!(worker.counters().await.expired_leases, 0);
        }
    });
}

/// Starts a worker whose procedures run on that runtime.
async fn start_on(runtime: &Runtime, client: &Client, settings: WorkerBuilder) -> Worker {
    let worker = runtime.spawn(async { settings.start() }).await.expect("it runs").expect("the settings are sound");
    joined(client, &worker).await;
    worker
}
