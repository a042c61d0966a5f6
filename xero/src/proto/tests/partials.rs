//! Partial replies (`PROTOCOL.md` §8): in order, none missing, and none after the end.

use super::{
    network::Net,
    pair::{D, LATENCY, final_reply, ms, partial_reply, value},
};
use crate::proto::{
    calls::CallFailure,
    message::{CallId, FinalReply, Message, Peer},
};

#[test]
fn partial_replies_arrive_in_order_before_the_end_and_never_end_the_call() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    assert!(["started", "half", "nearly"].iter().all(|text| net.partial(w, call, text)));
    net.run(ms(5));
    assert_eq!(net.partials(call), ["started", "half", "nearly"]);
    assert!(!net.has_ended(call));
    let other = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!(net.value(other), "pong");
    net.reply(w, call, "done");
    net.run(ms(5));
    assert_eq!(net.value(call), "done");
}

#[test]
fn missing_partial_reply_ends_the_call_and_later_ones_are_not_delivered() {
    let (mut net, d, puppet, call) = in_flight_at_a_puppet();
    for sequence in [0, 2, 3] {
        net.send_as(puppet, partial_reply(call, sequence, &sequence.to_string()));
    }
    net.run(ms(5));
    assert_eq!(net.partials(call), ["0"]);
    assert_eq!(net.failure(call), &CallFailure::PartialsLost { sent: 3, received: 1 });
    let cancels = net.sent_to_strangers().filter(|sent| sent.message == Message::Cancel(call));
    assert_eq!(cancels.count(), 1);
    assert_eq!(net.d(d).machine.counters().late_replies, 1);
    assert_eq!(net.in_flight(d), 1, "the credit comes back with the worker's end");
    net.send_as(puppet, final_reply(call, "late"));
    net.run(ms(5));
    assert_eq!(net.in_flight(d), 0);
}

#[test]
fn final_reply_that_counts_missing_partial_replies_is_not_delivered() {
    let (mut net, d, puppet, call) = in_flight_at_a_puppet();
    net.send_as(puppet, partial_reply(call, 0, "0"));
    net.send_as(puppet, Message::Final(FinalReply { call, partials: 2, payload: value("done") }));
    net.run(ms(5));
    assert_eq!(net.failure(call), &CallFailure::PartialsLost { sent: 2, received: 1 });
    assert_eq!(net.in_flight(d), 0);
}

#[test]
fn repeated_partial_reply_is_dropped_and_counted() {
    let (mut net, d, puppet, call) = in_flight_at_a_puppet();
    for sequence in [0, 0, 1, 0, 1] {
        net.send_as(puppet, partial_reply(call, sequence, &sequence.to_string()));
    }
    net.send_as(puppet, Message::Final(FinalReply { call, partials: 2, payload: value("done") }));
    net.run(ms(5));
    assert_eq!(net.partials(call), ["0", "1"]);
    assert_eq!(net.value(call), "done");
    assert_eq!(net.d(d).machine.counters().late_replies, 3);
}

#[test]
fn partial_replies_after_the_end_are_dropped() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "stubborn");
    net.run(ms(5));
    net.partial(w, call, "in time");
    net.run(ms(5));
    net.cancel(call);
    assert!(net.partial(w, call, "crossing"), "the worker does not know yet");
    net.run(LATENCY);
    assert!(!net.partial(w, call, "too late"));
    net.run(ms(5));
    assert_eq!(net.partials(call), ["in time"]);
    assert_eq!(net.d(d).machine.counters().late_replies, 1);
}

#[test]
fn caller_that_does_not_read_ends_only_its_own_call() {
    let (mut net, d, w) = Net::pair();
    let [call, other] = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    net.partial(w, call, "0");
    net.partial(w, call, "1");
    net.run(ms(5));
    net.overflow(call);
    net.run(ms(5));
    assert_eq!(net.failure(call), &CallFailure::PartialsUnread { received: 2 });
    assert_eq!(net.w(w).aborted, [call]);
    assert_eq!(net.in_flight(d), 1);
    net.reply(w, other, "done");
    net.run(ms(5));
    assert_eq!(net.value(other), "done");
}

#[test]
fn each_attempt_counts_its_own_partial_replies() {
    let (mut net, d, first) = Net::pair();
    let second = net.worker(&[d]);
    net.connect();
    let call = net.call(d, "safe");
    net.run(ms(5));
    net.partial(first, call, "first 0");
    net.partial(first, call, "first 1");
    net.run(ms(5));
    net.kill_worker(first);
    net.run(ms(5));
    net.partial(second, call, "second 0");
    net.reply(second, call, "done");
    net.run(ms(5));
    assert_eq!(net.partials(call), ["first 0", "first 1", "second 0"]);
    assert_eq!(net.value(call), "done");
}

fn in_flight_at_a_puppet() -> (Net, D, Peer, CallId) {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    net.run(ms(5));
    (net, d, puppet, call)
}
