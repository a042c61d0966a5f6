//! Calls (`PROTOCOL.md` §8): each ends once, by its deadline, with its own reply; any other reply is dropped.

use std::sync::Arc;

use std::time::Duration;

use super::{
    network::Net,
    node::offer,
    pair::{INTERVAL, LATENCY, TICK, error_reply, final_reply, introduction, ms, partial_reply, value},
};
use crate::proto::{
    calls::CallFailure,
    message::{CallId, ErrorCode, Event, Message, Peer, Request, Subscribe},
    worker::{Finish, Worker},
};

#[test]
fn replies_in_any_order_reach_their_own_calls() {
    let mut net = Net::with_seed(7);
    net.network.jitter = ms(20);
    let d = net.dispatcher();
    for _ in 0..3 {
        net.worker(&[d]);
    }
    net.run(ms(200));
    let calls: Vec<_> = (0..800).map(|_| net.call(d, "echo")).collect();
    net.run(4 * INTERVAL);
    for call in calls {
        assert_eq!(net.value(call), call.to_string());
    }
}

#[test]
fn remaining_time_travels_and_shrinks_while_a_call_waits() {
    let mut net = Net::new();
    let d = net.dispatcher();
    net.call_with(d, "hold", |spec| spec.metadata = [("traceparent".to_owned(), "00-0af".into())].into());
    net.run(2 * INTERVAL);
    let w = net.worker(&[d]);
    net.connect();
    let request = net.sent_to(w).find_map(|sent| match &sent.message {
        Message::Request(request) => Some((sent.at, request)),
        _ => None,
    });
    let (sent_at, request) = request.expect("a request");
    assert_eq!(request.remaining, 3 * INTERVAL - 2 * LATENCY);
    assert_eq!(request.metadata["traceparent"], "00-0af");
    assert_eq!(
        net.w(w).running.values().next().map(|start| start.deadline),
        Some(sent_at + LATENCY + request.remaining)
    );
}

#[test]
fn call_without_a_worker_ends_at_its_deadline_and_lists_what_is_offered() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.services = vec![offer("Other", &["ping"])]);
    net.connect();
    let call = net.call(d, "ping");
    let deadline = net.d(d).deadlines[&call];
    net.run_until(deadline - TICK);
    assert!(!net.has_ended(call));
    net.run_until(deadline);
    assert_eq!(
        net.ending(call),
        Some(&(deadline, Err(CallFailure::NoWorker { offered: [Arc::from("Other")].into(), is_connected: true })))
    );
    net.run_until(deadline + TICK);
    assert!(net.w(w).runs.is_empty());
}

#[test]
fn call_that_waits_for_a_busy_worker_ends_at_its_deadline_and_has_not_run() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.credits = 1);
    net.connect();
    net.call_with(d, "hold", |spec| spec.deadline += INTERVAL);
    let call = net.call(d, "hold");
    let deadline = net.d(d).deadlines[&call];
    net.run_until(deadline - TICK);
    assert!(!net.has_ended(call));
    net.run_until(deadline);
    assert_eq!(net.ending(call), Some(&(deadline, Err(CallFailure::DeadlineExceeded { maybe_executed: false }))));
    net.run(2 * INTERVAL);
    assert_eq!(net.runs(call), 0, "it is not sent afterwards either");
    assert_eq!(net.w(w).runs.len(), 1);
}

#[test]
fn call_in_flight_ends_at_its_deadline_and_may_have_run() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    let deadline = net.d(d).deadlines[&call];
    net.run_until(deadline - TICK);
    assert!(!net.has_ended(call) && net.is_running(w, call));
    net.run_until(deadline);
    assert_eq!(net.ending(call), Some(&(deadline, Err(CallFailure::DeadlineExceeded { maybe_executed: true }))));
    net.run_until(deadline + LATENCY);
    assert_eq!(net.w(w).aborted, [call]);
}

#[test]
fn reply_counts_until_the_deadline_inclusive() {
    for (lateness, counts) in [(Duration::ZERO, true), (TICK, false)] {
        let (mut net, d, w) = Net::pair();
        let call = net.call(d, "stubborn");
        let deadline = net.d(d).deadlines[&call];
        net.run_until(deadline - LATENCY + lateness);
        net.reply(w, call, "just in time");
        net.run(ms(5));
        assert_eq!(net.end(call).is_ok(), counts);
        assert_eq!(net.d(d).machine.counters().late_replies, u64::from(!counts));
    }
}

