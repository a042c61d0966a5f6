//! A drain loses nothing: running calls finish, new ones go elsewhere, and the peer that stops says goodbye.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use xero::{
    CallError, Client, RpcError, Worker,
    proto::message::{ErrorCode, Message},
};
use xero_tests::{
    link::Link,
    probe,
    raw::{self, Dispatcher},
    scene::{
        PATIENCE, Port, beating, bind, client, eventually, has, joined, noting, probe, prober, run, start, within,
        worker,
    },
    service::Journal,
};

#[test]
fn draining_worker_finishes_its_calls_and_gets_no_new_ones() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let first = Worker::connect(client.endpoint()).serve(noting(&journal)).start().unwrap();
        joined(&client, &first).await;
        let slow: Vec<_> = (0..5).map(|_| probe(&client).work("slow", 200).timeout(PATIENCE).start()).collect();
        eventually("all run", async || journal.count("slow", "begin") == 5).await;

        let draining = tokio::spawn({
            let first = first.clone();
            async move { first.drain().await }
        });
        let second = worker(&client).await;
        for _ in 0..20 {
            assert_eq!(probe(&client).whoami().await.unwrap().worker, second.id());
        }
        for call in slow {
            assert_eq!(call.await.unwrap().worker, first.id());
        }
        within(PATIENCE, draining).await.unwrap();
        assert!(!has(&client, &first));
        assert_eq!((journal.count("slow", "end"), journal.count("slow", "dropped")), (5, 0));
    });
}

#[test]
fn rolling_restart_fails_no_call() {
    run(async {
        let client = client().await;
        let over = Arc::new(AtomicBool::new(false));
        let mut worker = worker(&client).await;
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let (probe, over) = (probe(&client), Arc::clone(&over));
            callers.spawn(async move {
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    // `work` must not be retried once it has run, and no call needs a retry.
                    let outcome = probe.work("rolling", caller % 3).timeout(PATIENCE).await;
                    outcome.unwrap_or_else(|error| panic!("call {count}: {error}"));
                    count += 1;
                }
                count
            });
        }
        for _ in 0..10 {
            let next = xero_tests::scene::worker(&client).await;
            worker.drain().await;
            worker = next;
        }
        over.store(true, Ordering::Relaxed);
        let counts = within(PATIENCE, callers.join_all()).await;
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert_eq!(client.counters().await.unsolicited_replies, 0);
    });
}

#[test]
fn worker_finishes_its_call_on_sigterm_and_exits_with_0() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let path = journal.path().to_string_lossy();
        let mut process = probe!("worker", client.endpoint(), "--journal", path);
        let call = probe(&client).work("the last", 500).timeout(PATIENCE).start();
        eventually("it runs", async || journal.count("the last", "begin") == 1).await;
        process.terminate();
        assert_eq!(call.await.unwrap().process, process.id());
        assert!(process.ended().await.success());
        assert_eq!(process.count("left"), 1);
        assert!(!client.is_connected());
    });
}

#[test]
fn idle_worker_exits_with_0_on_sigterm_connected_or_not() {
    run(async {
        let client = client().await;
        let nobody = Port::reserve();
        for endpoint in [client.endpoint(), &nobody.endpoint()] {
            let mut process = probe!("worker", endpoint);
            process.says("started").await;
            process.terminate();
            assert!(process.ended().await.success());
        }
    });
}

#[test]
fn drain_that_takes_too_long_ends_with_errors() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let settings = Worker::connect(client.endpoint()).drain_timeout(Duration::from_millis(100));
        let first = settings.serve(noting(&journal)).start().unwrap();
        joined(&client, &first).await;
        let once = probe(&client).work("once", 60_000).timeout(2 * PATIENCE).start();
        let again = probe(&client).work_again("again", 300).timeout(PATIENCE).start();
        eventually("both run", async || journal.count("once", "begin") + journal.count("again", "begin") == 2).await;
        let second = worker(&client).await;
        within(PATIENCE, first.drain()).await;

        let error = once.await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::Refused { maybe_executed: true, .. })), "{error}");
        let whoami = again.await.unwrap();
        assert_eq!((whoami.worker, whoami.attempt), (second.id(), 2));
        eventually("what ran is stopped", async || journal.count("once", "dropped") == 1).await;
    });
}

