//! Bounds: sizes, credits, queues and memory, each with an error that says which setter raises it.

use bytes::Bytes;
use tokio::task::JoinSet;
use xero::{
    CallError, Client, Codec, RpcError, Worker,
    proto::message::{ErrorCode, Message, Payload, Request},
};
use xero_tests::{
    probe,
    process::UNNOTICED,
    raw::{self, Dispatcher},
    scene::{PATIENCE, bind, client, eventually, noting, probe, prober, run, start, timed, within, worker},
    service::Journal,
};

const SMALL: usize = 10_000;

#[test]
fn arguments_over_the_callers_limit_are_an_error_before_anything_is_sent() {
    run(async {
        let client = bind(Client::builder().payload_bytes_max(SMALL).metadata_bytes_max(100)).await;
        let worker = worker(&client).await;
        let before = worker.counters().await.requests;
        let (outcome, time) = timed(probe(&client).length(&vec![0; 2 * SMALL]).timeout(2 * PATIENCE)).await;
        let error = outcome.unwrap_err();
        assert!(matches!(&error, CallError::Rpc(RpcError::TooLarge { maybe_executed: false, .. })), "{error}");
        assert!(error.to_string().contains("payload_bytes_max") && error.to_string().contains("10000"), "{error}");
        assert!(time < UNNOTICED);
        let error = probe(&client).ping().metadata("big", vec![0; 200]).await.unwrap_err();
        assert!(error.to_string().contains("metadata_bytes_max"), "{error}");
        assert_eq!(worker.counters().await.requests, before);
        assert_eq!(probe(&client).length(&vec![0; SMALL / 2]).await.unwrap(), SMALL / 2);
    });
}

#[test]
fn arguments_over_the_workers_limit_are_an_error_at_once() {
    run(async {
        let client = client().await;
        let worker = start(&client, Worker::connect(client.endpoint()).payload_bytes_max(SMALL)).await;
        let error = probe(&client).length(&vec![0; 2 * SMALL]).timeout(2 * PATIENCE).await.unwrap_err();
        assert!(matches!(&error, CallError::Rpc(RpcError::TooLarge { maybe_executed: false, .. })), "{error}");
        assert!(error.to_string().contains("payload_bytes_max"), "{error}");
        assert_eq!(probe(&client).length(&vec![0; SMALL / 2]).await.unwrap(), SMALL / 2);
        assert_eq!(worker.counters().await.redials, 0);
    });
}

#[test]
fn arguments_that_never_find_room_at_the_worker_are_too_large_and_not_sent_again() {
    run(async {
        let client = client().await;
        let worker = start(&client, Worker::connect(client.endpoint()).total_bytes_max(3 << 20)).await;
        let error = probe(&client).length(&vec![0; 900_000]).await.unwrap_err();
        assert!(matches!(&error, CallError::Rpc(RpcError::TooLarge { maybe_executed: false, .. })), "{error}");
        assert!(error.to_string().contains(" is over the 838860 bytes that one request may take"), "{error}");
        assert!(error.to_string().contains("raise the worker's `total_bytes_max` to at least "), "{error}");
        assert_eq!(worker.counters().await.requests, 1);
        assert_eq!(probe(&client).length(&vec![0; 800_000]).await.unwrap(), 800_000);
    });
}

#[test]
fn reply_over_either_limit_is_an_error_at_once_and_may_have_run() {
    run(async {
        for (ours, theirs) in [(SMALL, 64 << 20), (64 << 20, SMALL)] {
            let client = bind(Client::builder().payload_bytes_max(ours)).await;
            let worker = start(&client, Worker::connect(client.endpoint()).payload_bytes_max(theirs)).await;
            let error = probe(&client).bytes(2 * SMALL).timeout(2 * PATIENCE).await.unwrap_err();
            assert!(matches!(&error, CallError::Rpc(RpcError::TooLarge { maybe_executed: true, .. })), "{error}");
            assert!(error.to_string().contains("payload_bytes_max"), "{error}");
            assert_eq!(probe(&client).bytes(SMALL / 2).await.unwrap().len(), SMALL / 2);
            assert_eq!(worker.counters().await.redials, 0);
        }
    });
}

