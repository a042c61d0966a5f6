//! Which worker gets which call through a broker, and that calls behave as without one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::task::JoinSet;
use xero::{Broker, CallError, Client, Codec, RpcError, Worker};
use xero_tests::{
    scene::{
        PATIENCE, broker, broker_has, client_of, eventually, noting, probe, prober, run, start_of, within, worker_of,
    },
    service::{Journal, Mistake, Probe, ProbeClient, Prober, Second, SecondClient, elsewhere::ElsewhereClient},
};

#[test]
fn many_clients_and_workers_and_several_services_share_a_broker() {
    run(async {
        let broker = broker().await;
        let both = || Arc::new(Prober::default());
        let mut workers = Vec::new();
        for number in 0..6 {
            let settings = Worker::connect(broker.backend()).serve(Probe::into_service(both()));
            let settings = if number % 2 == 0 { settings.serve(Second::into_service(both())) } else { settings };
            workers.push(start_of(&broker, settings).await);
        }
        let mut calls = JoinSet::new();
        for number in 0..10 {
            let client = client_of(&broker).await;
            for lane in 0..4 {
                calls.spawn(call_both(client.clone(), 1_000_000 * number + 1_000 * lane));
            }
        }
        within(PATIENCE, calls.join_all()).await;
        for worker in &workers {
            // Six workers take turns; none is skipped or preferred.
            let requests = worker.counters().await.requests;
            assert!(requests > 4_000 / 6 / 4, "{requests} of 4,000");
        }
        let counters = broker.counters().await;
        assert_eq!((counters.requests, counters.workers.unsolicited_replies, counters.workers.retries), (4_000, 0, 0));
        eventually("the clients are gone", async || broker.clients() == 0).await;
    });
}

/// A hundred calls of two services, each with its own answer.
async fn call_both(client: Client, offset: i64) {
    let (probe, second) = (probe(&client), SecondClient::new(&client));
    for number in offset..offset + 50 {
        assert_eq!(probe.add(number, 1).timeout(PATIENCE).await.expect("a reply"), number + 1);
        assert_eq!(second.double(number).timeout(PATIENCE).await.expect("a reply"), 2 * number);
    }
}

