//! A drain loses nothing: of workers, brokers and clients, also under load and one after another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use xero::{Broker, CallError, Client, RpcError, Worker};
use xero_tests::{
    process::UNNOTICED,
    scene::{
        PATIENCE, Port, bind_broker, broker, broker_has, client, client_of, eventually, has, noting, probe, prober,
        run, start, start_of, timed, within, worker, worker_of,
    },
    service::{Journal, ProbeClient},
};

#[test]
fn rolling_restart_of_three_workers_under_load_fails_no_call() {
    run(async {
        let client = client().await;
        let mut workers = Vec::new();
        for _ in 0..3 {
            workers.push(worker(&client).await);
        }
        let load = Load::begin(&[&client]);
        for worker in workers {
            worker.drain().await;
            start(&client, Worker::connect(client.endpoint())).await;
        }
        load.end().await;
        assert_eq!(client.counters().await.unsolicited_replies, 0);
    });
}

#[test]
fn rolling_restart_of_three_workers_behind_a_broker_fails_no_call() {
    run(async {
        let broker = broker().await;
        let mut workers = Vec::new();
        for _ in 0..3 {
            workers.push(worker_of(&broker).await);
        }
        let clients = [client_of(&broker).await, client_of(&broker).await];
        let load = Load::begin(&clients.each_ref());
        for worker in workers {
            worker.drain().await;
            worker_of(&broker).await;
        }
        load.end().await;
        assert_eq!(broker.counters().await.workers.unsolicited_replies, 0);
    });
}

#[test]
fn rolling_restart_of_two_brokers_under_load_fails_no_call() {
    run(async {
        let ports = [0; 4].map(|_| Port::reserve());
        let [frontends, backends] = [[0, 2], [1, 3]].map(|side| side.map(|index| ports[index].endpoint()));
        let mut brokers = Vec::new();
        for (frontend, backend) in frontends.iter().zip(&backends) {
            brokers.push(Broker::bind(frontend, backend).await.unwrap());
        }
        let workers = [(); 2].map(|()| Worker::connect(&backends[..]).serve(prober()).start().unwrap());
        let clients = [(); 2].map(|()| Client::connect(&frontends[..]).unwrap());
        let all_are_there = async |broker: &Broker| {
            let has_workers = workers.iter().all(|worker| broker_has(broker, worker));
            let is_known =
                |client: &Client| client.workers().iter().any(|i| i.id == broker.id() && !i.services.is_empty());
            has_workers && clients.iter().all(is_known)
        };
        for broker in &brokers {
            eventually("everyone has the broker", async || all_are_there(broker).await).await;
        }
        let load = Load::begin(&clients.each_ref());
        for number in 0..brokers.len() {
            brokers[number].drain().await;
            brokers[number] = Broker::bind(&frontends[number], &backends[number]).await.unwrap();
            eventually("everyone has the broker again", async || all_are_there(&brokers[number]).await).await;
        }
        load.end().await;
    });
}

#[test]
fn calls_under_load_outlast_the_restarts_of_their_only_broker() {
    run(async {
        let ports = [Port::reserve(), Port::reserve()];
        let bind = async || Broker::bind(ports[0].endpoint(), ports[1].endpoint()).await.unwrap();
        let mut broker = bind().await;
        let worker = Worker::connect(ports[1].endpoint()).serve(prober()).start().unwrap();
        let client = Client::connect(ports[0].endpoint()).unwrap();
        let load = Load::begin(&[&client]);
        for _ in 0..5 {
            eventually("both are there", async || broker_has(&broker, &worker) && client.is_connected()).await;
            broker.drain().await;
            broker = bind().await;
        }
        load.end().await;
    });
}

#[test]
fn draining_broker_finishes_running_calls_and_refuses_waiting_ones() {
    run(async {
        let (first, second) = (broker().await, broker().await);
        let journal = Journal::new();
        let settings = Worker::connect(first.backend()).concurrency(1).serve(noting(&journal));
        let busy = start_of(&first, settings).await;
        let client = Client::connect([first.frontend(), second.frontend()]).unwrap();
        client.wait_for_worker(PATIENCE).await.unwrap();
        let running = probe(&client).work("running", 500).timeout(PATIENCE).start();
        eventually("it runs", async || journal.count("running", "begin") == 1).await;
        // Only the first broker has a worker, so all of these wait there.
        let waiting: Vec<_> = (0..10).map(|_| probe(&client).work("waiting", 1).timeout(PATIENCE).start()).collect();
        eventually("the broker has them", async || first.counters().await.requests == 11).await;
        let draining = tokio::spawn({
            let first = first.clone();
            async move { first.drain().await }
        });
        let other = worker_of(&second).await;
        for call in waiting {
            assert_eq!(within(PATIENCE, call).await.unwrap().worker, other.id());
        }
        assert_eq!(within(PATIENCE, running).await.unwrap().worker, busy.id());
        within(PATIENCE, draining).await.unwrap();
        assert_eq!((journal.count("running", "end"), journal.count("waiting", "begin")), (1, 0));
        assert_eq!((first.clients(), first.workers().len()), (0, 0));
    });
}

