//! One call: its deadline, its end, its partial replies, its metadata, and the codecs of its arguments.

use std::{pin::pin, time::Duration};

use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;
use xero::{
    Call, CallError, Client, Codec, RpcError, Worker,
    proto::message::{ErrorCode, Message, Request},
};
use xero_tests::{
    raw::{self, Dispatcher},
    scene::{PATIENCE, client, eventually, joined, noting, probe, run, timed, within, worker},
    service::Journal,
};

#[test]
fn dropping_a_call_cancels_it_on_the_worker() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let worker = Worker::connect(client.endpoint()).concurrency(1).serve(noting(&journal)).start().unwrap();
        joined(&client, &worker).await;
        let probe = probe(&client);
        for round in 1..=5 {
            let call = probe.work("dropped", 60_000).timeout(PATIENCE).start();
            eventually("it runs", async || journal.count("dropped", "begin") == round).await;
            drop(call);
            eventually("it is cancelled", async || journal.count("dropped", "dropped") == round).await;
        }
        // The only credit is free again.
        assert_eq!(probe.ping().timeout(PATIENCE).await.unwrap(), "pong");
        assert_eq!(journal.count("dropped", "end"), 0);
        assert_eq!(client.counters().await.unsolicited_replies, 0);
    });
}

#[test]
fn call_dropped_while_it_waits_never_runs() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let never = probe(&client).work("never", 1).timeout(PATIENCE).start();
        drop(never);
        let worker = Worker::connect(client.endpoint()).serve(noting(&journal)).start().unwrap();
        joined(&client, &worker).await;
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
        assert_eq!(worker.counters().await.requests, 1);
        assert_eq!(journal.count("never", "begin"), 0);
        // A call that is never awaited is never sent.
        drop(probe(&client).work("never", 1));
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
        assert_eq!(worker.counters().await.requests, 2);
    });
}

#[test]
fn deadline_ends_the_call_and_stops_the_procedure() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let worker = Worker::connect(client.endpoint()).serve(noting(&journal)).start().unwrap();
        joined(&client, &worker).await;
        let timeout = Duration::from_millis(100);
        let (outcome, time) = timed(probe(&client).work("late", 60_000).timeout(timeout)).await;
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { maybe_executed: true, timeout: t, .. }) if t == timeout)
        );
        assert!(time >= timeout && time < PATIENCE, "ended after {time:?}");
        eventually("the procedure is stopped", async || journal.count("late", "dropped") == 1).await;
    });
}

#[test]
fn worker_keeps_the_deadline_of_a_silent_caller() {
    run(async {
        let (dispatcher, journal) = (Dispatcher::bind().await, Journal::new());
        let _worker = Worker::connect(&dispatcher.endpoint).serve(noting(&journal)).start().unwrap();
        let mut link = dispatcher.register().await;
        let request = raw::request(1, "work", r#"["silent", 60000]"#);
        let begin = Instant::now();
        link.send(&Message::Request(Request { remaining: Duration::from_millis(150), ..request })).await;
        let error = link.receive_error().await;
        assert!(begin.elapsed() >= Duration::from_millis(150));
        assert_eq!((error.code, error.maybe_executed), (ErrorCode::DeadlineExceeded, true));
        assert_eq!(journal.count("silent", "dropped"), 1);
    });
}

#[test]
fn methods_own_timeout_counts_unless_the_call_has_one() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let probe = probe(&client);
        let error = probe.hurried(60_000).await.unwrap_err();
        let timeout = Duration::from_millis(150);
        assert!(
            matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { timeout: t, .. }) if t == timeout),
            "{error}"
        );
        assert_eq!(probe.hurried(300).timeout(PATIENCE).await.unwrap(), 300);
        // The procedure knows its remaining time.
        let seen = probe.context().timeout(Duration::from_secs(20)).await.unwrap();
        assert!(seen.remaining > Duration::from_secs(10) && seen.remaining < Duration::from_secs(21));
        let longest = probe.ping().timeout(Duration::MAX).await;
        assert_eq!(longest.unwrap(), "pong");
    });
}

#[test]
fn metadata_reaches_the_procedure_untouched() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let bytes: Vec<u8> = (0..=255).collect();
        for codec in Codec::ALL {
            let call = probe(&client).with_codec(codec).context();
            let seen =
                call.metadata("traceparent", parent).metadata("ключ", bytes.clone()).metadata("", "").await.unwrap();
            assert_eq!(seen.metadata.len(), 3);
            assert_eq!(seen.metadata["traceparent"], parent.as_bytes());
            assert_eq!(seen.metadata["ключ"], bytes);
            assert!(seen.metadata[""].is_empty());
            assert_eq!((seen.method.as_str(), seen.codec, seen.attempt), ("Probe.context", codec.to_string(), 1));
        }
        assert!(probe(&client).context().await.unwrap().metadata.is_empty());
    });
}