#[test]
fn timed_out_call_leaves_its_worker_registered_and_the_next_call_gets_its_own_reply() {
    let (mut net, d, w) = Net::pair();
    let slow = net.call_with(d, "stubborn", |spec| spec.deadline -= 4 * INTERVAL);
    net.run(2 * INTERVAL);
    assert_eq!(net.failure(slow), &CallFailure::DeadlineExceeded { maybe_executed: true });
    assert_eq!(net.d(d).workers(), 1);
    let next = net.call(d, "hold");
    net.run(ms(5));
    net.reply(w, slow, "slow");
    net.run(ms(5));
    assert!(!net.has_ended(next));
    net.reply(w, next, "next");
    net.run(ms(5));
    assert_eq!(net.value(next), "next");
    assert_eq!(net.d(d).machine.counters().late_replies, 1);
}

#[test]
fn call_whose_deadline_has_passed_is_not_sent() {
    let (mut net, d, _) = Net::pair();
    let now = net.now;
    let call = net.call_with(d, "echo", |spec| spec.deadline = now);
    net.run(ms(5));
    assert_eq!(net.ending(call), Some(&(now, Err(CallFailure::DeadlineExceeded { maybe_executed: false }))));
    assert_eq!(net.runs(call), 0);
}

#[test]
fn worker_stops_a_request_at_its_deadline_by_itself() {
    let (mut net, d, w) = Net::pair();
    let call = net.call_with(d, "hold", |spec| spec.deadline -= 3 * INTERVAL);
    let deadline = net.d(d).deadlines[&call];
    net.run(LATENCY);
    net.freeze_dispatcher(d);
    net.run_until(deadline + LATENCY - TICK);
    assert!(net.is_running(w, call));
    net.run_until(deadline + LATENCY);
    assert_eq!(net.w(w).aborted, [call]);
    let sent = net.sent_by(w).last().map(|sent| &sent.message);
    assert!(matches!(sent, Some(Message::Error(e)) if e.code == ErrorCode::DeadlineExceeded && e.maybe_executed));
    net.run_until(deadline + LATENCY + TICK);
    assert_eq!(net.w(w).aborted, [call], "once");
}

#[test]
fn worker_that_registers_late_gets_the_waiting_calls_in_order() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let calls: Vec<_> = (0..20).map(|_| net.call(d, "echo")).collect();
    net.run(2 * INTERVAL);
    let w = net.worker_with(&[d], |config| config.credits = 3);
    net.connect();
    net.run(ms(100));
    assert_eq!(net.w(w).runs, calls);
    assert!(calls.iter().all(|call| net.end(*call).is_ok()));
}

#[test]
fn reply_to_a_call_that_waits_is_dropped() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppet = net.puppet(d, 0);
    let call = net.call(d, "hold");
    for message in replies(call) {
        net.send_as(puppet, message);
    }
    net.run(ms(5));
    assert!(!net.has_ended(call) && net.partials(call).is_empty());
    assert_eq!(net.d(d).machine.counters().unsolicited_replies, 3);
}

#[test]
fn reply_of_the_wrong_worker_is_dropped() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    let puppet = net.puppet(d, 8);
    for message in replies(call) {
        net.send_as(puppet, message);
    }
    net.run(ms(5));
    assert!(!net.has_ended(call) && net.partials(call).is_empty());
    assert_eq!(net.d(d).machine.counters().unsolicited_replies, 3);
    net.reply(w, call, "mine");
    net.run(ms(5));
    assert_eq!(net.value(call), "mine");
}

