//! Peers at the wrong endpoint, and contradicting settings: each gets an error, and nothing breaks.

use std::time::Duration;

use xero::{BindError, Broker, CallError, Client, ConnectError, RpcError, StartError, Worker, proto::message::Message};
use xero_tests::{
    raw::{self, Link},
    scene::{PATIENCE, broker, client, client_of, eventually, probe, prober, run, worker, worker_of},
};

#[test]
fn peers_at_the_wrong_endpoint_are_refused_and_affect_no_other() {
    run(async {
        let broker = broker().await;
        let (worker, client) = (worker_of(&broker).await, client_of(&broker).await);
        client.wait_for_worker(PATIENCE).await.unwrap();
        let settings = Worker::connect([broker.frontend(), broker.backend()]).serve(prober());
        let lost_worker = Worker::connect(broker.frontend()).serve(prober()).start().unwrap();
        let both = settings.start().unwrap();
        let lost_client = Client::connect(broker.backend()).unwrap();
        eventually("they come again and again", async || lost_worker.counters().await.redials >= 3).await;
        assert!(!lost_worker.is_connected() && !lost_client.is_connected());
        let error = probe(&lost_client).ping().timeout(Duration::from_millis(50)).await.unwrap_err();
        let CallError::Rpc(RpcError::NoWorker { brokers_missing, .. }) = &error else { panic!("{error}") };
        assert_eq!(brokers_missing, &[broker.backend()]);
        let expected =
            format!("none came within 50ms; no broker at {} is connected; the log says why", broker.backend());
        assert!(error.to_string().ends_with(&expected), "{error}");
        eventually("the other door lets it in", async || broker.workers().len() == 2).await;
        assert!(both.is_connected() && worker.is_connected());
        for _ in 0..50 {
            assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        }
        assert_eq!((broker.clients(), broker.workers().len()), (1, 2));
    });
}

#[test]
fn each_endpoint_says_who_is_expected_there() {
    run(async {
        let (broker, binds) = (broker().await, client().await);
        let as_client =
            || raw::Ready { role: xero::proto::message::Role::Client, services: Vec::new(), ..raw::ready() };
        for (endpoint, ready, said) in [
            (broker.frontend(), raw::ready(), ["a worker has", "the frontend of a broker"]),
            (broker.backend(), as_client(), ["a client has", "the backend of a broker"]),
            (binds.endpoint(), as_client(), ["a client has", "a client that binds"]),
        ] {
            let mut link = Link::dial(endpoint).await;
            link.send(&Message::Ready(ready)).await;
            let error = link.receive_error().await;
            assert!(said.iter().all(|part| error.detail.contains(part)), "{}", error.detail);
            link.ended().await;
        }
        assert_eq!((broker.clients(), broker.workers().len(), binds.workers().len()), (0, 0, 0));
    });
}

#[test]
fn client_that_connects_to_a_client_that_binds_is_refused() {
    run(async {
        let binds = client().await;
        let _worker = worker(&binds).await;
        let connects = Client::connect(binds.endpoint()).unwrap();
        let error = probe(&connects).ping().timeout(Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::NoWorker { .. })), "{error}");
        assert!(!connects.is_connected() && connects.workers().is_empty());
        assert_eq!((probe(&binds).ping().await.unwrap().as_str(), binds.workers().len()), ("pong", 1));
    });
}

#[test]
fn endpoints_that_cannot_be_dialed_are_an_error_at_once() {
    let connect = |endpoints: &[&str]| Client::connect(endpoints).unwrap_err();
    assert!(matches!(connect(&["nowhere"]), ConnectError::Endpoint(_)));
    assert!(matches!(connect(&["tcp://a:1", "tcp://*:1"]), ConnectError::NotDialable { .. }));
    assert!(matches!(connect(&["tcp://a:1", "tcp://a:0"]), ConnectError::NotDialable { .. }));
    assert!(matches!(connect(&["tcp://a:1", "tcp://b:1", "tcp://a:1"]), ConnectError::DuplicateEndpoint(_)));
    assert!(matches!(connect(&[]), ConnectError::NoEndpoint));
    let settings = Client::builder().backoff(Duration::from_secs(2), Duration::from_secs(1));
    let error = settings.connect("tcp://a:1").unwrap_err();
    assert!(matches!(error, ConnectError::Config(_)) && error.to_string().contains("backoff"), "{error}");

    let start = |endpoints: &[&str]| Worker::connect(endpoints).serve(prober()).start().unwrap_err();
    assert!(matches!(start(&["tcp://a:1", "tcp://a:1"]), StartError::Connect(ConnectError::DuplicateEndpoint(_))));
    assert!(matches!(start(&[]), StartError::Connect(ConnectError::NoEndpoint)));
}

#[test]
fn brokers_that_cannot_be_bound_say_why() {
    run(async {
        let broker = broker().await;
        let bind = async |frontend: &str, backend: &str| Broker::bind(frontend, backend).await.unwrap_err();
        let free = "tcp://127.0.0.1:0";
        assert!(matches!(bind("nowhere", free).await, BindError::Endpoint(_)));
        assert!(matches!(bind(free, "tcp://nowhere").await, BindError::Endpoint(_)));
        for (frontend, backend) in [(broker.frontend(), free), (free, broker.backend())] {
            assert!(matches!(bind(frontend, backend).await, BindError::Transport(_)));
        }
        for same in ["tcp://127.0.0.1:5560", "ipc:///tmp/same", "inproc://same"] {
            let error = bind(same, same).await;
            assert!(matches!(error, BindError::SameEndpoint(_)) && error.to_string().contains(same), "{error}");
        }
        let port = broker.frontend().rsplit_once(':').expect("a port").1;
        broker.close().await;
        let (every, one) = (format!("tcp://*:{port}"), format!("tcp://127.0.0.1:{port}"));
        for (frontend, backend) in [(&every, &one), (&one, &every)] {
            let error = bind(frontend, backend).await;
            let said =
                format!("cannot bind {backend} for workers: {frontend}, for clients, has its port; give each a port");
            assert!(matches!(error, BindError::SharedPort { .. }) && error.to_string().starts_with(&said), "{error}");
        }
        for settings in [
            Broker::builder().client_credits(0),
            Broker::builder().waiting_max(0),
            Broker::builder().attempts_max(0),
            Broker::builder().liveness(1),
            Broker::builder().drain_timeout(Duration::from_secs(100 * 24 * 3600)),
        ] {
            assert!(matches!(settings.bind(free, free).await.unwrap_err(), BindError::Config(_)));
        }
    });
}

#[test]
fn call_that_ended_without_a_broker_says_so_even_if_one_has_come_since() {
    run(async {
        let frontend = "inproc://late-broker-frontend";
        let client = Client::connect(frontend).unwrap();
        let probe = probe(&client);
        let early = probe.ping().timeout(Duration::from_millis(50)).start();
        // It ends after the other one.
        probe.ping().timeout(Duration::from_millis(60)).await.unwrap_err();
        let _broker = Broker::bind(frontend, "inproc://late-broker-backend").await.unwrap();
        eventually("the broker is connected", async || !client.workers().is_empty()).await;
        let error = early.await.unwrap_err();
        assert!(
            matches!(&error, CallError::Rpc(RpcError::NoWorker { brokers_missing, .. }) if brokers_missing == &[frontend]),
            "{error}"
        );
        let error = probe.ping().timeout(Duration::from_millis(50)).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Rpc(RpcError::NoWorker { brokers_missing, .. }) if brokers_missing.is_empty()),
            "{error}"
        );
    });
}
