//! CANCEL (`PROTOCOL.md` §8): the work stops, no further output mentions the call, and the worker's end returns the
//! credit.

use super::{
    network::Net,
    pair::{INTERVAL, LATENCY, TICK, ms},
};
use crate::proto::message::{ErrorCode, Message};

#[test]
fn cancelled_call_stops_on_its_worker_and_returns_its_credit() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.cancel(call);
    net.run(LATENCY);
    assert_eq!(net.w(w).aborted, [call]);
    assert_eq!(net.in_flight(d), 1);
    let sent = net.sent_by(w).last().map(|sent| &sent.message);
    assert!(matches!(sent, Some(Message::Error(e)) if e.code == ErrorCode::Cancelled && e.maybe_executed));
    net.run(LATENCY);
    assert_eq!(net.in_flight(d), 0);
    assert!(!net.has_ended(call), "no further output mentions the call");
    assert_eq!(net.d(d).machine.counters().late_replies, 1);
}

#[test]
fn call_that_is_cancelled_while_it_waits_is_never_sent() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let call = net.call(d, "echo");
    net.cancel(call);
    net.cancel(call);
    let w = net.worker(&[d]);
    net.connect();
    assert!(net.w(w).runs.is_empty());
}

#[test]
fn work_that_does_not_stop_keeps_its_credit_until_it_ends() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.credits = 1);
    net.connect();
    let call = net.call(d, "stubborn");
    net.run(ms(5));
    net.cancel(call);
    let next = net.call(d, "ping");
    net.run(INTERVAL);
    assert!(!net.has_ended(next));
    net.reply(w, call, "too late");
    net.run(ms(5));
    assert_eq!(net.value(next), "pong");
    assert_eq!(net.w(w).aborted, [call]);
}

#[test]
fn cancel_that_crosses_the_reply_has_no_effect() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.reply(w, call, "crossing");
    net.cancel(call);
    net.run(ms(5));
    assert!(net.w(w).aborted.is_empty());
    assert_eq!(net.w(w).machine.counters().unexpected_messages, 0);
    assert_eq!((net.in_flight(d), net.d(d).machine.counters().late_replies), (0, 1));
    let next = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!(net.value(next), "pong");
}

#[test]
fn cancel_of_an_ended_call_sends_nothing() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "ping");
    net.run(ms(5));
    let sent = net.sent_to(w).count();
    net.cancel(call);
    net.run(ms(5));
    assert_eq!(net.sent_to(w).count(), sent);
}

#[test]
fn worker_gets_one_cancel_for_a_call() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "stubborn");
    let deadline = net.d(d).deadlines[&call];
    net.run_until(deadline - TICK);
    net.cancel(call);
    net.cancel(call);
    net.run(INTERVAL);
    assert_eq!(net.sent_to(w).filter(|sent| sent.message == Message::Cancel(call)).count(), 1);
    assert_eq!(net.w(w).aborted, [call]);
}

#[test]
fn cancelled_call_is_not_retried_when_its_worker_is_lost() {
    let (mut net, d, first) = Net::pair();
    let second = net.worker(&[d]);
    net.connect();
    let call = net.call_with(d, "stubborn", |spec| spec.idempotent = Some(true));
    net.run(ms(5));
    net.cancel(call);
    net.kill_worker(first);
    net.run(INTERVAL);
    assert!(net.w(second).runs.is_empty());
}
