//! Errors (`PROTOCOL.md` §8, §13, §14): each costs one call, is typed, comes within one round trip, and says whether
//! the procedure may have run.

use std::sync::Arc;

use super::{
    network::Net,
    node::{error, offer},
    pair::{D, INTERVAL, LATENCY, W, error_reply, final_reply, ms, partial_reply, value},
};
use crate::proto::{
    calls::{CallFailure, WaitPolicy},
    frame::{Frames, TooLarge, encode},
    message::{CallId, Codec, ErrorCode, ErrorReply, Message, Payload, Peer, Request},
    worker::Finish,
};

#[test]
fn unknown_method_fails_at_once_with_what_is_offered() {
    let mut net = Net::new();
    let d = net.dispatcher();
    net.worker_with(&[d], |config| config.services = vec![offer("Demo", &["ping", "echo"])]);
    net.connect();
    let call = net.call(d, "pong");
    let offered = ["echo", "ping"].map(Arc::from).into();
    assert_eq!(net.failure(call), &CallFailure::UnknownMethod { offered });
}

#[test]
fn code_of_a_broker_from_a_worker_is_malformed() {
    for code in [ErrorCode::NoWorker, ErrorCode::WorkerLost, ErrorCode::Unread] {
        let mut net = Net::new();
        let d = net.dispatcher();
        let puppet = net.puppet(d, 8);
        let call = net.call(d, "hold");
        net.run(ms(5));
        net.send_as(puppet, error_reply(call, code, false));
        net.run(ms(5));
        let CallFailure::Remote(error) = net.failure(call) else { panic!("{:?}", net.failure(call)) };
        assert_eq!(error.code, ErrorCode::Malformed);
        assert!(error.detail.contains("which only brokers send"), "{}", error.detail);
    }
}

#[test]
fn fail_fast_call_of_an_unknown_service_fails_at_once_with_what_is_offered() {
    let (mut net, d, _) = Net::pair();
    let call = net.call_with(d, "ping", |spec| (spec.service, spec.wait_policy) = ("Dmeo".into(), WaitPolicy::Never));
    assert_eq!(net.failure(call), &CallFailure::NoWorker { offered: [Arc::from("Demo")].into(), is_connected: true });
}

#[test]
fn worker_answers_requests_for_unknown_services_and_methods() {
    let (mut net, d, w) = Net::pair();
    let cases =
        [("Dmeo", "ping", ErrorCode::UnknownService, "`Demo`"), ("Demo", "pong", ErrorCode::UnknownMethod, "`ping`")];
    for (service, method, code, named) in cases {
        let request = Request { service: service.into(), method: method.into(), ..request(CallId(7)) };
        net.send_to(d, w, Message::Request(request));
        net.run(LATENCY);
        let error = last_error(&net, w);
        assert_eq!((error.call, error.code, error.maybe_executed), (CallId(7), code, false));
        assert!(error.detail.contains(named), "{}", error.detail);
    }
}

#[test]
fn signature_mismatch_names_the_workers_signature_before_anything_runs() {
    let (mut net, d, w) = Net::pair();
    let called_at = net.now;
    let call = net.call_with(d, "ping", |spec| spec.fingerprint = 99);
    net.run(ms(5));
    let CallFailure::Remote(error) = net.failure(call) else { panic!("an error of the worker") };
    assert_eq!((error.code, error.maybe_executed), (ErrorCode::SignatureMismatch, false));
    assert_eq!(error.detail, "Demo.ping(String)->String");
    assert_eq!(net.ending(call).map(|end| end.0), Some(called_at + 2 * LATENCY), "one round trip");
    assert!(net.w(w).runs.is_empty());
}

#[test]
fn older_fingerprints_are_accepted_like_the_workers_own() {
    let mut net = Net::new();
    let d = net.dispatcher();
    net.worker_with(&[d], |config| {
        config.signatures[0].iter_mut().for_each(|signature| signature.older = vec![98, 97])
    });
    net.connect();
    for (fingerprint, is_taken) in [(99, false), (98, true), (97, true), (96, false)] {
        let call = net.call_with(d, "ping", |spec| spec.fingerprint = fingerprint);
        net.run(ms(5));
        match is_taken {
            true => assert_eq!(net.value(call), "pong", "{fingerprint}"),
            false => {
                let CallFailure::Remote(error) = net.failure(call) else { panic!("an error of the worker") };
                assert_eq!(error.code, ErrorCode::SignatureMismatch, "{fingerprint}");
            }
        }
    }
}

#[test]
fn fingerprints_count_only_in_the_codec_that_needs_them_and_where_both_sides_have_one() {
    let (mut net, d, _) = Net::pair();
    let fitting = net.call_with(d, "ping", |spec| spec.fingerprint = 1);
    let unchecked = net.call_with(d, "ping", |spec| spec.fingerprint = 0);
    let describing = net.call_with(d, "ping", |spec| {
        (spec.fingerprint, spec.payload.codec) = (99, Codec::MessagePack);
    });
    net.run(ms(5));
    assert_eq!([fitting, unchecked, describing].map(|call| net.value(call)), ["pong", "pong", "pong"]);
}