#[test]
fn request_that_crosses_the_drain_is_refused_unstarted() {
    run(async {
        let (dispatcher, journal) = (Dispatcher::bind().await, Journal::new());
        let worker = Worker::connect(&dispatcher.endpoint).serve(noting(&journal)).start().unwrap();
        let mut link = dispatcher.register().await;
        link.send(&Message::Request(raw::request(1, "work", r#"["slow", 100]"#))).await;
        eventually("it runs", async || journal.count("slow", "begin") == 1).await;
        let draining = tokio::spawn(async move { worker.drain().await });
        assert_eq!(link.receive_news().await, Some(Message::Drain));
        // Sent as if the worker's DRAIN were still on its way.
        link.send(&Message::Request(raw::request(2, "work", r#"["crossing", 0]"#))).await;
        let error = link.receive_error().await;
        assert_eq!((error.call.0, error.code, error.maybe_executed), (2, ErrorCode::Refused, false));
        assert!(matches!(link.receive_news().await, Some(Message::Final(reply)) if reply.call.0 == 1));
        assert_eq!(link.receive_news().await, Some(Message::Goodbye));
        drop(link);
        within(PATIENCE, draining).await.unwrap();
        assert_eq!(journal.count("crossing", "begin"), 0);
    });
}

#[test]
fn refused_call_goes_to_another_worker_even_if_it_is_not_idempotent() {
    run(async {
        let client = client().await;
        let mut leaving = raw::worker(client.endpoint(), raw::ready()).await;
        let call = probe(&client).work("elsewhere", 1).timeout(PATIENCE).start();
        let request = leaving.receive_request().await;
        assert!(!request.idempotent);
        leaving.send(&Message::Drain).await;
        leaving.send(&raw::error_reply(request.call, ErrorCode::Refused)).await;
        let worker = worker(&client).await;
        let whoami = call.await.unwrap();
        assert_eq!((whoami.worker, whoami.attempt), (worker.id(), 2));
    });
}

#[test]
fn request_that_crosses_the_goodbye_of_a_drained_worker_goes_to_another() {
    run(async {
        let client = client().await;
        let mut leaving = raw::worker(client.endpoint(), raw::ready()).await;
        let call = probe(&client).work("crossing", 1).timeout(PATIENCE).start();
        leaving.receive_request().await;
        leaving.send(&Message::Drain).await;
        leaving.send(&Message::Goodbye).await;
        let next = worker(&client).await;
        let whoami = call.await.unwrap();
        assert_eq!((whoami.worker, whoami.attempt), (next.id(), 2));
        next.drain().await;

        // Without the drain, nothing proves that it was not started.
        let mut leaving = raw::worker(client.endpoint(), raw::ready()).await;
        let call = probe(&client).work("lost", 1).timeout(PATIENCE).start();
        leaving.receive_request().await;
        leaving.send(&Message::Goodbye).await;
        let error = call.await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::WorkerLost { maybe_executed: true, .. })), "{error}");
    });
}

#[test]
fn nothing_is_sent_to_a_worker_that_has_announced_its_drain() {
    run(async {
        let client = client().await;
        let mut leaving = raw::worker(client.endpoint(), raw::ready()).await;
        let first = probe(&client).ping().timeout(PATIENCE).start();
        let id = leaving.receive_request().await.call;
        leaving.send(&Message::Drain).await;
        leaving.send(&raw::final_reply(id, raw::text("pong"))).await;
        assert_eq!(first.await.unwrap(), "pong");
        let error = probe(&client).ping().fail_fast().await.unwrap_err();
        assert!(error.is_retryable() && !error.maybe_executed(), "{error}");
        leaving.send(&Message::Goodbye).await;
        // The client drops the connection: everything has arrived.
        assert_eq!(leaving.receive_news().await, None);
        assert!(!client.is_connected());
    });
}

#[test]
fn worker_without_any_client_drains_at_once() {
    run(async {
        let worker = Worker::connect(Port::reserve().endpoint()).serve(prober()).start().unwrap();
        within(PATIENCE, worker.drain()).await;
        within(PATIENCE, worker.left()).await;
        worker.drain().await;
        assert!(!worker.wait_for_client(PATIENCE).await);
    });
}

#[test]
fn drain_and_close_on_a_custom_signal() {
    run(async {
        let client = client().await;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let settings = Worker::connect(client.endpoint()).drain_on(async move { drop(stopped.await) });
        let worker = start(&client, settings).await;
        drop(stop);
        within(PATIENCE, worker.left()).await;
        eventually("it has said goodbye", async || !client.is_connected()).await;

        // Awaiting the settings serves until the drain.
        let client: Client = xero_tests::scene::client().await;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let settings = Worker::connect(client.endpoint()).drain_on(async move { drop(stopped.await) });
        let serving = tokio::spawn(settings.serve(prober()).into_future());
        client.wait_for_worker(PATIENCE).await.unwrap();
        stop.send(()).unwrap();
        within(PATIENCE, serving).await.unwrap().unwrap();
    });
}

#[test]
fn drain_does_not_cut_off_a_reply_on_its_way() {
    run(async {
        let client = client().await;
        let worker =
            Worker::connect(Link::narrow(4_000_000).to(client.endpoint()).await).serve(prober()).start().unwrap();
        joined(&client, &worker).await;
        // Two seconds on the way, four times the grace of a goodbye.
        let call = probe(&client).bytes(8 << 20).timeout(PATIENCE).start();
        eventually("the procedure has ended", async || worker.counters().await.requests == 1).await;
        within(PATIENCE, worker.drain()).await;
        assert_eq!(call.await.unwrap().len(), 8 << 20);
    });
}

#[test]
fn drain_that_begins_long_after_a_large_reply_does_not_cut_it_off() {
    run(async {
        let interval = Duration::from_millis(200);
        let client = bind(beating(interval)).await;
        // Four seconds on the way; the drain begins when the expiry of 600 ms has passed more than twice.
        let endpoint = Link::narrow(2_000_000).to(client.endpoint()).await;
        let worker = Worker::connect(endpoint).heartbeat_interval(interval).serve(prober()).start().unwrap();
        joined(&client, &worker).await;
        let call = probe(&client).bytes(8 << 20).timeout(PATIENCE).start();
        eventually("the procedure has begun", async || worker.counters().await.requests == 1).await;
        let begun_at = tokio::time::Instant::now();
        eventually("the expiry has passed twice", async || begun_at.elapsed() > 7 * interval).await;
        within(PATIENCE, worker.drain()).await;
        assert_eq!(call.await.unwrap().len(), 8 << 20);
    });
}
