//! Restarted peers are connected again without help, in any order.

use std::time::Duration;

use xero::{Client, Worker};
use xero_tests::{
    probe,
    process::Process,
    scene::{
        LONG, PATIENCE, Port, beating, bind, eventually, eventually_within, has_workers, joined, probe, prober, run,
        start,
    },
};

/// The longest search for a restarted peer: the longest pause between two dials, and a margin for a busy machine.
const WITHIN: Duration = Duration::from_secs(2 + 8);

#[test]
fn killed_client_that_restarts_on_its_port_is_served_again() {
    run(async {
        let port = Port::reserve();
        let worker = Worker::connect(port.endpoint()).heartbeat_interval(LONG).serve(prober()).start().unwrap();
        for _ in 0..3 {
            let mut process = probe!("client", port.endpoint(), "--interval", "20000");
            process.says("pong").await;
            process.kill();
        }
        eventually("the last one is missed", async || !worker.is_connected()).await;
    });
}

#[test]
fn killed_worker_that_restarts_serves_again() {
    run(async {
        let client = bind(beating(LONG)).await;
        for _ in 0..3 {
            let mut process: Process = probe!("worker", client.endpoint(), "--interval", "20000");
            let whoami = probe(&client).whoami().timeout(PATIENCE).await.unwrap();
            assert_eq!(whoami.process, process.id());
            process.kill();
            has_workers(&client, 0).await;
        }
    });
}

#[test]
fn both_restart_in_any_order() {
    run(async {
        let port = Port::reserve();
        let client = || probe!("client", port.endpoint());
        let worker = || probe!("worker", port.endpoint());
        let mut pair = (client(), worker());
        pair.0.says("pong").await;
        for order in [[0, 1], [1, 0], [0, 0], [1, 1]] {
            for which in order {
                match which {
                    0 => {
                        pair.0.kill();
                        pair.0 = client();
                    }
                    _ => {
                        pair.1.kill();
                        pair.1 = worker();
                    }
                }
            }
            // A client that was not restarted has its new worker too.
            if order.contains(&0) {
                pair.0.says("pong").await;
            }
        }
    });
}

#[test]
fn worker_that_has_waited_long_serves_a_new_client_soon() {
    run(async {
        let port = Port::reserve();
        let (first, max) = (Duration::from_millis(1), Duration::from_millis(50));
        // Pauses of a fortieth of the usual ones: twelve failed dials then stand for an hour, with the longest pause
        // long reached.
        let worker = Worker::connect(port.endpoint()).backoff(first, max).serve(prober()).start().unwrap();
        eventually("it has dialed often", async || worker.counters().await.redials >= 12).await;
        let client = Client::bind(port.endpoint()).await.unwrap();
        eventually_within(WITHIN, "it is there", async || xero_tests::scene::has(&client, &worker)).await;
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
    });
}

#[test]
fn worker_finds_a_late_client_within_the_usual_back_off() {
    run(async {
        let port = Port::reserve();
        let worker = Worker::connect(port.endpoint()).serve(prober()).start().unwrap();
        // At most 100, 200, 400 ms …: after five dials the pause is close to its maximum.
        eventually("it has dialed a while", async || worker.counters().await.redials >= 5).await;
        let client = Client::bind(port.endpoint()).await.unwrap();
        eventually_within(WITHIN, "it is there", async || xero_tests::scene::has(&client, &worker)).await;
    });
}

#[test]
fn calls_wait_for_a_worker_that_restarts() {
    run(async {
        let client = bind(beating(LONG)).await;
        let worker = xero_tests::scene::worker(&client).await;
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
        worker.drain().await;
        let calls: Vec<_> = (0..50).map(|number| probe(&client).add(number, 1).timeout(PATIENCE).start()).collect();
        let worker = start(&client, Worker::connect(client.endpoint())).await;
        for (number, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap(), number + 1);
        }
        assert_eq!(client.workers()[0].id, worker.id());
    });
}

#[test]
fn several_workers_all_come_back_to_a_restarted_client() {
    run(async {
        let port = Port::reserve();
        let client = Client::bind(port.endpoint()).await.unwrap();
        let workers: Vec<_> =
            (0..8).map(|_| Worker::connect(port.endpoint()).serve(prober()).start().unwrap()).collect();
        has_workers(&client, workers.len()).await;
        drop(client);
        // Without its last handle the client is gone; until the port is free, binding fails.
        let mut client = None;
        eventually("the port is free again", async || {
            client = Client::bind(port.endpoint()).await.ok();
            client.is_some()
        })
        .await;
        let client = client.unwrap();
        for worker in &workers {
            joined(&client, worker).await;
        }
        assert_eq!(client.workers().len(), workers.len());
    });
}