#[test]
fn methods_own_error_has_its_payload_and_counts_as_executed() {
    let (mut net, d, _) = Net::pair();
    let call = net.call(d, "fail");
    net.run(ms(5));
    let CallFailure::Remote(error) = net.failure(call) else { panic!("an error of the worker") };
    assert_eq!((error.code, &error.payload, error.maybe_executed), (ErrorCode::Application, &value("no luck"), true));
}

#[test]
fn panic_costs_one_call_and_not_the_worker() {
    let (mut net, d, w) = Net::pair();
    let other = net.call(d, "hold");
    let call = net.call(d, "panic");
    net.run(ms(5));
    let CallFailure::Remote(error) = net.failure(call) else { panic!("an error of the worker") };
    assert_eq!((error.code, error.maybe_executed), (ErrorCode::Panicked, true));
    assert_eq!(error.detail, "index out of bounds");
    net.reply(w, other, "undisturbed");
    net.run(ms(5));
    assert_eq!(net.value(other), "undisturbed");
    assert!(net.d(d).left.is_empty());
}

#[test]
fn error_says_that_the_procedure_has_not_run_only_where_that_is_certain() {
    let cases = [
        (ErrorCode::InvalidArguments, false),
        (ErrorCode::InvalidReply, true),
        (ErrorCode::Panicked, true),
        (ErrorCode::Cancelled, true),
        (ErrorCode::TooLarge, true),
    ];
    for (code, expected) in cases {
        let (mut net, d, w) = Net::pair();
        let call = net.call(d, "hold");
        net.run(ms(5));
        net.finish(w, call, error(code, "so it is", ""));
        net.run(ms(5));
        let CallFailure::Remote(error) = net.failure(call) else { panic!("an error of the worker") };
        assert_eq!((error.code, error.maybe_executed), (code, expected));
    }
}

#[test]
fn unreadable_request_is_answered_without_other_effect() {
    let (mut net, d, w) = Net::pair();
    let running = net.call(d, "hold");
    net.run(ms(5));
    for length in [33, 40, 45, 50] {
        net.send_frames_to(d, w, cut(&Message::Request(request(CallId(7))), length));
        net.run(LATENCY);
        let error = last_error(&net, w);
        assert_eq!((error.call, error.code, error.maybe_executed), (CallId(7), ErrorCode::Malformed, false));
        let next = net.call(d, "ping");
        net.run(2 * LATENCY);
        assert_eq!(net.value(next), "pong", "it does not wait");
    }
    assert!(net.is_running(w, running));
    assert_eq!(net.w(w).machine.counters().malformed_messages, 4);
}

#[test]
fn unreadable_message_without_a_call_or_of_a_running_call_is_dropped() {
    let (mut net, d, w) = Net::pair();
    let running = net.call(d, "hold");
    net.run(ms(5));
    let sent = net.sent_by(w).count();
    let bad_magic = Frames { header: vec![0; 64].into(), payload: "x".into() };
    for frames in [cut(&Message::Heartbeat, 3), bad_magic, cut(&Message::Request(request(running)), 40)] {
        net.send_frames_to(d, w, frames);
    }
    net.run(ms(5));
    assert_eq!(net.w(w).machine.counters().malformed_messages, 3);
    assert_eq!(net.sent_by(w).count(), sent);
    net.reply(w, running, "undisturbed");
    net.run(ms(5));
    assert_eq!(net.value(running), "undisturbed");
}

#[test]
fn unreadable_final_reply_ends_its_call_and_returns_the_credit() {
    let (mut net, d, puppet) = with_puppet();
    let call = net.call(d, "hold");
    let next = net.call(d, "hold");
    net.run(ms(5));
    net.send_frames_as(puppet, with_unknown_codec(&final_reply(call, "?")));
    net.run(ms(5));
    assert!(matches!(net.failure(call), CallFailure::UnreadableReply { reason } if reason.contains("codec")));
    net.send_as(puppet, final_reply(next, "next"));
    net.run(ms(5));
    assert_eq!(net.value(next), "next");
}

#[test]
fn unreadable_partial_reply_ends_its_call_and_cancels_it() {
    let (mut net, d, puppet) = with_puppet();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.send_frames_as(puppet, with_unknown_codec(&partial_reply(call, 0, "?")));
    net.run(ms(5));
    assert!(matches!(net.failure(call), CallFailure::UnreadableReply { .. }));
    assert_eq!(net.sent_to_strangers().last().map(|sent| &sent.message), Some(&Message::Cancel(call)));
    assert_eq!(net.in_flight(d), 1, "until the worker has ended it");
    net.send_frames_as(puppet, with_unknown_codec(&final_reply(call, "?")));
    net.run(ms(5));
    assert_eq!(net.in_flight(d), 0);
}