#[test]
fn repeated_or_unsolicited_reply_is_dropped_and_answers_no_later_call() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppet = net.puppet(d, 8);
    let first = net.call(d, "hold");
    net.run(ms(5));
    net.send_as(puppet, final_reply(first, "first"));
    net.send_as(puppet, final_reply(first, "again"));
    net.send_as(puppet, final_reply(CallId(99), "stray"));
    net.run(ms(5));
    let next = net.call(d, "hold");
    net.send_as(puppet, final_reply(first, "and again"));
    net.run(ms(5));
    assert_eq!(net.value(first), "first");
    assert!(!net.has_ended(next));
    assert_eq!(net.d(d).machine.counters().unsolicited_replies, 3);
    net.send_as(puppet, final_reply(next, "next"));
    net.run(ms(5));
    assert_eq!(net.value(next), "next");
}

#[test]
fn kinds_that_workers_do_not_send_are_dropped_and_counted() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    let peer = net.peer(d, w);
    let event = Event { topic: "weather".into(), sequence: 0, payload: value("rain") };
    let subscribe = Subscribe { topic: "weather".into(), wanted: true };
    let request = request(call, "ping");
    for message in [Message::Event(event), Message::Subscribe(subscribe), Message::Cancel(call), request] {
        net.send_as(peer, message);
    }
    net.run(ms(5));
    assert_eq!(net.d(d).machine.counters().unexpected_messages, 4);
    assert!(net.stands(peer) && !net.has_ended(call));
}

#[test]
fn kinds_that_dispatchers_do_not_send_are_dropped_and_counted() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    let event = Event { topic: "weather".into(), sequence: 0, payload: value("rain") };
    let [partial, last, error] = replies(call);
    let change = Message::Offer(Default::default());
    for message in [partial, last, error, Message::Credit(0), Message::Drain, Message::Event(event), change] {
        net.send_to(d, w, message);
    }
    net.send_to(d, w, Message::Ready(introduction()));
    net.send_to(d, w, Message::Cancel(CallId(99)));
    net.run(ms(5));
    // The READY has a worker's role.
    assert_eq!(net.w(w).machine.counters().unexpected_messages, 8);
    assert!(net.is_running(w, call) && net.w(w).unregistered.is_empty());
}

#[test]
fn request_to_a_worker_that_is_not_registered_is_not_run() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker(&[d]);
    net.freeze_dispatcher(d);
    net.run(ms(10));
    net.send_to(d, w, request(CallId(1), "ping"));
    net.run(ms(5));
    assert!(net.w(w).runs.is_empty());
    assert_eq!(net.w(w).machine.counters().unexpected_messages, 1);
}

#[test]
fn message_without_a_connection_is_dropped() {
    let (net, _, w) = Net::pair();
    let now = net.now;
    let mut worker = Worker::new(now, net.w(w).config.clone(), 1);
    worker.handle_message(now, Peer(0), request(CallId(1), "ping"));
    worker.handle_message(now, Peer(5), Message::Heartbeat);
    assert_eq!(worker.counters().unexpected_messages, 2);
    assert_eq!((worker.executions(), worker.poll_transmit()), (0, None));
}

#[test]
fn repeated_request_of_a_call_in_flight_is_dropped_and_the_call_continues() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.send_to(d, w, request(call, "hold"));
    net.run(ms(5));
    assert!(!net.has_ended(call));
    assert_eq!(net.runs(call), 1);
    net.reply(w, call, "done");
    net.run(ms(5));
    assert_eq!(net.value(call), "done");
}

#[test]
fn procedure_that_ends_twice_sends_one_reply() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    let execution = net.w(w).execution_of(call).expect("it runs");
    net.finish_execution(w, execution, Finish::Reply(value("once")));
    net.finish_execution(w, execution, Finish::Reply(value("twice")));
    net.run(ms(5));
    assert_eq!(net.value(call), "once");
    assert_eq!(net.d(d).machine.counters().unsolicited_replies, 0);
}

/// One of each, as if the call were in flight.
fn replies(call: CallId) -> [Message; 3] {
    [partial_reply(call, 0, "stray"), final_reply(call, "stray"), error_reply(call, ErrorCode::Panicked, true)]
}

fn request(call: CallId, method: &str) -> Message {
    Message::Request(Request {
        call,
        attempt: 1,
        idempotent: false,
        as_declared: false,
        fail_fast: false,
        service: "Demo".into(),
        method: method.into(),
        fingerprint: 0,
        remaining: INTERVAL,
        metadata: Default::default(),
        payload: value("again"),
    })
}
