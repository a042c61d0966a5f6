//! The clients and workers of a restarted broker return soon, and not all at the same instant.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use xero::{Client, Worker, WorkerBuilder};
use xero_tests::{
    probe,
    process::Process,
    scene::{LONG, PATIENCE, Port, eventually, probe, prober, run},
};

/// 99 of 100 workers must be registered again within this time after a restart.
const SOON: Duration = Duration::from_secs(2);

/// The longest pause between two dials, and a margin for a busy machine.
const WITHIN: Duration = Duration::from_secs(2 + 8);

#[test]
fn fifty_workers_return_soon_after_a_restart() {
    run(async {
        let arrivals = arrivals_after_a_restart(|settings| settings).await;
        assert!(percentile_99(&arrivals) <= SOON, "{arrivals:?}");
    });
}

#[test]
fn fifty_workers_do_not_return_at_the_same_instant() {
    run(async {
        // Ten times the usual first pause, so that the spread is far more than the delays of a busy machine.
        let pause = Duration::from_secs(1);
        let arrivals = arrivals_after_a_restart(|settings| settings.backoff(pause, pause)).await;
        assert!(percentile_99(&arrivals) <= SOON, "{arrivals:?}");
        assert_spread(&arrivals);
    });
}

#[test]
fn fifty_workers_return_within_seconds_of_a_long_absence_and_not_at_the_same_instant() {
    run(async {
        let (ports, workers) = fifty_workers(|settings| settings);
        // At most 100, 200, 400 ms …: after six dials the pause has its maximum.
        eventually("all of them have dialed in vain", async || {
            let mut least = u64::MAX;
            for worker in &workers {
                least = least.min(worker.counters().await.redials);
            }
            least >= 6
        })
        .await;
        let _broker = start(&ports).await;
        let arrivals = arrivals(&workers).await;
        assert!(percentile_99(&arrivals) <= WITHIN, "{arrivals:?}");
        assert_spread(&arrivals);
    });
}

/// The times that fifty workers needed to return after their broker's restart, in order.
async fn arrivals_after_a_restart(set: impl Fn(WorkerBuilder) -> WorkerBuilder) -> Vec<Duration> {
    let (ports, workers) = fifty_workers(set);
    let mut broker = start(&ports).await;
    arrivals(&workers).await;
    broker.kill();
    eventually("all of them know", async || workers.iter().all(|worker| !worker.is_connected())).await;
    let _broker = start(&ports).await;
    arrivals(&workers).await
}

fn fifty_workers(set: impl Fn(WorkerBuilder) -> WorkerBuilder) -> ([Port; 2], Vec<Worker>) {
    let ports = [Port::reserve(), Port::reserve()];
    let start = || set(Worker::connect(ports[1].endpoint())).heartbeat_interval(LONG).serve(prober()).start();
    let workers = (0..50).map(|_| start().expect("the settings are sound")).collect();
    (ports, workers)
}

async fn start(ports: &[Port; 2]) -> Process {
    let broker = probe!("broker", ports[0].endpoint(), ports[1].endpoint(), "--interval", "20000");
    broker.says("bound").await;
    broker
}

/// The times from now until each worker is registered, in order.
async fn arrivals(workers: &[Worker]) -> Vec<Duration> {
    let (began, mut arrivals) = (Instant::now(), JoinSet::new());
    for worker in workers {
        let worker = worker.clone();
        arrivals.spawn(async move {
            assert!(worker.wait_for_client(PATIENCE).await, "a worker has not come back");
            began.elapsed()
        });
    }
    let mut arrivals = arrivals.join_all().await;
    arrivals.sort_unstable();
    arrivals
}

fn percentile_99(arrivals: &[Duration]) -> Duration {
    arrivals[(arrivals.len() * 99).div_ceil(100) - 1]
}

/// With equal pauses, they would have returned together.
fn assert_spread(arrivals: &[Duration]) {
    let together = |from: &Duration| arrivals.iter().filter(|at| *at >= from && **at < *from + INSTANT).count();
    let most = arrivals.iter().map(together).max().unwrap_or_default();
    assert!(most <= arrivals.len() / 2, "{most} of {} within {INSTANT:?}: {arrivals:?}", arrivals.len());
}

/// Two arrivals within this time count as one instant.
const INSTANT: Duration = Duration::from_millis(100);

#[test]
fn calls_continue_after_a_broker_was_killed_and_restarted() {
    run(async {
        let ports = [Port::reserve(), Port::reserve()];
        let mut broker = start(&ports).await;
        let _worker = Worker::connect(ports[1].endpoint()).heartbeat_interval(LONG).serve(prober()).start().unwrap();
        let client = Client::builder().heartbeat_interval(LONG).connect(ports[0].endpoint()).unwrap();
        let probe = probe(&client);
        for _ in 0..3 {
            assert_eq!(probe.ping().timeout(PATIENCE).await.unwrap(), "pong");
            broker.kill();
            // Made while no broker is connected, it waits.
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
                // No restart waits for another.
                sleep(Duration::from_millis(1)).await;
            }
            second.says("pong").await;
        }
    });
}
