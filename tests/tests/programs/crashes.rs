//! I/O threads that die: every caller that waits for one gets an error at once.

use std::time::Duration;

use xero::{Broker, CallError, Candidate, Client, RpcError, Worker, WorkerChoice, proto::message::Peer};
use xero_tests::scene::{
    LONG, PATIENCE, beating, bind, bind_broker, client_of, eventually, probe, prober, run, start_of, within,
};

/// A policy that panics on the I/O thread when it is asked, and again when it is dropped.
#[derive(Debug)]
struct Broken;

impl WorkerChoice for Broken {
    fn choose(&mut self, _: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        panic!("a broken choice")
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        panic!("a broken choice that is dropped");
    }
}

/// Far below the deadlines and timeouts used here.
const AT_ONCE: Duration = Duration::from_secs(10);

#[test]
fn everything_asked_of_a_client_whose_io_thread_dies_ends_at_once_with_the_reason() {
    run(async {
        let client = bind(beating(LONG).worker_choice(Broken)).await;
        let absent = client.call("Absent.method").timeout(PATIENCE).start();
        let mut partials = client.call("Absent.method").timeout(PATIENCE).start();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.wait_for_service("Absent", PATIENCE).await }
        });
        // The policy is asked about the first call that the worker can run.
        let worker = Worker::connect(client.endpoint()).serve(prober()).start().unwrap();
        let fatal = within(AT_ONCE, probe(&client).ping().timeout(PATIENCE)).await.unwrap_err();
        assert_crashed(&fatal);
        assert_crashed(&within(AT_ONCE, absent).await.unwrap_err());
        assert!(within(AT_ONCE, partials.partial()).await.is_none());
        assert_crashed(&within(AT_ONCE, partials).await.unwrap_err());
        let late = within(AT_ONCE, probe(&client).ping().timeout(PATIENCE)).await.unwrap_err();
        assert_crashed(&late);
        assert!(!late.maybe_executed());

        let error = within(AT_ONCE, waiting).await.unwrap().unwrap_err();
        assert!(error.is_closed() && error.to_string().contains("panicked"), "{error}");
        let error = within(AT_ONCE, client.wait_for_worker(PATIENCE)).await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        within(AT_ONCE, client.drain(PATIENCE)).await;
        within(AT_ONCE, client.close()).await;
        within(AT_ONCE, client.counters()).await;
        assert!(!client.is_connected() && client.workers().is_empty());
        // Its peers notice.
        eventually("the worker has lost it", async || !worker.is_connected()).await;
        within(AT_ONCE, Client::bind(client.endpoint())).await.expect("its endpoint is free");
    });
}

fn assert_crashed<E: std::fmt::Display>(error: &CallError<E>) {
    assert!(matches!(error, CallError::Rpc(RpcError::Crashed { .. })), "{error}");
    assert!(error.to_string().contains("I/O thread has panicked"), "{error}");
    assert!(!error.is_transient());
}

#[test]
fn everything_asked_of_a_broker_whose_io_thread_dies_ends_at_once() {
    run(async {
        let broker = bind_broker(Broker::builder().worker_choice(Broken).heartbeat_interval(LONG)).await;
        let client = client_of(&broker).await;
        let _worker = start_of(&broker, Worker::connect(broker.backend()).serve(prober())).await;
        let left = tokio::spawn({
            let broker = broker.clone();
            async move { broker.left().await }
        });
        let error = within(AT_ONCE, probe(&client).work("fatal", 0).timeout(PATIENCE)).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::WorkerLost { .. })), "{error}");
        within(AT_ONCE, left).await.unwrap();
        within(AT_ONCE, broker.left()).await;
        within(AT_ONCE, broker.drain()).await;
        within(AT_ONCE, broker.close()).await;
        within(AT_ONCE, broker.counters()).await;
        assert!(broker.workers().is_empty());
        assert_eq!(broker.clients(), 0);
        let _again =
            within(AT_ONCE, Broker::bind(broker.frontend(), broker.backend())).await.expect("its endpoints are free");
    });
}