#[test]
fn every_transport_serves_both_sides_in_any_combination() {
    run(async {
        let directory = std::env::temp_dir().join(format!("xero-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        let file = |name: &str| format!("ipc://{}", directory.join(name).display());
        let tcp = || "tcp://127.0.0.1:0".to_owned();
        let memory = || "inproc://*".to_owned();
        for (frontend, backend) in [
            (tcp(), tcp()),
            (file("front"), file("back")),
            (memory(), memory()),
            (tcp(), memory()),
            (memory(), file("back")),
            ("tcp://[::1]:0".to_owned(), "tcp://*:0".to_owned()),
        ] {
            scenario(&frontend, &backend).await;
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "a socket file is left behind");
        std::fs::remove_dir(&directory).unwrap();
    });
}

async fn scenario(frontend: &str, backend: &str) {
    let journal = Journal::new();
    let broker = Broker::bind(frontend, backend).await.expect("free endpoints");
    let first = start_of(&broker, Worker::connect(broker.backend()).serve(noting(&journal))).await;
    let client = client_of(&broker).await;
    let probe = probe(&client);
    assert_eq!(probe.echo("hello").await.expect("a reply"), "hello");
    assert_eq!(probe.fail(Mistake::Plain, true).await, Err(CallError::Application(Mistake::Plain)));
    assert_eq!(probe.length(&vec![7; 300 << 10]).timeout(PATIENCE).await.expect("a reply"), 300 << 10);
    assert_eq!(probe.bytes(300 << 10).timeout(PATIENCE).await.expect("a reply"), vec![7; 300 << 10]);
    let mut call = probe.progress(10).timeout(PATIENCE).start();
    for step in 0..10 {
        assert_eq!(call.partial().await.expect("a partial reply").decode::<u32>().expect("a number"), step);
    }
    assert_eq!(call.await.expect("a reply"), 10);

    // Dropping it cancels it.
    let dropped = probe.work("dropped", 60_000).timeout(PATIENCE).start();
    eventually("it runs", async || journal.count("dropped", "begin") == 1).await;
    drop(dropped);
    eventually("it is cancelled", async || journal.count("dropped", "dropped") == 1).await;

    // A draining worker finishes its running call, and the next call goes to another.
    let slow = probe.work("slow", 100).timeout(PATIENCE).start();
    eventually("it runs", async || journal.count("slow", "begin") == 1).await;
    let second = worker_of(&broker).await;
    first.drain().await;
    assert_eq!(slow.await.expect("a reply").worker, first.id());
    assert_eq!(probe.whoami().await.expect("a reply").worker, second.id());
    client.close().await;
    eventually("the client is gone", async || broker.clients() == 0).await;
    broker.close().await;
    eventually("the worker knows", async || !second.is_connected()).await;
    // It would serve the next broker there.
    second.drain().await;
}

#[test]
fn workers_take_turns() {
    run(async {
        let broker = broker().await;
        let mut workers = BTreeSet::new();
        for _ in 0..3 {
            workers.insert(worker_of(&broker).await.id());
        }
        let probe = probe(&client_of(&broker).await);
        let mut turns = Vec::new();
        for _ in 0..9 {
            turns.push(probe.whoami().await.unwrap().worker);
        }
        assert_eq!(turns[..3].iter().copied().collect::<BTreeSet<_>>(), workers);
        assert_eq!((&turns[..3], &turns[..3]), (&turns[3..6], &turns[6..]));
    });
}

#[test]
fn clients_see_the_offers_of_a_brokers_workers() {
    run(async {
        let broker = broker().await;
        let client = client_of(&broker).await;
        assert_eq!(client.endpoint(), broker.frontend());
        assert_eq!((client.workers()[0].id, client.workers()[0].services.len()), (broker.id(), 0));
        assert!(!client.is_connected(), "a broker without workers is no worker");
        let error = client.wait_for_worker(Duration::from_millis(20)).await.unwrap_err();
        let said = format!("the broker at {} is connected, without any worker after 20ms", broker.frontend());
        assert_eq!(error.to_string(), format!("no worker: {said}"));
        let error = probe(&client).ping().fail_fast().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no worker offers the service `Probe`: a broker is connected, without such a worker"
        );

        let worker = worker_of(&broker).await;
        client.wait_for_worker(PATIENCE).await.unwrap();
        client.wait_for_service("Probe", PATIENCE).await.unwrap();
        assert!(client.is_connected());
        let second = SecondClient::new(&client);
        let error = second.wait_for_worker(Duration::ZERO).await.unwrap_err().to_string();
        assert!(error.ends_with(" is connected, without such a worker; live workers offer Probe"), "{error}");
        let other = Worker::connect(broker.backend()).serve(Second::into_service(Arc::new(Prober::default())));
        let other = start_of(&broker, other).await;
        second.wait_for_worker(PATIENCE).await.unwrap();
        assert_eq!(client.workers()[0].services, ["Probe", "Second"]);
        assert_eq!((probe(&client).ping().await.unwrap(), second.double(21).await.unwrap()), ("pong".to_owned(), 42));

        // A draining worker offers nothing any more.
        other.drain().await;
        eventually("it is known", async || client.workers()[0].services == ["Probe"]).await;
        worker.drain().await;
        eventually("it is known", async || !client.is_connected()).await;
        assert_eq!(client.workers().len(), 1);
    });
}

#[test]
fn missing_brokers_differ_from_missing_workers() {
    run(async {
        let broker = broker().await;
        let nobody = xero_tests::scene::Port::reserve();
        let endpoints = format!("{}, {}", nobody.endpoint(), broker.frontend());
        let client = Client::connect([nobody.endpoint(), broker.frontend().to_owned()]).unwrap();
        eventually("one is connected", async || client.workers().len() == 1).await;
        let error = client.wait_for_worker(Duration::ZERO).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no worker: one of the brokers at {endpoints} is connected, without any worker")
        );
        broker.close().await;
        eventually("none is connected", async || client.workers().is_empty()).await;
        let error = client.wait_for_service("Probe", Duration::from_millis(1)).await.unwrap_err();
        let said = format!("no worker for the service `Probe`: no broker at {endpoints} is connected after 1ms");
        assert_eq!(error.to_string(), format!("{said}; the log says why"));
        let error = probe(&client).ping().fail_fast().await.unwrap_err();
        let said =
            format!("no worker offers the service `Probe`: no broker at {endpoints} is connected yet, or any more");
        assert_eq!(error.to_string(), format!("{said}; wait for one with `wait_for_service`, or see the log"));
    });
}

