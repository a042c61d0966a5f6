//! The same scenario over every kind of endpoint, and the possible connections between peers.

use std::{sync::Arc, time::Duration};

use xero::{CallError, Client, Endpoint, RpcError, Worker, proto::message::Message};
use xero_tests::{
    raw,
    scene::{PATIENCE, Port, client, eventually, has, has_workers, joined, noting, probe, prober, run, within, worker},
    service::{Journal, Mistake, Probe, Prober, Second, SecondClient},
};

#[test]
fn tcp_on_loopback() {
    run(scenario("tcp://127.0.0.1:0".to_owned()));
}

#[test]
fn tcp_on_ipv6_loopback() {
    run(scenario("tcp://[::1]:0".to_owned()));
}

#[test]
fn tcp_by_host_name() {
    run(scenario("tcp://localhost:0".to_owned()));
}

#[test]
fn tcp_on_every_interface() {
    run(scenario("tcp://*:0".to_owned()));
}

#[test]
fn unix_domain_socket() {
    run(async {
        let path = std::env::temp_dir().join(format!("xero-{}.sock", uuid::Uuid::new_v4()));
        scenario(format!("ipc://{}", path.display())).await;
        assert!(!path.exists(), "the socket file is left behind");
    });
}

#[test]
fn in_memory() {
    run(async {
        scenario(format!("inproc://{}", uuid::Uuid::new_v4())).await;
        scenario("inproc://*".to_owned()).await;
    });
}

/// The scenario that must work over every transport.
async fn scenario(endpoint: String) {
    let journal = Journal::new();
    let client = Client::bind(&endpoint).await.expect("a free endpoint");
    let first = Worker::connect(client.endpoint()).serve(noting(&journal)).start().expect("the settings are sound");
    joined(&client, &first).await;
    let probe = probe(&client);
    assert_eq!(probe.echo("hello").await.expect("a reply"), "hello");
    assert_eq!(probe.fail(Mistake::Plain, true).await, Err(CallError::Application(Mistake::Plain)));
    assert_eq!(probe.length(&vec![7; 300 << 10]).timeout(PATIENCE).await.expect("a reply"), 300 << 10);
    assert_eq!(probe.bytes(300 << 10).timeout(PATIENCE).await.expect("a reply"), vec![7; 300 << 10]);
    let mut call = probe.progress(10).start();
    while call.partial().await.is_some() {}
    assert_eq!(call.await.expect("a reply"), 10);

    // Dropping it cancels it.
    let dropped = probe.work("dropped", 60_000).timeout(PATIENCE).start();
    eventually("it runs", async || journal.count("dropped", "begin") == 1).await;
    drop(dropped);
    eventually("it is cancelled", async || journal.count("dropped", "dropped") == 1).await;

    // A draining worker finishes its running call, and the next call goes to another.
    let slow = probe.work("slow", 100).timeout(PATIENCE).start();
    eventually("it runs", async || journal.count("slow", "begin") == 1).await;
    let second = Worker::connect(client.endpoint()).serve(prober()).start().expect("the settings are sound");
    joined(&client, &second).await;
    first.drain().await;
    assert_eq!(slow.await.expect("a reply").worker, first.id());
    assert_eq!(probe.whoami().await.expect("a reply").worker, second.id());

    // A client that returns to the same endpoint gets its worker back.
    let bound = client.endpoint().to_owned();
    client.close().await;
    eventually("the worker knows", async || !second.is_connected()).await;
    let client = Client::bind(&bound).await.expect("a free endpoint");
    joined(&client, &second).await;
    assert_eq!(xero_tests::scene::probe(&client).add(2, 3).await.expect("a reply"), 5);
    client.close().await;
}

#[test]
fn every_interface_is_reached_by_each_of_its_addresses_and_port_0_is_reported() {
    run(async {
        let client = Client::bind("tcp://*:0").await.unwrap();
        let endpoint: Endpoint = client.endpoint().parse().unwrap();
        let text = endpoint.to_string();
        let port = text.rsplit_once(':').unwrap().1;
        assert_ne!(port, "0");
        let hosts = ["127.0.0.1", "[::1]", "localhost"];
        for host in hosts {
            let worker = Worker::connect(format!("tcp://{host}:{port}")).serve(prober()).start().unwrap();
            joined(&client, &worker).await;
            worker.drain().await;
        }
    });
}