#[test]
fn partial_reply_over_the_limit_is_an_error_for_the_procedure() {
    run(async {
        let client = bind(Client::builder().payload_bytes_max(SMALL)).await;
        let _worker = worker(&client).await;
        // It sends until one cannot be sent: here, the first.
        assert_eq!(probe(&client).flood("too large", 2 * SMALL).timeout(PATIENCE).await.unwrap(), 0);
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
    });
}

#[test]
fn oversized_messages_of_peers_that_ignore_limits_are_errors() {
    run(async {
        let client = bind(Client::builder().payload_bytes_max(SMALL)).await;
        let mut worker = raw::worker(client.endpoint(), raw::ready()).await;
        let call = probe(&client).ping().timeout(2 * PATIENCE).start();
        let id = worker.receive_request().await.call;
        let large = Payload { codec: Codec::Bincode, bytes: Bytes::from(vec![0; 2 * SMALL]) };
        worker.send(&raw::final_reply(id, large.clone())).await;
        let error = within(PATIENCE, call).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Rpc(RpcError::TooLarge { .. }) | CallError::Rpc(RpcError::Malformed { .. })),
            "{error}"
        );
        assert!(error.maybe_executed() && error.to_string().contains("payload_bytes_max"), "{error}");
        assert_eq!(client.workers().len(), 1);

        let dispatcher = Dispatcher::bind().await;
        let worker = Worker::connect(&dispatcher.endpoint).payload_bytes_max(SMALL).serve(prober()).start().unwrap();
        let mut link = dispatcher.register().await;
        link.send(&Message::Request(Request { payload: large, ..raw::request(1, "echo", "") })).await;
        let error = link.receive_error().await;
        assert_eq!((error.code, error.maybe_executed), (ErrorCode::TooLarge, false));
        assert!(error.detail.contains("payload_bytes_max"), "{}", error.detail);
        // The handle shows it after the answers of the same turn have left.
        eventually("the worker has registered", async || worker.is_connected()).await;
    });
}

#[test]
fn dispatcher_never_exceeds_a_workers_credits() {
    run(async {
        let client = client().await;
        let mut worker = raw::worker(client.endpoint(), raw::Ready { credits: 2, ..raw::ready() }).await;
        let probe = probe(&client);
        let calls: Vec<_> = (0..5).map(|_| probe.ping().timeout(PATIENCE).start()).collect();
        let mut held = vec![worker.receive_request().await.call, worker.receive_request().await.call];
        for _ in 0..3 {
            // One more arrives for each answer; extra ones on their way would arrive first.
            worker.send(&raw::final_reply(held.remove(0), raw::text("pong"))).await;
            held.push(worker.receive_request().await.call);
        }
        for id in held {
            worker.send(&raw::final_reply(id, raw::text("pong"))).await;
        }
        for call in calls {
            assert_eq!(within(PATIENCE, call).await.unwrap(), "pong");
        }

        // 0 credits pause the worker, and a new number lets it continue.
        worker.send(&Message::Credit(0)).await;
        eventually("it is paused", async || client.workers().iter().all(|worker| worker.credits == 0)).await;
        let error = probe.ping().fail_fast().await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::Overloaded { maybe_executed: false, .. })), "{error}");
        assert!(["`concurrency`", "`window_bytes`"].iter().all(|setter| error.to_string().contains(setter)), "{error}");
        let waiting = probe.ping().timeout(PATIENCE).start();
        worker.send(&Message::Credit(1)).await;
        let id = worker.receive_request().await.call;
        worker.send(&raw::final_reply(id, raw::text("pong"))).await;
        assert_eq!(within(PATIENCE, waiting).await.unwrap(), "pong");
    });
}

