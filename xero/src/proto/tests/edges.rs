//! Edges of the protocol, which every role must handle alike: zeros, ends of ranges, empty names, broken batches.

use std::{slice::from_ref, time::Duration};

use super::{
    bench::{Bench, request},
    network::Net,
    node::{WorkerNode, offer},
    pair::{D, INTERVAL, LATENCY, TICK, final_reply, introduction, ms, partial_reply, start, value},
};
use crate::proto::{
    broker::Door,
    calls::CallFailure,
    frame::{Frames, encode, encode_batch},
    liveness::Heartbeats,
    message::{CallId, Codec, ErrorCode, FinalReply, Message, Payload, Peer, Ready, Request, Role},
    worker::{DEADLINE_MAX, Worker, WorkerOutput},
};

#[test]
fn broken_batch_costs_a_client_its_connection_and_earlier_messages_count() {
    for broken in broken_batches(Message::Request(request(1, "hold"))) {
        let mut bench = Bench::new();
        let (worker, client) = (bench.worker(), bench.client());
        bench.take(worker);
        bench.send_frames_as(client, broken);
        assert!(bench.is_gone(client));
        let sent = bench.take(worker);
        let [Message::Request(request), Message::Cancel(call)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(request.call, *call, "it was sent on, but its caller is gone");
        assert_eq!((bench.broker.open_calls(), bench.broker.counters().malformed_messages), (0, 1));
        assert!(!bench.is_gone(worker));
    }
}

#[test]
fn broken_batch_costs_a_worker_its_connection_and_earlier_messages_count() {
    for nth in 0..broken_batches(Message::Heartbeat).len() {
        let (mut net, d) = dispatcher();
        let puppet = net.puppet(d, 2);
        let [answered, lost] = [net.call(d, "hold"), net.call(d, "hold")];
        net.run(ms(5));
        net.send_frames_as(puppet, broken_batches(final_reply(answered, "done")).remove(nth));
        net.run(ms(5));
        assert!(!net.stands(puppet));
        assert_eq!((net.value(answered).as_str(), net.has_ended(lost)), ("done", true));
        assert_eq!(net.failure(lost), &CallFailure::WorkerLost { maybe_executed: true, attempts: 1 });
    }
}

#[test]
fn broken_batch_costs_a_dispatcher_its_connection_and_earlier_requests_stop() {
    for broken in broken_batches(Message::Request(request(7, "hold"))) {
        let (mut net, d, w) = Net::pair();
        let peer = net.peer(d, w);
        net.send_frames_to(d, w, broken);
        net.run(ms(5));
        assert!(!net.stands(peer) && net.w(w).execution_of(CallId(7)).is_none());
        assert_eq!((net.w(w).runs.len(), net.w(w).unregistered.len()), (1, 1));
        net.run(INTERVAL);
        assert_eq!(net.w(w).machine.registered().count(), 1, "it is dialed again");
    }
}

#[test]
fn unreadable_message_in_a_sound_batch_is_answered_and_costs_no_connection() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.take(client);
    let mut unreadable = encode(&Message::Request(request(1, "hold")));
    unreadable.header.truncate(40);
    bench.send_frames_as(client, batch(2, &[unreadable, encode(&Message::Request(request(2, "hold")))], b""));
    assert_eq!(bench.errors(client), [(1, ErrorCode::Malformed, false)]);
    assert_eq!(bench.requests(worker).len(), 1);
    assert!(!bench.is_gone(client));
}

#[test]
fn batch_over_a_limit_costs_its_sender_the_connection() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.send_frames_as(client, batch(1_025, &[encode(&Message::Heartbeat)], b""));
    assert!(bench.is_gone(client), "the rest of the batch is unknown");
}