#[test]
fn unreadable_reply_of_an_unknown_call_is_dropped() {
    let (mut net, d, puppet) = with_puppet();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.send_frames_as(puppet, with_unknown_codec(&final_reply(CallId(7), "?")));
    net.run(ms(5));
    assert!(!net.has_ended(call) && net.stands(puppet));
    assert_eq!((net.in_flight(d), net.d(d).machine.counters().malformed_messages), (1, 1));
}

#[test]
fn arguments_over_a_limit_fail_before_anything_is_sent() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.limits.payload_bytes_max = 3000);
    let w = net.worker_with(&[d], |config| config.limits.payload_bytes_max = 2000);
    net.connect();
    let sized = |net: &mut Net, size: usize| net.call_with(d, "echo", |spec| spec.payload = value(&"x".repeat(size)));
    let [own, workers, fits] = [sized(&mut net, 3001), sized(&mut net, 2001), sized(&mut net, 2000)];
    for (call, expected) in [(own, 3000), (workers, 2000)] {
        let CallFailure::TooLarge(TooLarge { limit, setter, .. }) = net.failure(call) else { panic!("too large") };
        assert_eq!((*limit, *setter), (expected, "payload_bytes_max"));
    }
    net.run(ms(5));
    assert_eq!(net.value(fits).len(), 2000);
    assert_eq!(net.w(w).runs, [fits]);
    assert_eq!(net.in_flight(d), 0);
}

#[test]
fn reply_over_the_callers_limit_is_an_error_and_one_at_the_limit_passes() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.limits.payload_bytes_max = 2000);
    let w = net.worker(&[d]);
    net.connect();
    let calls = [net.call(d, "hold"), net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    net.reply(w, calls[0], &"x".repeat(2001));
    net.finish(w, calls[1], error(ErrorCode::Application, "", &"x".repeat(2001)));
    net.reply(w, calls[2], &"x".repeat(2000));
    net.run(ms(5));
    for call in &calls[..2] {
        let CallFailure::Remote(error) = net.failure(*call) else { panic!("an error of the worker") };
        assert_eq!((error.code, error.maybe_executed), (ErrorCode::TooLarge, true));
        assert!(error.detail.contains("2000") && error.detail.contains("payload_bytes_max"), "{}", error.detail);
    }
    assert_eq!(net.value(calls[2]).len(), 2000);
    assert_eq!(net.d(d).machine.counters().malformed_messages, 0);
}

#[test]
fn message_over_the_limit_costs_its_call() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.limits.payload_bytes_max = 2000);
    let puppet = net.puppet(d, 8);
    let [call, other] = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    net.send_as(puppet, final_reply(call, &"x".repeat(2001)));
    net.send_as(puppet, final_reply(other, "fits"));
    net.run(ms(5));
    assert!(matches!(net.failure(call), CallFailure::UnreadableReply { reason } if reason.contains("2000")));
    assert_eq!(net.value(other), "fits");
}

#[test]
fn call_whose_procedure_stops_with_its_runtime_is_retried_only_if_it_is_idempotent() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let first = net.worker(&[d]);
    net.connect();
    let [safe, once] = [net.call(d, "safe"), net.call(d, "hold")];
    net.run(ms(5));
    let second = net.worker(&[d]);
    net.connect();
    [safe, once].into_iter().for_each(|call| net.finish(first, call, Finish::Aborted));
    net.run(ms(50));
    let CallFailure::Remote(error) = net.failure(once) else { panic!("an error of the worker") };
    assert_eq!((error.code, error.maybe_executed), (ErrorCode::Refused, true));
    net.reply(second, safe, "done");
    net.run(ms(5));
    assert_eq!(net.value(safe), "done");
}

fn with_puppet() -> (Net, D, Peer) {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppet = net.puppet(d, 1);
    (net, d, puppet)
}

fn request(call: CallId) -> Request {
    Request {
        call,
        attempt: 1,
        idempotent: false,
        as_declared: false,
        fail_fast: false,
        service: "Demo".into(),
        method: "ping".into(),
        fingerprint: 0,
        remaining: INTERVAL,
        metadata: Default::default(),
        payload: Payload::default(),
    }
}

fn last_error(net: &Net, w: W) -> &ErrorReply {
    let sent = net.sent_by(w).last().map(|sent| &sent.message);
    let Some(Message::Error(error)) = sent else { panic!("an error, not {sent:?}") };
    error
}

fn cut(message: &Message, length: usize) -> Frames {
    let mut frames = encode(message);
    frames.header.truncate(length);
    frames
}

fn with_unknown_codec(message: &Message) -> Frames {
    let frames = encode(message);
    let mut header = frames.header.to_vec();
    header[24] = 77;
    Frames { header: header.into(), ..frames }
}
