//! Defects of input: malformed messages.

use xero::{
    CallError, CallId, RpcError, Worker,
    proto::{
        frame::{self, Frames},
        message::{ErrorCode, Event, Message},
    },
};
use xero_tests::{
    raw::{self, Dispatcher, Link},
    scene::{PATIENCE, client, eventually, probe, prober, run, within, worker},
};

#[test]
fn d13_events_of_peers_that_never_registered_are_dropped_with_their_connection() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        for _ in 0..3 {
            let mut stranger = Link::dial(client.endpoint()).await;
            let event = Event { topic: "news".into(), sequence: 0, payload: raw::text("forged") };
            stranger.send(&Message::Event(event)).await;
            within(PATIENCE, stranger.ended()).await;
        }
        assert_eq!(client.counters().await.unregistered_messages, 3);
        assert_eq!(client.workers().len(), 1);
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
    });
}

#[test]
fn d14_bad_request_gets_an_error_and_stalls_nothing_behind_it() {
    run(async {
        let dispatcher = Dispatcher::bind().await;
        let worker = Worker::connect(&dispatcher.endpoint).serve(prober()).start().unwrap();
        let mut link = dispatcher.register().await;
        let Frames { header, payload } = frame::encode(&Message::Request(raw::request(7, "echo", r#"["apple"]"#)));

        // No name and no arguments; truncated fields; a name that is not UTF-8; an unknown codec.
        let spoiled = |at: usize, byte: u8| {
            let mut header = header.to_vec();
            header[at] = byte;
            header
        };
        let name = 32 + 8 + 1;
        let bad = [header[..32].to_vec(), header[..header.len() - 3].to_vec(), spoiled(name, 0xFF), spoiled(24, 9)];
        for header in &bad {
            link.send_frames(&[header, &payload]).await;
            let error = link.receive_error().await;
            assert_eq!((error.call, error.code, error.maybe_executed), (CallId(7), ErrorCode::Malformed, false));
            assert!(!error.detail.is_empty());
        }
        // Truncated arguments, and none at all.
        for payload in [&payload[..4], &[]] {
            link.send_frames(&[&header, payload]).await;
            let error = link.receive_error().await;
            assert_eq!((error.call, error.code), (CallId(7), ErrorCode::InvalidArguments));
            assert!(!error.maybe_executed);
        }
        // A message without a call cannot be answered.
        let mute: [&[&[u8]]; 5] = [&[b""], &[b"XERO"], &[b"hello"], &[&header, &payload, b"more"], &[&[0; 64]]];
        for frames in mute {
            link.send_frames(frames).await;
        }
        link.send(&Message::Request(raw::request(8, "echo", r#"["orange"]"#))).await;
        assert_eq!(link.receive_news().await, Some(raw::final_reply(CallId(8), raw::json(r#""orange""#))));
        assert_eq!(worker.counters().await.malformed_messages, 9);
        assert!(worker.is_connected());
    });
}

#[test]
fn d15_bad_reply_is_an_error_at_once_and_stalls_nothing_behind_it() {
    run(async {
        let client = client().await;
        let mut worker = raw::worker(client.endpoint(), raw::ready()).await;
        let probe = probe(&client);
        let call = || probe.ping().timeout(2 * PATIENCE);

        // Too many bytes, too few, none.
        for bytes in [&b"\x04pongs"[..], b"\x04pon", b""] {
            let call = call().start();
            let id = worker.receive_request().await.call;
            let payload = xero::proto::message::Payload { bytes: bytes.into(), ..raw::text("") };
            worker.send(&raw::final_reply(id, payload)).await;
            let error = within(PATIENCE, call).await.unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::InvalidReply { .. })), "{error}");
            assert!(error.maybe_executed());
        }
        // An unknown codec; an error without its fields.
        for (message, at, byte, length) in [(false, 24, 9, 32), (true, 0, b'X', 32)] {
            let call = call().start();
            let id = worker.receive_request().await.call;
            let good = match message {
                false => raw::final_reply(id, raw::text("pong")),
                true => raw::error_reply(id, ErrorCode::Panicked),
            };
            let Frames { header, payload } = frame::encode(&good);
            let mut header = header[..length].to_vec();
            header[at] = byte;
            worker.send_frames(&[&header, &payload]).await;
            let error = within(PATIENCE, call).await.unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::Malformed { maybe_executed: true, .. })), "{error}");
        }
        // A good one, with nonsense before it.
        let call = call().start();
        let id = worker.receive_request().await.call;
        worker.send_frames(&[b"nonsense"]).await;
        worker.send_frames(&[b"", b"", b""]).await;
        worker.send(&raw::final_reply(id, raw::text("pong"))).await;
        assert_eq!(within(PATIENCE, call).await.unwrap(), "pong");
        eventually("all of it is counted", async || client.counters().await.malformed_messages == 4).await;
        assert_eq!(client.workers().len(), 1);
    });
}
