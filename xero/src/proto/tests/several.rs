//! Several dispatchers of one worker, several services of one worker.

use std::sync::Arc;

use std::collections::BTreeSet;

use super::{
    network::Net,
    node::offer,
    pair::{D, INTERVAL, LATENCY, TICK, W, ms, value},
};
use crate::proto::{
    calls::CallFailure,
    message::{CallId, ErrorCode, Message, Request},
};

#[test]
fn dispatchers_share_the_concurrency_of_a_worker_in_the_order_of_their_requests() {
    let (mut net, [one, two], w) = two_dispatchers(2);
    let calls = [net.call(one, "hold"), net.call(one, "hold"), net.call(two, "hold"), net.call(two, "hold")];
    net.run(ms(5));
    assert_eq!((net.w(w).runs.as_slice(), net.w(w).machine.executions()), (&calls[..2], 4));
    assert_eq!((net.in_flight(one), net.in_flight(two)), (2, 2), "each may spend the credits");
    for (ended, call) in calls.into_iter().enumerate() {
        net.reply(w, call, "done");
        net.run(ms(5));
        assert_eq!(net.w(w).runs, calls[..(ended + 3).min(4)]);
        assert_eq!(net.value(call), "done");
    }
}

#[test]
fn losing_a_dispatcher_affects_no_other() {
    let (mut net, [one, two], w) = two_dispatchers(2);
    let lost = [net.call(one, "stubborn"), net.call(one, "hold")];
    net.run(ms(5));
    let kept = [net.call(two, "hold"), net.call(two, "hold")];
    net.run(ms(5));
    assert_eq!(net.w(w).runs, lost);
    net.kill_dispatcher(one);
    net.run(ms(5));
    assert_eq!(net.w(w).aborted, lost);
    assert_eq!(net.w(w).runs, [lost[0], lost[1], kept[0]], "one place is free, the other's work does not stop");
    net.reply(w, lost[0], "for nobody");
    net.run(ms(5));
    kept.into_iter().for_each(|call| net.reply(w, call, "done"));
    net.run(ms(5));
    assert_eq!(kept.map(|call| net.value(call)), ["done", "done"]);
    assert!(net.d(two).left.is_empty());
}

#[test]
fn waiting_requests_of_a_worker_end_with_their_connection() {
    let (mut net, [one, two], w) = two_dispatchers(1);
    let running = net.call(one, "hold");
    net.run(ms(5));
    let waiting = net.call(two, "hold");
    net.run(ms(5));
    net.disconnect(two, w);
    net.run(ms(5));
    assert_eq!(net.w(w).machine.executions(), 1);
    net.reply(w, running, "done");
    net.run(INTERVAL);
    assert_eq!(net.runs(waiting), 0);
    assert_eq!(net.failure(waiting), &CallFailure::WorkerLost { maybe_executed: true, attempts: 1 });
}

#[test]
fn request_that_waits_on_a_worker_past_its_deadline_is_answered_as_not_run() {
    let (mut net, [one, two], w) = two_dispatchers(1);
    let running = net.call(one, "hold");
    net.run(ms(5));
    let waiting = net.call_with(two, "hold", |spec| spec.deadline -= 3 * INTERVAL);
    let overrun_at = net.d(two).deadlines[&waiting] + LATENCY;
    net.run(LATENCY);
    net.freeze_dispatcher(two);
    net.run_until(overrun_at - TICK);
    assert_eq!(net.w(w).machine.executions(), 2);
    net.run_until(overrun_at);
    assert_eq!(net.w(w).machine.executions(), 1);
    let sent = net.sent_by(w).last().map(|sent| &sent.message);
    assert!(matches!(sent, Some(Message::Error(e)) if e.code == ErrorCode::DeadlineExceeded && !e.maybe_executed));
    net.reply(w, running, "done");
    net.run(ms(5));
    assert_eq!((net.value(running), net.runs(waiting)), ("done".to_owned(), 0));
}

#[test]
fn request_that_is_cancelled_while_it_waits_on_a_worker_is_answered_at_once_and_never_run() {
    let (mut net, [one, two], w) = two_dispatchers(1);
    let running = net.call(one, "hold");
    net.run(ms(5));
    let waiting = net.call(two, "hold");
    net.run(ms(5));
    net.cancel(waiting);
    net.run(2 * LATENCY);
    assert_eq!(net.in_flight(two), 0);
    net.reply(w, running, "done");
    net.run(ms(5));
    assert_eq!((net.runs(waiting), net.w(w).aborted.len()), (0, 0));
}