#[test]
fn introduction_in_a_batch_counts_as_if_it_came_alone() {
    let mut bench = Bench::new();
    let client = bench.open(Door::Front);
    let ready = Ready { role: Role::Client, credits: 0, services: Vec::new(), ..introduction() };
    let messages = [Message::Ready(ready.clone()), Message::Request(request(1, "none")), Message::Ready(ready)];
    bench.send_frames_as(client, encode_batch(&messages));
    let sent = bench.take(client);
    // The answer comes after both.
    let [Message::Ready(_), Message::Error(error)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((error.call, error.code), (CallId(1), ErrorCode::NoWorker));
    assert!(!bench.is_gone(client));

    let (mut net, d) = dispatcher();
    let w = net.worker(&[d]);
    net.freeze_dispatcher(d);
    net.run(ms(10));
    let answer = Ready { role: Role::Dispatcher, credits: 0, services: Vec::new(), ..introduction() };
    net.send_frames_to(d, w, encode_batch(&[Message::Ready(answer), Message::Request(request(7, "hold"))]));
    net.run(LATENCY);
    assert!(net.w(w).execution_of(CallId(7)).is_some());
    net.kill_dispatcher(d);
}

#[test]
fn request_without_time_left_is_answered_by_worker_and_broker_and_never_runs() {
    for method in ["hold", "none"] {
        let (mut net, d, w) = Net::pair();
        net.send_to(d, w, Message::Request(Request { remaining: Duration::ZERO, ..request(7, method) }));
        net.run(LATENCY);
        let sent: Vec<_> = net.sent_by(w).map(|sent| sent.message.clone()).collect();
        let Some(Message::Error(error)) = sent.last() else { panic!("{sent:?}") };
        assert_eq!((error.call, error.code, error.maybe_executed), (CallId(7), ErrorCode::DeadlineExceeded, false));
        assert!(net.w(w).runs.is_empty());
    }
    for has_worker in [true, false] {
        let mut bench = Bench::new();
        let worker = if has_worker { bench.worker() } else { bench.worker_with(|ready| ready.credits = 0) };
        let client = bench.client();
        bench.take(client);
        bench.request_with(client, 1, "hold", |request| request.remaining = Duration::ZERO);
        assert_eq!(bench.errors(client), [(1, ErrorCode::DeadlineExceeded, false)]);
        assert_eq!(bench.requests(worker), []);
    }
}

#[test]
fn time_beyond_thirty_days_counts_as_thirty_days() {
    let longest = Duration::from_micros(u64::MAX);
    let now = start();
    let mut worker = Worker::new(now, WorkerNode::new(now, 1, Vec::new(), |_| {}).config, 1);
    worker.handle_timeout(now);
    worker.handle_dialed(now, Peer(0));
    worker.handle_message(now, Peer(0), Message::Ready(Ready { role: Role::Dispatcher, ..introduction() }));
    worker.handle_message(now, Peer(0), Message::Request(Request { remaining: longest, ..request(1, "hold") }));
    let deadline = std::iter::from_fn(|| worker.poll_output()).find_map(|output| match output {
        WorkerOutput::Start(start) => Some(start.deadline),
        _ => None,
    });
    assert_eq!(deadline, Some(now + DEADLINE_MAX));

    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request_with(client, 1, "hold", |request| request.remaining = longest);
    assert_eq!(bench.requests(worker)[0].remaining, Duration::from_secs(30 * 24 * 3_600));
}

#[test]
fn connecting_peer_waits_for_the_answer_by_its_own_interval_and_liveness() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.heartbeats = Heartbeats { interval: ms(50), liveness: 2 });
    let w = net.worker_with(&[d], |config| config.heartbeats = Heartbeats { interval: ms(400), liveness: 5 });
    net.freeze_dispatcher(d);
    let expires_at = net.now + LATENCY + ms(2_000);
    net.run_until(expires_at - TICK);
    assert_eq!(net.w(w).sockets.len(), 1);
    net.run_until(expires_at);
    assert!(net.w(w).sockets.is_empty());
    net.thaw_dispatcher(d);
}

#[test]
fn empty_names_and_names_with_dots_are_names_like_any_other() {
    let mut bench = Bench::new();
    let offered = [("", &[""][..]), ("a.b", &["c", "b.c"]), ("a", &["c"]), ("A", &["c"])];
    let services = offered.map(|(service, methods)| offer(service, methods)).to_vec();
    let (worker, client) = (bench.worker_with(|ready| ready.services = services), bench.client());
    for (call, (service, method)) in (1..).zip([("", ""), ("a.b", "c"), ("a.b", "b.c"), ("a", "c"), ("A", "c")]) {
        let service: std::sync::Arc<str> = service.into();
        bench.request_with(client, call, method, |request| {
            request.service = service.clone();
            request.metadata.insert(String::new(), "empty".into());
        });
        let requests = bench.requests(worker);
        let [request] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!((&request.service, &*request.method, request.metadata.len()), (&service, method, 1));
    }
    bench.take(client);
    bench.request_with(client, 9, "b.c", |request| request.service = "a".into());
    assert_eq!(bench.errors(client), [(9, ErrorCode::UnknownMethod, false)], "`a.b.c` is no name");
}

