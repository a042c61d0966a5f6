//! Waiting for a worker or client: under a paused clock, and without any Tokio runtime.

use std::time::{Duration, Instant};

use xero::{Client, Worker};
use xero_tests::{
    scene::{PATIENCE, Port, prober},
    service::ProbeClient,
};

#[tokio::test(start_paused = true)]
async fn waits_take_real_time_under_a_paused_clock() {
    let client = Client::bind("tcp://127.0.0.1:0").await.unwrap();
    let begun_at = Instant::now();
    let time = Duration::from_millis(300);
    let error = client.wait_for_worker(time).await.unwrap_err();
    assert!(error.to_string().contains("within 300ms"), "{error}");
    assert!(begun_at.elapsed() >= time, "gave up after {:?}", begun_at.elapsed());

    let worker = Worker::connect(Port::reserve().endpoint()).serve(prober()).start().unwrap();
    let begun_at = Instant::now();
    assert!(!worker.wait_for_client(time).await);
    assert!(begun_at.elapsed() >= time, "gave up after {:?}", begun_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn worker_and_client_find_each_other_under_a_paused_clock() {
    let client = Client::bind("tcp://127.0.0.1:0").await.unwrap();
    let worker = Worker::connect(client.endpoint()).serve(prober()).start().unwrap();
    client.wait_for_worker(PATIENCE).await.unwrap();
    client.wait_for_service("Probe", PATIENCE).await.unwrap();
    assert!(worker.wait_for_client(PATIENCE).await);
    assert_eq!(ProbeClient::new(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
}

#[test]
fn client_waits_and_calls_without_any_runtime() {
    let client = futures_executor::block_on(Client::bind("tcp://127.0.0.1:0")).unwrap();
    let begun_at = Instant::now();
    let time = Duration::from_millis(100);
    assert!(futures_executor::block_on(client.wait_for_service("Probe", time)).is_err());
    assert!(begun_at.elapsed() >= time);
    assert!(futures_executor::block_on(client.wait_for_worker(Duration::ZERO)).is_err());

    // Procedures need a runtime; nothing else does.
    let runtime = xero_tests::scene::runtime(1);
    let worker = {
        let _inside = runtime.enter();
        Worker::connect(client.endpoint()).serve(prober()).start().unwrap()
    };
    futures_executor::block_on(async {
        client.wait_for_worker(PATIENCE).await.unwrap();
        client.wait_for_worker(Duration::ZERO).await.unwrap();
        client.wait_for_worker(Duration::MAX).await.unwrap();
        assert!(worker.wait_for_client(PATIENCE).await);
        assert_eq!(ProbeClient::new(&client).ping().await.unwrap(), "pong");
        worker.drain().await;
        client.drain(PATIENCE).await;
    });
}

#[test]
fn abandoned_wait_does_not_keep_a_client_from_closing() {
    let client = futures_executor::block_on(Client::bind("inproc://*")).unwrap();
    for _ in 0..1000 {
        let mut wait = Box::pin(client.wait_for_worker(Duration::from_secs(3600)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
    }
    // A wait of an hour does not keep the client from closing.
    futures_executor::block_on(client.close());
}
