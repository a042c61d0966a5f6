//! A broker that comes back has its clients and workers back, soon and not all in the same instant.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use xero::{Client, Worker};
use xero_tests::{
    probe,
    process::Process,
    scene::{LONG, PATIENCE, Port, eventually, probe, prober, run},
};

/// Within this time, 99 of 100 workers are to be registered again.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn fifty_workers_are_back_soon_after_a_restart_and_not_in_the_same_instant() {
    run(async {
        let (ports, workers) = fifty_workers();
        let mut broker = start(&ports).await;
        registered(&workers).await;
        broker.kill();
        eventually("all of them know", async || workers.iter().all(|worker| !worker.is_connected())).await;
        let broker = start(&ports).await;
        assert_back_soon(&workers, broker).await;
    });
}

#[test]
fn fifty_workers_are_back_soon_after_a_long_absence_and_not_in_the_same_instant() {
    run(async {
        let (ports, workers) = fifty_workers();
        // Ten dials in vain: the pause between two of them has long reached its longest.
        eventually("all of them have dialed in vain", async || {
            let mut least = u64::MAX;
            for worker in &workers {
                least = least.min(worker.counters().await.redials);
            }
            least >= 6
        })
        .await;
        let broker = start(&ports).await;
        assert_back_soon(&workers, broker).await;
    });
}

fn fifty_workers() -> ([Port; 2], Vec<Worker>) {
    let ports = [Port::reserve(), Port::reserve()];
    let start = || Worker::connect(ports[1].endpoint()).heartbeat_interval(LONG).serve(prober()).start().unwrap();
    let workers = (0..50).map(|_| start()).collect();
    (ports, workers)
}

async fn start(ports: &[Port; 2]) -> Process {
    let broker = probe!("broker", ports[0].endpoint(), ports[1].endpoint(), "--interval", "20000");
    broker.says("bound").await;
    broker
}

/// When each of the workers was registered, in order.
async fn registered(workers: &[Worker]) -> Vec<Instant> {
    let mut arrivals = JoinSet::new();
    for worker in workers.iter().cloned() {
        arrivals.spawn(async move {
            assert!(worker.wait_for_client(PATIENCE).await, "a worker has not come back");
            Instant::now()
        });
    }
    let mut arrivals = arrivals.join_all().await;
    arrivals.sort_unstable();
    arrivals
}

async fn assert_back_soon(workers: &[Worker], _broker: Process) {
    let began = Instant::now();
    let arrivals: Vec<_> = registered(workers).await.into_iter().map(|at| at - began).collect();
    let percentile_99 = arrivals[(arrivals.len() * 99).div_ceil(100) - 1];
    assert!(percentile_99 <= SOON, "{arrivals:?}");
    // Had they all waited equally long, they would have come together.
    let most = arrivals.iter().map(|from| arrivals.iter().filter(|at| *at >= from && **at < *from + INSTANT).count());
    let most = most.max().unwrap_or_default();
    assert!(most <= arrivals.len() / 2, "{most} of {} within {INSTANT:?}: {arrivals:?}", arrivals.len());
}

/// What counts as the same instant.
const INSTANT: Duration = Duration::from_millis(10);

#[test]
fn calls_go_on_after_a_broker_was_killed_and_restarted() {
    run(async {
        let ports = [Port::reserve(), Port::reserve()];
        let mut broker = start(&ports).await;
        let _worker = Worker::connect(ports[1].endpoint()).heartbeat_interval(LONG).serve(prober()).start().unwrap();
        let client = Client::builder().heartbeat_interval(LONG).connect(ports[0].endpoint()).unwrap();
        let probe = probe(&client);
        for _ in 0..3 {
            assert_eq!(probe.ping().timeout(PATIENCE).await.unwrap(), "pong");
            broker.kill();
            // Made while nobody is there, it waits.
            eventually("the client knows", async || !client.is_connected()).await;
            let waiting = probe.add(20, 22).timeout(PATIENCE).start();
            broker = start(&ports).await;
            assert_eq!(waiting.await.unwrap(), 42);
        }
    });
}

#[test]
fn all_three_may_restart_in_any_order() {
    run(async {
        let ports = [Port::reserve(), Port::reserve()];
        let worker = || probe!("worker", ports[1].endpoint());
        let client = || probe!("client", "--connect", ports[0].endpoint());
        let mut broker = start(&ports).await;
        let (mut first, mut second) = (worker(), client());
        second.says("pong").await;
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            for which in order {
                match which {
                    0 => {
                        broker.kill();
                        broker = start(&ports).await;
                    }
                    1 => {
                        first.kill();
                        first = worker();
                    }
                    _ => {
                        second.kill();
                        second = client();
                    }
                }
                // Whoever restarts meanwhile, nobody is waited for.
                sleep(Duration::from_millis(1)).await;
            }
            second.says("pong").await;
        }
    });
}