#[test]
fn call_id_zero_names_no_call() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.take(client);
    bench.request(client, 0, "hold");
    assert_eq!((bench.take(client), bench.requests(worker)), (vec![], vec![]), "dropped, and not answered");
    assert!(!bench.is_gone(client));
    let (mut net, d, w) = Net::pair();
    net.send_to(d, w, Message::Request(request(0, "hold")));
    net.run(LATENCY);
    assert!(net.w(w).runs.is_empty());
    assert_eq!((net.sent_by(w).count(), net.w(w).machine.counters().malformed_messages), (1, 1));
}

#[test]
fn attempts_count_up_to_the_largest_number_and_zero_is_the_first() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    for (call, attempt, passed_on) in [(1, 0, 1), (2, 1, 1), (3, 254, 254), (4, 255, 255)] {
        bench.request_with(client, call, "hold", |request| (request.attempt, request.idempotent) = (attempt, true));
        assert_eq!(bench.requests(worker)[0].attempt, passed_on, "attempt {attempt}");
    }
    let other = bench.worker();
    bench.drop_wire(worker);
    let attempts: Vec<_> = bench.requests(other).iter().map(|request| request.attempt).collect();
    assert_eq!(attempts, [2, 2, 255, 255]);
}

#[test]
fn acknowledgement_is_due_at_a_quarter_of_the_window_rounded_up() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.window_bytes = 401);
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    net.run(ms(5));
    let mut acked_after = |sequence, size: usize| {
        net.send_as(puppet, partial_reply(call, sequence, &"x".repeat(size)));
        net.run(3 * LATENCY);
        net.sent_to_strangers().filter(|sent| matches!(sent.message, Message::Ack(_))).count()
    };
    let rest = 100 - cost_of_a_partial_reply();
    assert_eq!(acked_after(0, rest), 0, "a hundred bytes are less than a quarter of 401");
    assert_eq!(acked_after(1, 0), 1);
}

#[test]
fn largest_number_of_a_partial_reply_leaves_room_for_the_count() {
    let (mut net, d) = dispatcher();
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.send_as(puppet, partial_reply(call, u32::MAX, "one too many"));
    net.run(ms(5));
    assert!(matches!(net.failure(call), CallFailure::UnreadableReply { .. }), "{:?}", net.failure(call));
    assert!(net.stands(puppet));
}

#[test]
fn replies_with_numbers_from_the_end_of_the_range_end_their_calls_and_nothing_else() {
    let (mut net, d) = dispatcher();
    let puppet = net.puppet(d, 8);
    let [by_partial, by_final] = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    net.send_as(puppet, partial_reply(by_partial, u32::MAX - 1, "far ahead"));
    let reply = FinalReply { call: by_final, partials: u32::MAX, payload: value("far ahead") };
    net.send_as(puppet, Message::Final(reply));
    net.run(ms(5));
    assert_eq!(net.failure(by_partial), &CallFailure::PartialsLost { sent: u32::MAX, received: 0 });
    assert_eq!(net.failure(by_final), &CallFailure::PartialsLost { sent: u32::MAX, received: 0 });
    assert!(net.stands(puppet));
}

#[test]
fn numbers_at_the_ends_of_their_ranges_crash_no_role() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker_with(largest), bench.client_with(largest));
    for wire in [worker, client] {
        for message in [
            Message::Ack(u64::MAX),
            Message::Ack(0),
            Message::Credit(u32::MAX),
            Message::Credit(0),
            Message::Credit(u32::MAX),
            Message::Patience(Duration::from_micros(u64::MAX)),
        ] {
            bench.send_as(wire, message);
        }
    }
    bench.request_with(client, u64::MAX, "hold", |request| {
        (request.attempt, request.remaining) = (u8::MAX, Duration::from_micros(u64::MAX));
    });
    let id = bench.request_id(worker);
    bench.take(client);
    bench.reply(worker, id, "done");
    assert_eq!(bench.take_news(client), [final_reply(CallId(u64::MAX), "done")]);
    let (mut net, d, w) = Net::pair();
    let mut answer = Ready { role: Role::Dispatcher, ..introduction() };
    largest(&mut answer);
    net.send_to(d, w, Message::Ready(answer));
    net.send_to(d, w, Message::Patience(Duration::from_micros(u64::MAX)));
    net.send_to(d, w, Message::Ack(u64::MAX));
    net.run(INTERVAL);
    assert_eq!(net.w(w).machine.registered().count(), 1);
}