#[test]
fn worker_refuses_requests_beyond_its_credits_and_drops_repeated_ones() {
    run(async {
        let (dispatcher, journal) = (Dispatcher::bind().await, Journal::new());
        let settings = Worker::connect(&dispatcher.endpoint).concurrency(2);
        let worker = settings.serve(noting(&journal)).start().unwrap();
        let mut link = dispatcher.register().await;
        let work = |call| Message::Request(raw::request(call, "work", r#"["held", 60000]"#));
        link.send(&work(1)).await;
        // An answer to the second would end the first.
        link.send(&work(1)).await;
        link.send(&work(2)).await;
        link.send(&work(3)).await;
        let error = link.receive_error().await;
        assert_eq!((error.call.0, error.code, error.maybe_executed), (3, ErrorCode::Overloaded, false));
        assert_eq!(error.detail, "the worker accepts 2 requests at once; raise its `concurrency`");
        eventually("both run", async || journal.count("held", "begin") == 2).await;
        link.send(&Message::Cancel(xero::CallId(1))).await;
        let error = link.receive_error().await;
        assert_eq!((error.call.0, error.code, error.maybe_executed), (1, ErrorCode::Cancelled, true));
        link.send(&Message::Request(raw::request(4, "ping", "[]"))).await;
        assert!(matches!(link.receive_news().await, Some(Message::Final(reply)) if reply.call.0 == 4));
        assert_eq!((journal.count("held", "begin"), worker.counters().await.unexpected_messages), (2, 1));
    });
}

#[test]
fn calls_past_the_queues_bound_fail_at_once_as_overloaded() {
    run(async {
        let client = bind(Client::builder().waiting_max(20)).await;
        let mut worker = raw::worker(client.endpoint(), raw::Ready { credits: 1, ..raw::ready() }).await;
        let running = probe(&client).ping().timeout(PATIENCE).start();
        let id = worker.receive_request().await.call;
        let mut calls = JoinSet::new();
        for _ in 0..100 {
            calls.spawn(probe(&client).ping().timeout(PATIENCE).into_future());
        }
        for _ in 0..80 {
            let error = within(PATIENCE, calls.join_next()).await.unwrap().unwrap().unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::Overloaded { maybe_executed: false, .. })), "{error}");
            let text = "`Probe.ping`: overloaded: 20 calls wait for a worker already; raise `waiting_max`";
            assert!(error.is_retryable() && error.to_string() == text, "{error}");
        }
        worker.send(&raw::final_reply(id, raw::text("pong"))).await;
        assert_eq!(running.await.unwrap(), "pong");
        for _ in 0..20 {
            let id = worker.receive_request().await.call;
            worker.send(&raw::final_reply(id, raw::text("pong"))).await;
        }
        for outcome in within(PATIENCE, calls.join_all()).await {
            assert_eq!(outcome.unwrap(), "pong");
        }
    });
}

#[test]
fn worker_that_never_reads_costs_its_credits_and_no_other_calls() {
    run(async {
        let client = client().await;
        // It neither reads nor answers; four requests of 1 MiB are more than the system's buffers take.
        let deaf = raw::worker(client.endpoint(), raw::Ready { credits: 4, ..raw::ready() }).await;
        let worker = worker(&client).await;
        let mut calls = JoinSet::new();
        for _ in 0..100 {
            let text = "x".repeat(1 << 20);
            calls.spawn(probe(&client).echo(&text).timeout(PATIENCE).into_future());
        }
        for _ in 0..96 {
            assert_eq!(within(PATIENCE, calls.join_next()).await.unwrap().unwrap().unwrap().len(), 1 << 20);
        }
        assert_eq!(probe(&client).whoami().await.unwrap().worker, worker.id());
        assert!(calls.try_join_next().is_none(), "the deaf worker holds as many calls as it has credits");
        drop(deaf);
        for outcome in within(PATIENCE, calls.join_all()).await {
            assert_eq!(outcome.unwrap().len(), 1 << 20);
        }
        assert_eq!(client.counters().await.retries, 4);
    });
}

#[test]
fn memory_does_not_grow_with_a_caller_that_never_reads() {
    run(async {
        let dispatcher = Dispatcher::bind().await;
        let process = probe!("worker", dispatcher.endpoint, "--concurrency", "4", "--interval", "20000");
        let mut deaf = dispatcher.register().await;
        let before = process.resident_bytes();
        let grown = || process.resident_bytes().saturating_sub(before);
        // The worker holds at most the replies to four requests of 8 MiB for a client that does not read: reading
        // returns the credits.
        for call in 1..=4 {
            deaf.send(&Message::Request(raw::request(call, "bytes", "[6291456]"))).await;
        }
        eventually("the replies are there", async || grown() > 24 << 20).await;
        for call in 1..=4 {
            let reply = deaf.receive_news().await;
            assert!(matches!(&reply, Some(Message::Final(reply)) if reply.payload.bytes.len() > 8 << 20), "{call}");
        }
        let grown = grown();
        assert!(grown < 200 << 20, "{grown} bytes more");
    });
}