#[test]
fn arguments_by_position_and_by_name_in_every_codec_that_allows_it() {
    #[derive(Serialize)]
    struct Named {
        right: i64,
        left: i64,
    }
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        for codec in [Codec::MessagePack, Codec::Json] {
            let call = || client.call("Probe.add").codec(codec);
            let by_name = Named { right: 40, left: 2 };
            for reply in [
                call().arguments(&(2, 40)).await.unwrap(),
                call().arguments(&[2, 40]).await.unwrap(),
                call().arguments(&by_name).await.unwrap(),
                call().arguments(&serde_json::json!({"left": 2, "right": 40})).await.unwrap(),
            ] {
                assert_eq!((reply.decode::<i64>().unwrap(), reply.codec()), (42, codec));
            }
            let empty = client.call("Probe.ping").codec(codec);
            assert_eq!(empty.arguments(&serde_json::json!({})).await.unwrap().decode::<String>().unwrap(), "pong");
            let none = client.call("Probe.ping").codec(codec).await.unwrap();
            assert_eq!(none.decode::<String>().unwrap(), "pong");
        }
        let reply = client.call("Probe.add").codec(Codec::Bincode).arguments(&(2_i64, 40_i64)).await.unwrap();
        assert_eq!(reply.decode::<i64>().unwrap(), 42);
        for codec in Codec::ALL {
            assert_eq!(probe(&client).with_codec(codec).add(i64::MIN, -1).await.unwrap(), i64::MAX);
            assert_eq!(probe(&client).with_codec(codec).echo("ö\0\u{10FFFF}").await.unwrap(), "ö\0\u{10FFFF}");
            assert_eq!(probe(&client).with_codec(codec).length(&[7; 1000]).await.unwrap(), 1000);
        }
    });
}

#[test]
fn partial_replies_arrive_in_order_and_before_the_final_one() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        for codec in Codec::ALL {
            let mut call = probe(&client).with_codec(codec).progress(500).timeout(PATIENCE).start();
            for step in 0..500 {
                let partial = within(PATIENCE, call.partial()).await.expect("one more");
                assert_eq!(partial.decode::<u32>().unwrap(), step);
                let error = partial.decode::<[u64; 4]>().unwrap_err().to_string();
                assert!(error.contains(" in a partial reply of `Probe.progress`"), "{error}");
            }
            assert!(within(PATIENCE, call.partial()).await.is_none());
            assert_eq!(call.await.unwrap(), 500);
        }
        // A caller that does not ask for them does not get them.
        assert_eq!(probe(&client).progress(5000).timeout(PATIENCE).await.unwrap(), 5000);
    });
}

#[test]
fn lost_and_unread_partial_replies_are_errors() {
    run(async {
        let client = client().await;
        let mut raw = raw::worker(client.endpoint(), raw::ready()).await;
        let call = probe(&client).progress(3).timeout(PATIENCE).start();
        let id = raw.receive_request().await.call;
        raw.send(&raw::partial_reply(id, 0, raw::text("0"))).await;
        raw.send(&raw::partial_reply(id, 2, raw::text("2"))).await;
        let error = within(PATIENCE, call).await.unwrap_err();
        assert!(matches!(&error, CallError::Rpc(RpcError::PartialsLost { sent: 3, received: 1, .. })), "{error:?}");
        assert_eq!(raw.receive_news().await, Some(Message::Cancel(id)));
        drop(raw);

        let _worker = worker(&client).await;
        let unread = probe(&client).progress(5000).timeout(PATIENCE).start();
        let error = within(PATIENCE, unread).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::PartialsUnread { .. })), "{error}");
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
    });
}

#[test]
fn late_reply_of_an_ended_call_is_dropped_and_counted() {
    run(async {
        let client = client().await;
        let mut raw = raw::worker(client.endpoint(), raw::ready()).await;
        let error = probe(&client).ping().timeout(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { maybe_executed: true, .. })), "{error}");
        let id = raw.receive_request().await.call;
        assert_eq!(raw.receive_news().await, Some(Message::Cancel(id)));

        let call = probe(&client).ping().timeout(PATIENCE).start();
        let next = raw.receive_request().await.call;
        raw.send(&raw::final_reply(id, raw::text("late"))).await;
        raw.send(&raw::final_reply(next, raw::text("pong"))).await;
        assert_eq!(call.await.unwrap(), "pong");
        assert_eq!(client.counters().await.late_replies, 1);
    });
}

#[test]
fn callers_trait_or_else_the_worker_decides_whether_a_call_may_run_twice() {
    run(async {
        // The trait declares `ping` idempotent, but not `work`.
        for worker_says in [true, false] {
            let client = client().await;
            assert!(is_retried(&client, worker_says, probe(&client).ping().timeout(PATIENCE)).await);
            let client = self::client().await;
            assert!(!is_retried(&client, worker_says, probe(&client).work("once", 1).timeout(PATIENCE)).await);
            let client = self::client().await;
            let dynamic = client.call("Probe.work").arguments(&("once", 1)).timeout(PATIENCE);
            assert_eq!(is_retried(&client, worker_says, dynamic).await, worker_says);
            let client = self::client().await;
            let told = client.call("Probe.work").arguments(&("again", 1)).idempotent().timeout(PATIENCE);
            assert!(is_retried(&client, worker_says, told).await);
        }
    });
}

/// Whether a call goes to a second worker when the first, which may have run it, is lost.
async fn is_retried<T, E>(client: &Client, worker_says: bool, call: Call<T, E>) -> bool
where
    Call<T, E>: IntoFuture<Output = Result<T, CallError<E>>>,
{
    let mut ready = raw::ready();
    ready.services[0].methods.iter_mut().for_each(|method| method.idempotent = worker_says);
    let mut first = raw::worker(client.endpoint(), ready.clone()).await;
    let mut second = raw::worker(client.endpoint(), raw::Ready { incarnation: Uuid::new_v4(), ..ready }).await;
    // It is sent only when it is polled.
    let mut call = pin!(call.into_future());
    let request = tokio::select! {
        _ = &mut call => panic!("nobody has answered"),
        request = first.receive_request() => request,
    };
    drop(first);
    let is_retried = tokio::select! {
        outcome = call => {
            assert!(matches!(outcome, Err(CallError::Rpc(RpcError::WorkerLost { attempts: 1, maybe_executed: true, .. }))));
            false
        }
        again = second.receive_request() => {
            assert_eq!((again.call, again.attempt), (request.call, 2));
            true
        }
    };
    assert_eq!(request.idempotent, is_retried, "the request says so");
    is_retried
}