#[test]
fn broker_drain_that_takes_too_long_ends_with_errors() {
    run(async {
        let settings = Broker::builder().drain_timeout(Duration::from_millis(200));
        let (broker, journal) = (bind_broker(settings).await, Journal::new());
        let _worker = start_of(&broker, Worker::connect(broker.backend()).serve(noting(&journal))).await;
        let client = client_of(&broker).await;
        let stuck = probe(&client).work("stuck", 60_000).timeout(2 * PATIENCE).start();
        eventually("it runs", async || journal.count("stuck", "begin") == 1).await;
        let ((), took) = timed(broker.drain()).await;
        assert!(took >= Duration::from_millis(200) && took < UNNOTICED, "{took:?}");
        let error = within(PATIENCE, stuck).await.unwrap_err();
        assert!(error.maybe_executed(), "{error}");
        eventually("it is cancelled", async || journal.count("stuck", "dropped") == 1).await;
    });
}

#[test]
fn draining_broker_without_peers_leaves_at_once() {
    run(async {
        let broker = broker().await;
        let endpoints = [broker.frontend().to_owned(), broker.backend().to_owned()];
        within(UNNOTICED, broker.drain()).await;
        within(UNNOTICED, broker.left()).await;
        let [frontend, backend] = &endpoints;
        // The endpoints are free again.
        let next = Broker::bind(frontend, backend).await.unwrap();
        next.close().await;
        assert_eq!(next.counters().await.requests, 0);
    });
}

#[test]
fn broker_whose_last_handle_is_dropped_says_goodbye() {
    run(async {
        let broker = broker().await;
        let clone = broker.clone();
        let (worker, client) = (worker_of(&broker).await, client_of(&broker).await);
        drop(broker);
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        drop(clone);
        eventually("the worker knows", async || !worker.is_connected()).await;
        eventually("the client knows", async || client.workers().is_empty()).await;
    });
}

#[test]
fn draining_client_lets_its_calls_end_and_accepts_no_new_ones() {
    run(async {
        let broker = broker().await;
        let direct = client().await;
        let journal = Journal::new();
        let settings = Worker::connect([broker.backend(), direct.endpoint()]).serve(noting(&journal));
        let worker = start_of(&broker, settings).await;
        eventually("the other has it too", async || has(&direct, &worker)).await;
        for client in [client_of(&broker).await, direct] {
            let before = journal.count("open", "begin");
            let calls: Vec<_> = (0..5).map(|_| probe(&client).work("open", 300).timeout(PATIENCE).start()).collect();
            eventually("they run", async || journal.count("open", "begin") == before + 5).await;
            let draining = tokio::spawn({
                let client = client.clone();
                async move { client.drain(PATIENCE).await }
            });
            let refused = async || {
                let outcome = probe(&client).ping().timeout(PATIENCE).await;
                matches!(outcome, Err(CallError::Rpc(RpcError::Closed { maybe_executed: false, .. })))
            };
            eventually("new calls are refused", refused).await;
            for call in calls {
                call.await.unwrap();
            }
            within(PATIENCE, draining).await.unwrap();
            assert!(!client.is_connected());
        }
        assert_eq!(journal.count("open", "dropped"), 0);
    });
}

#[test]
fn client_drain_that_takes_too_long_ends() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let settings = Worker::connect(client.endpoint()).serve(noting(&journal)).start().unwrap();
        eventually("it is there", async || has(&client, &settings)).await;
        let stuck = probe(&client).work("stuck", 60_000).timeout(2 * PATIENCE).start();
        eventually("it runs", async || journal.count("stuck", "begin") == 1).await;
        let ((), took) = timed(client.drain(Duration::from_millis(100))).await;
        assert!(took >= Duration::from_millis(100) && took < UNNOTICED, "{took:?}");
        let error = stuck.await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::Closed { maybe_executed: true, .. })), "{error}");
        // Nothing is left to wait for.
        within(UNNOTICED, client.drain(PATIENCE)).await;
    });
}

/// Calls until they are stopped, none of which may fail: not even those that must not run twice.
struct Load {
    callers: JoinSet<usize>,
    over: Arc<AtomicBool>,
}

impl Load {
    fn begin(clients: &[&Client]) -> Self {
        let (mut callers, over) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for (number, client) in (0..8).zip(clients.iter().cycle()) {
            callers.spawn(keep_calling(probe(client), number % 3, Arc::clone(&over)));
        }
        Self { callers, over }
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        let counts = within(PATIENCE, self.callers.join_all()).await;
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}

async fn keep_calling(probe: ProbeClient, millis: u64, over: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let once = probe.work("once", millis).timeout(PATIENCE).await;
        once.unwrap_or_else(|error| panic!("call {count}, once: {error}"));
        let again = probe.work_again("again", millis).timeout(PATIENCE).await;
        again.unwrap_or_else(|error| panic!("call {count}, again: {error}"));
        count += 1;
    }
    count
}