#[test]
fn equal_ids_of_two_dispatchers_are_two_calls() {
    let (mut net, [one, two], w) = two_dispatchers(8);
    net.send_to(one, w, request(CallId(7), "one"));
    net.send_to(two, w, request(CallId(7), "two"));
    net.run(ms(5));
    let finals = net.sent_by(w).filter_map(|sent| match &sent.message {
        Message::Final(reply) => Some((sent.d, reply.payload.clone())),
        _ => None,
    });
    assert_eq!(finals.collect::<Vec<_>>(), [(one, value("one")), (two, value("two"))]);
}

#[test]
fn cancel_of_one_dispatcher_stops_no_call_of_another() {
    let (mut net, [one, two], w) = two_dispatchers(8);
    let call = net.call(one, "hold");
    net.run(ms(5));
    net.send_to(two, w, Message::Cancel(call));
    net.run(ms(5));
    assert!(net.is_running(w, call));
}

#[test]
fn worker_that_drains_finishes_for_every_dispatcher_and_says_goodbye_to_each() {
    let (mut net, [one, two], w) = two_dispatchers(1);
    let [running, waiting] = [net.call(one, "hold"), net.call(two, "hold")];
    net.run(ms(5));
    net.drain(w);
    net.run(ms(5));
    net.reply(w, running, "one");
    net.run(ms(5));
    net.reply(w, waiting, "two");
    net.run(ms(5));
    assert_eq!((net.value(running), net.value(waiting)), ("one".to_owned(), "two".to_owned()));
    assert!(net.w(w).left_at.is_some());
    let goodbyes = net.sent_by(w).filter(|sent| sent.message == Message::Goodbye).map(|sent| sent.d);
    assert_eq!(goodbyes.collect::<BTreeSet<_>>(), [one, two].into());
}

#[test]
fn absent_dispatcher_delays_no_other_and_no_drain() {
    let mut net = Net::new();
    let [here, absent, frozen] = [net.dispatcher(), net.dispatcher(), net.dispatcher()];
    net.kill_dispatcher(absent);
    net.freeze_dispatcher(frozen);
    let w = net.worker(&[absent, frozen, here]);
    net.run(10 * INTERVAL);
    let call = net.call(here, "ping");
    net.run(ms(5));
    assert_eq!(net.value(call), "pong");
    net.drain(w);
    net.run(INTERVAL);
    assert!(net.w(w).left_at.is_some());
}

#[test]
fn worker_serves_several_services_with_equal_method_names() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| {
        config.services = vec![offer("Demo", &["ping"]), offer("Other", &["hold", "ping"])];
    });
    net.connect();
    let calls = [("Other", "ping"), ("Demo", "ping"), ("Other", "hold")]
        .map(|(service, method)| net.call_with(d, method, |spec| spec.service = service.into()));
    net.run(ms(5));
    assert_eq!([0, 1].map(|index: usize| net.value(calls[index])), ["pong", "pong"]);
    let start = net.w(w).running.values().next().expect("it runs");
    assert_eq!((start.service, start.method), (1, 0));
    let unknown = net.call_with(d, "hold", |_| {});
    assert_eq!(net.failure(unknown), &CallFailure::UnknownMethod { offered: [Arc::from("ping")].into() });
}

#[test]
fn services_of_several_workers_are_routed_separately() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let workers = ["A", "B"].map(|name| {
        net.worker_with(&[d], |config| (config.services, config.credits) = (vec![offer(name, &["ping", "hold"])], 1))
    });
    net.connect();
    let blocked = net.call_with(d, "hold", |spec| spec.service = "A".into());
    let waiting = net.call_with(d, "ping", |spec| spec.service = "A".into());
    let other = net.call_with(d, "ping", |spec| spec.service = "B".into());
    net.run(ms(5));
    assert_eq!((net.value(other), net.has_ended(waiting)), ("pong".to_owned(), false));
    assert_eq!((net.w(workers[0]).runs.as_slice(), net.w(workers[1]).runs.as_slice()), (&[blocked][..], &[other][..]));
}

fn two_dispatchers(credits: u32) -> (Net, [D; 2], W) {
    let mut net = Net::new();
    let dispatchers = [net.dispatcher(), net.dispatcher()];
    let w = net.worker_with(&dispatchers, |config| config.credits = credits);
    net.connect();
    (net, dispatchers, w)
}

fn request(call: CallId, argument: &str) -> Message {
    Message::Request(Request {
        call,
        attempt: 1,
        idempotent: false,
        as_declared: false,
        fail_fast: false,
        service: "Demo".into(),
        method: "echo".into(),
        fingerprint: 0,
        remaining: INTERVAL,
        metadata: Default::default(),
        payload: value(argument),
    })
}