#[test]
fn every_interface_can_be_bound_with_a_chosen_port() {
    run(async {
        let port = Port::reserve();
        let endpoint = port.endpoint().replace("127.0.0.1", "*");
        let worker = Worker::connect(port.endpoint()).serve(prober()).start().unwrap();
        for _ in 0..3 {
            let client = Client::bind(&endpoint).await.unwrap();
            joined(&client, &worker).await;
            assert_eq!(probe(&client).ping().await.unwrap(), "pong");
            client.close().await;
        }
    });
}

#[test]
fn one_worker_serves_several_clients_and_each_gets_its_own_replies() {
    run(async {
        let clients = [client().await, client().await, client().await];
        let [first, second, third] = &clients;
        let worker = Worker::connect(first.endpoint()).connect(second.endpoint()).connect(third.endpoint());
        let worker = worker.serve(prober()).start().unwrap();
        for client in &clients {
            joined(client, &worker).await;
        }
        let mut calls = tokio::task::JoinSet::new();
        for (offset, client) in (0..).map(|index| 1000 * index).zip(&clients) {
            let probe = probe(client);
            calls.spawn(async move {
                for number in 0..200 {
                    assert_eq!(probe.add(offset, number).await.unwrap(), offset + number);
                }
            });
        }
        within(PATIENCE, calls.join_all()).await;
        // A leaving client affects no other.
        second.close().await;
        eventually("it is gone", async || second.workers().is_empty()).await;
        assert_eq!(probe(first).ping().await.unwrap(), "pong");
        assert_eq!(probe(third).ping().await.unwrap(), "pong");
        worker.drain().await;
        assert!(first.workers().is_empty() && third.workers().is_empty());
    });
}

#[test]
fn worker_serves_several_services_and_calls_go_to_workers_of_their_service() {
    run(async {
        let client = client().await;
        let both = Arc::new(Prober::default());
        let worker = Worker::connect(client.endpoint());
        let worker = worker.serve(Probe::into_service(Arc::clone(&both))).serve(Second::into_service(both));
        let worker = worker.start().unwrap();
        joined(&client, &worker).await;
        assert_eq!(client.workers()[0].services, ["Probe", "Second"]);
        let (probe, second) = (probe(&client), SecondClient::new(&client));
        second.wait_for_worker(PATIENCE).await.unwrap();
        assert_eq!((probe.add(1, 1).await.unwrap(), second.double(21).await.unwrap()), (2, 42));
        // Another worker offers only one of the two.
        let other = xero_tests::scene::worker(&client).await;
        for _ in 0..20 {
            assert_eq!(second.double(4).await.unwrap(), 8);
        }
        assert_eq!(other.counters().await.requests, 0);
        worker.drain().await;
        assert_eq!(probe.whoami().await.unwrap().worker, other.id());
        let error = second.double(4).fail_fast().await.unwrap_err();
        assert!(
            matches!(&error, CallError::Rpc(RpcError::NoWorker { offered, .. }) if *offered == ["Probe"]),
            "{error}"
        );
        second.wait_for_worker(Duration::from_millis(20)).await.unwrap_err();
    });
}

#[test]
fn worker_with_an_absent_client_serves_the_other() {
    run(async {
        let (client, nobody) = (client().await, Port::reserve());
        let mute = raw::Dispatcher::bind().await;
        let worker = Worker::connect(nobody.endpoint()).connect(&mute.endpoint).connect(client.endpoint());
        let worker = worker.serve(prober()).start().unwrap();
        joined(&client, &worker).await;
        let mut link = mute.accept().await;
        assert!(matches!(link.receive().await, Some(Message::Ready(_))));
        for _ in 0..50 {
            assert_eq!(probe(&client).ping().await.unwrap(), "pong");
        }
        let late = Client::bind(nobody.endpoint()).await.unwrap();
        joined(&late, &worker).await;
        assert!(has(&client, &worker));
    });
}

#[test]
fn last_dropped_clone_says_goodbye() {
    run(async {
        let client = client().await;
        let worker = worker(&client).await;
        let (clone, stub) = (client.clone(), probe(&client));
        drop(client);
        assert_eq!(stub.ping().await.unwrap(), "pong");
        drop(clone);
        assert_eq!(stub.ping().await.unwrap(), "pong");
        let waiting = stub.ping().start();
        drop(stub);
        assert_eq!(waiting.await.unwrap(), "pong");
        eventually("the worker knows", async || !worker.is_connected()).await;
        let other = xero_tests::scene::client().await;
        has_workers(&other, 0).await;
    });
}