#[test]
fn payload_maximum_of_zero_allows_only_empty_payloads() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker_with(|ready| ready.payload_bytes_max = 0), bench.client());
    bench.take(client);
    bench.request(client, 1, "hold");
    assert_eq!(bench.errors(client), [(1, ErrorCode::TooLarge, false)]);
    let empty = Payload { codec: Codec::Bincode, bytes: Default::default() };
    bench.request_with(client, 2, "hold", |request| request.payload = empty);
    assert_eq!(bench.requests(worker).len(), 1);
}

#[test]
fn last_offer_of_a_repeated_service_or_method_counts() {
    let mut bench = Bench::new();
    let client = bench.client();
    let mut services = vec![offer("Demo", &["early"]), offer("Demo", &["hold", "hold"])];
    services[1].methods[1].fingerprint = 77;
    bench.worker_with(|ready| ready.services = services.clone());
    bench.run(INTERVAL);
    let sent = bench.take(client);
    let Some(Message::Ready(ready)) = sent.iter().rfind(|message| matches!(message, Message::Ready(_))) else {
        panic!("{sent:?}")
    };
    let [service] = &ready.services[..] else { panic!("{ready:?}") };
    let [method] = &service.methods[..] else { panic!("{service:?}") };
    assert_eq!((&*service.name, &*method.name, method.fingerprint), ("Demo", "hold", 77));
}

#[test]
fn worker_ends_a_request_with_too_many_partial_replies_to_number() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.skip_partials(w, call);
    assert!(!net.partial(w, call, "one too many"));
    net.run(ms(5));
    let CallFailure::Remote(error) = net.failure(call) else { panic!("an error of the worker") };
    assert_eq!((error.code, error.maybe_executed), (ErrorCode::InvalidReply, true));
}

fn dispatcher() -> (Net, D) {
    let mut net = Net::new();
    let d = net.dispatcher();
    (net, d)
}

fn largest(ready: &mut Ready) {
    ready.interval = Duration::from_micros(u64::MAX);
    (ready.payload_bytes_max, ready.credits, ready.window_bytes) = (u64::MAX, u32::MAX, u64::MAX);
}

/// What an empty partial reply counts in a window.
fn cost_of_a_partial_reply() -> usize {
    usize::try_from(crate::proto::frame::window_bytes(&partial_reply(CallId(1), 0, ""))).expect("it is little")
}

/// Batches that hold one sound message and then break, each in its own way.
fn broken_batches(first: Message) -> Vec<Frames> {
    let sound = encode(&first);
    let nested = encode_batch(&[Message::Heartbeat, Message::Heartbeat]);
    vec![
        batch(2, from_ref(&sound), b""),
        batch(2, from_ref(&sound), &[0, 0, 0]),
        batch(2, from_ref(&sound), &[0, 0, 0, 32, 1, 2, 3]),
        batch(1, from_ref(&sound), b"x"),
        batch(1, &[sound.clone(), encode(&Message::Heartbeat)], b""),
        batch(3, &[sound, nested, encode(&Message::Heartbeat)], b""),
    ]
}

/// A BATCH with this declared count, these messages, and then these bytes.
fn batch(count: u32, messages: &[Frames], rest: &[u8]) -> Frames {
    let header = encode_batch(&[Message::Heartbeat, Message::Heartbeat]).header;
    let header = [&header[..32], &count.to_be_bytes()].concat().into();
    let length = |part: &[u8]| u32::try_from(part.len()).expect("it is small").to_be_bytes();
    let mut payload = Vec::new();
    for message in messages {
        for part in [&message.header, &message.payload] {
            payload.extend_from_slice(&length(part));
            payload.extend_from_slice(part);
        }
    }
    payload.extend_from_slice(rest);
    Frames { header, payload: payload.into() }
}