#[test]
fn calls_wait_for_a_broker_and_for_its_workers() {
    run(async {
        let ports = [xero_tests::scene::Port::reserve(), xero_tests::scene::Port::reserve()];
        let client = Client::connect(ports[0].endpoint()).unwrap();
        let calls: Vec<_> = (0..20).map(|number| probe(&client).add(number, 1).timeout(PATIENCE).start()).collect();
        let broker = Broker::bind(ports[0].endpoint(), ports[1].endpoint()).await.unwrap();
        eventually("the client has come", async || broker.clients() == 1).await;
        let _worker = worker_of(&broker).await;
        for (number, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap(), number + 1);
        }
    });
}

#[test]
fn errors_are_the_same_as_without_a_broker() {
    run(async {
        let broker = broker().await;
        let _worker = worker_of(&broker).await;
        let client = client_of(&broker).await;
        client.wait_for_worker(PATIENCE).await.unwrap();
        let probe = probe(&client);
        let error = probe.panic("on purpose").await.unwrap_err();
        assert!(
            matches!(&error, CallError::Rpc(RpcError::Panicked { message, .. }) if message == "on purpose"),
            "{error:?}"
        );
        let error = probe.unencodable().await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::InvalidReply { .. })), "{error}");
        let error = client.call("Probe.dance").await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::UnknownMethod { .. })), "{error}");
        let error = client.call("Nope.ping").fail_fast().await.unwrap_err();
        assert!(
            matches!(&error, CallError::Rpc(RpcError::NoWorker { offered, .. }) if *offered == ["Probe"]),
            "{error}"
        );
        let error = client.call("Probe.add").arguments(&("not", "numbers")).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::InvalidArguments { .. })), "{error}");
        let error = ElsewhereClient::new(&client).add("1".into(), "2".into()).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::SignatureMismatch { .. })), "{error}");
        let error = probe.work("too slow", 60_000).timeout(Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { maybe_executed: true, .. })), "{error}");
        assert_eq!(probe.ping().await.unwrap(), "pong");
    });
}

#[test]
fn metadata_and_context_pass_through_a_broker() {
    run(async {
        let broker = broker().await;
        let _worker = worker_of(&broker).await;
        let client = client_of(&broker).await;
        for codec in Codec::ALL {
            let probe = ProbeClient::new(&client).with_codec(codec);
            let call = probe.context().metadata("traceparent", "00-4bf9-00f0-01").timeout(Duration::from_secs(20));
            let seen = call.await.unwrap();
            assert_eq!((seen.method.as_str(), seen.codec, seen.attempt), ("Probe.context", codec.to_string(), 1));
            assert_eq!(seen.metadata["traceparent"], b"00-4bf9-00f0-01");
            let (least, most) = (Duration::from_secs(1), Duration::from_secs(21));
            assert!(seen.remaining > least && seen.remaining < most, "{:?}", seen.remaining);
        }
    });
}

#[test]
fn worker_and_client_serve_a_broker_and_a_client_that_binds_alike() {
    run(async {
        let (broker, direct) = (broker().await, xero_tests::scene::client().await);
        let settings = Worker::connect([broker.backend(), direct.endpoint()]).serve(prober());
        let worker = start_of(&broker, settings).await;
        xero_tests::scene::joined(&direct, &worker).await;
        let brokered = client_of(&broker).await;
        for client in [&direct, &brokered] {
            assert_eq!(probe(client).whoami().await.unwrap().worker, worker.id());
        }
        broker.close().await;
        assert_eq!(probe(&direct).ping().await.unwrap(), "pong");
        assert!(!broker_has(&broker, &worker) && worker.is_connected());
    });
}
