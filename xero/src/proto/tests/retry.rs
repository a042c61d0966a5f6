//! Retries (`PROTOCOL.md` §8): only because a worker died, drained or refused, and only where that does no harm.

use super::{
    network::Net,
    node::{maybe_executed, offer},
    pair::{D, EXPIRY, INTERVAL, W, error_reply, ms, partial_reply},
};
use crate::proto::{
    calls::{CallFailure, WaitPolicy},
    message::{CallId, ErrorCode, Message, Peer},
};

#[test]
fn idempotent_call_is_retried_on_another_worker_when_its_worker_dies() {
    for declared_by_the_worker in [true, false] {
        let (mut net, d, [first, second]) = two_workers();
        let method = if declared_by_the_worker { "safe" } else { "hold" };
        let call = net.call_with(d, method, |spec| spec.idempotent = (!declared_by_the_worker).then_some(true));
        net.run(ms(5));
        net.kill_worker(first);
        net.run(ms(5));
        net.reply(second, call, "done");
        net.run(ms(5));
        assert_eq!(net.value(call), "done");
        assert_eq!((net.runs(call), net.d(d).machine.counters().retries), (2, 1));
        assert_eq!(attempts_sent(&net, call), [1, 2]);
    }
}

#[test]
fn idempotent_call_is_retried_when_its_worker_expires() {
    let (mut net, d, [first, second]) = two_workers();
    let call = net.call_with(d, "safe", |spec| spec.deadline += 10 * INTERVAL);
    net.run(ms(5));
    net.freeze_worker(first);
    net.run(EXPIRY + INTERVAL);
    net.reply(second, call, "done");
    net.run(ms(5));
    assert_eq!(net.value(call), "done");
    net.thaw_worker(first);
    net.run(INTERVAL);
    assert_eq!(net.d(d).workers(), 2);
}

#[test]
fn idempotent_call_is_retried_when_its_worker_leaves_before_it_is_done() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let first = net.worker_with(&[d], |config| config.drain_timeout = INTERVAL);
    net.connect();
    let second = net.worker(&[d]);
    net.connect();
    let call = net.call(d, "safe");
    net.run(ms(5));
    net.drain(first);
    net.run(INTERVAL + ms(5));
    net.reply(second, call, "done");
    net.run(ms(5));
    assert_eq!(net.value(call), "done");
}

#[test]
fn retried_call_waits_for_a_worker_and_keeps_its_deadline() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "safe");
    let deadline = net.d(d).deadlines[&call];
    net.run(INTERVAL);
    net.kill_worker(w);
    net.run(INTERVAL);
    let second = net.worker(&[d]);
    net.connect();
    let request = net.sent_to(second).find_map(|sent| match &sent.message {
        Message::Request(request) => Some((sent.at, request)),
        _ => None,
    });
    let (sent_at, request) = request.expect("a request");
    assert_eq!((request.attempt, request.remaining), (2, deadline - sent_at));
    net.run_until(deadline);
    assert_eq!(net.ending(call), Some(&(deadline, Err(CallFailure::DeadlineExceeded { maybe_executed: true }))));
}

#[test]
fn retried_call_without_a_worker_is_maybe_executed() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "safe");
    net.run(ms(5));
    net.kill_worker(w);
    net.run(5 * INTERVAL);
    assert_eq!(net.failure(call), &CallFailure::WorkerLost { maybe_executed: true, attempts: 1 });
}

#[test]
fn impossible_retry_does_not_hide_that_the_call_may_have_run() {
    let lost = CallFailure::WorkerLost { maybe_executed: true, attempts: 1 };
    // Another worker has the service but not the method.
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "safe");
    net.worker_with(&[d], |config| config.services = vec![offer("Demo", &["ping"])]);
    net.connect();
    net.kill_worker(w);
    net.run(ms(5));
    assert_eq!(net.failure(call), &lost, "not an unknown method");

    // There is no other worker, and the caller does not wait.
    let (mut net, d, w) = Net::pair();
    let call = net.call_with(d, "safe", |spec| spec.wait_policy = WaitPolicy::Never);
    net.run(ms(5));
    net.kill_worker(w);
    net.run(ms(5));
    assert_eq!(net.failure(call), &lost, "not the want of a worker");

    // The other worker is busy, and the caller does not wait.
    let (mut net, d, w) = Net::pair();
    let call = net.call_with(d, "safe", |spec| spec.wait_policy = WaitPolicy::Never);
    net.worker_with(&[d], |config| config.credits = 0);
    net.connect();
    net.kill_worker(w);
    net.run(ms(5));
    assert_eq!(net.failure(call), &lost, "not overload");

    // The other worker accepts no arguments of this size.
    let (mut net, d, w) = Net::pair();
    let call = net.call_with(d, "safe", |spec| spec.payload.bytes = vec![0; 3000].into());
    net.worker_with(&[d], |config| config.limits.payload_bytes_max = 2000);
    net.connect();
    net.kill_worker(w);
    net.run(ms(5));
    let CallFailure::WorkerLost { maybe_executed: true, .. } = net.failure(call) else {
        panic!("{:?}", net.failure(call))
    };
}

#[test]
fn call_that_is_not_idempotent_is_not_sent_again_once_it_may_have_run() {
    let lose: [fn(&mut Net, D, W); 4] = [
        |net, _, w| net.kill_worker(w),
        |net, d, w| net.disconnect(d, w),
        |net, _, w| net.freeze_worker(w),
        |net, d, w| net.cut(d, w),
    ];
    for lose in lose {
        let (mut net, d, [first, second]) = two_workers();
        let call = net.call_with(d, "hold", |spec| spec.deadline += 10 * INTERVAL);
        net.run(ms(5));
        lose(&mut net, d, first);
        net.run(5 * INTERVAL);
        assert_eq!(net.failure(call), &CallFailure::WorkerLost { maybe_executed: true, attempts: 1 });
        assert_eq!((net.runs(call), net.w(second).runs.len()), (1, 0));
    }
}

#[test]
fn passing_time_is_no_reason_to_send_again() {
    let (mut net, d, [first, second]) = two_workers();
    let call = net.call_with(d, "stubborn", |spec| {
        spec.idempotent = Some(true);
        spec.deadline += 60 * INTERVAL;
    });
    net.run(60 * INTERVAL);
    assert_eq!((net.runs(call), net.w(second).runs.len()), (1, 0));
    net.reply(first, call, "done");
    net.run(ms(5));
    assert_eq!(net.value(call), "done");
}

#[test]
fn refused_call_goes_to_another_worker_unharmed() {
    for code in [ErrorCode::Refused, ErrorCode::Overloaded] {
        let mut net = Net::new();
        let d = net.dispatcher();
        let refusing = net.puppet(d, 8);
        let w = net.worker(&[d]);
        net.connect();
        let call = net.call(d, "ping");
        net.run(ms(5));
        net.send_as(refusing, error_reply(call, code, false));
        net.run(ms(5));
        assert_eq!(net.value(call), "pong");
        assert_eq!(net.w(w).runs, [call]);
    }
}

#[test]
fn call_stopped_midway_by_its_worker_is_resent_only_if_it_is_idempotent() {
    for idempotent in [true, false] {
        let mut net = Net::new();
        let d = net.dispatcher();
        let refusing = net.puppet(d, 8);
        net.worker(&[d]);
        net.connect();
        let call = net.call_with(d, "ping", |spec| spec.idempotent = Some(idempotent));
        net.run(ms(5));
        net.send_as(refusing, error_reply(call, ErrorCode::Refused, true));
        net.run(ms(5));
        match idempotent {
            true => assert_eq!(net.value(call), "pong"),
            false => assert!(matches!(net.failure(call), CallFailure::Remote(error) if error.maybe_executed)),
        }
    }
}

#[test]
fn worker_that_has_sent_partial_replies_has_started_whatever_it_says() {
    let says: [&dyn Fn(CallId) -> Vec<Message>; 3] = [
        &|call| vec![error_reply(call, ErrorCode::Refused, false)],
        &|call| vec![error_reply(call, ErrorCode::Overloaded, false)],
        &|_| vec![Message::Drain, Message::Goodbye],
    ];
    for messages in says {
        let mut net = Net::new();
        let d = net.dispatcher();
        let puppet = net.puppet(d, 8);
        let w = net.worker(&[d]);
        net.connect();
        let call = net.call_with(d, "ping", |spec| spec.idempotent = Some(false));
        net.run(ms(5));
        net.send_as(puppet, partial_reply(call, 0, "half"));
        messages(call).into_iter().for_each(|message| net.send_as(puppet, message));
        net.run(ms(5));
        assert_eq!(maybe_executed(net.failure(call)), Some(true));
        assert_eq!(net.w(w).runs.len(), 0);
    }
}

#[test]
fn call_that_crosses_many_drains_in_a_row_fails_at_none() {
    // More workers than attempts are counted.
    for (attempts_max, count) in [(1, 4), (3, 4), (3, 300)] {
        let mut net = Net::new();
        let d = net.dispatcher_with(move |config| config.retry.attempts_max = attempts_max);
        let draining: Vec<_> = (0..count).map(|_| net.puppet(d, 8)).collect();
        let w = net.worker(&[d]);
        net.connect();
        let call = net.call(d, "hold");
        for puppet in draining {
            net.run(ms(5));
            assert!(!net.is_running(w, call), "they are asked in the order in which they have come");
            net.send_as(puppet, Message::Drain);
            net.send_as(puppet, error_reply(call, ErrorCode::Refused, false));
        }
        net.run(ms(5));
        net.reply(w, call, "done");
        net.run(ms(5));
        assert_eq!(net.value(call), "done");
    }
}

#[test]
fn callers_own_choice_overrides_the_workers_declaration() {
    for (said, method, is_retried) in
        [(Some(false), "safe", false), (None, "safe", true), (Some(true), "hold", true), (None, "hold", false)]
    {
        let (mut net, d, [first, second]) = two_workers();
        let call = net.call_with(d, method, |spec| spec.idempotent = said);
        net.run(ms(5));
        net.kill_worker(first);
        net.run(ms(5));
        assert_eq!(net.is_running(second, call), is_retried, "{said:?} {method}");
    }
}

#[test]
fn worker_that_refused_is_asked_again_only_if_there_is_no_other() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppets = [net.puppet(d, 8), net.puppet(d, 8)];
    let calls = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    assert_eq!(in_flight_at(&net, d), [1, 1]);
    // It is the least recently used by now, and would be asked if it had not refused.
    net.send_as(puppets[0], error_reply(calls[0], ErrorCode::Overloaded, false));
    net.run(ms(5));
    assert_eq!(in_flight_at(&net, d), [0, 2]);
    net.send_as(puppets[1], Message::Drain);
    net.send_as(puppets[1], error_reply(calls[0], ErrorCode::Refused, false));
    net.run(ms(5));
    assert_eq!(in_flight_at(&net, d), [1, 1]);
}

#[test]
fn attempts_are_bounded() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.retry.attempts_max = 3);
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    for attempt in 1..=3 {
        net.run(ms(5));
        assert_eq!(attempts_sent(&net, call).len(), attempt);
        net.send_as(puppet, error_reply(call, ErrorCode::Overloaded, false));
    }
    net.run(ms(5));
    assert!(matches!(net.failure(call), CallFailure::Remote(error) if !error.maybe_executed));
    assert_eq!(attempts_sent(&net, call), [1, 2, 3]);

    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.retry.attempts_max = 2);
    let workers = [net.worker(&[d]), net.worker(&[d]), net.worker(&[d])];
    net.connect();
    let call = net.call(d, "safe");
    net.run(ms(5));
    for w in &workers[..2] {
        net.kill_worker(*w);
        net.run(ms(5));
    }
    assert_eq!(net.failure(call), &CallFailure::WorkerLost { maybe_executed: true, attempts: 2 });
    assert_eq!(net.runs(call), 2);
}

#[test]
fn maybe_executed_outlives_the_end_of_a_later_attempt() {
    for code in (0..=u8::MAX).filter_map(ErrorCode::from_wire) {
        let (mut net, call, last) = retried();
        net.send_as(last, error_reply(call, code, false));
        net.run(ms(5));
        assert_eq!(maybe_executed(net.failure(call)), Some(true), "{code:?}: {:?}", net.failure(call));
    }
    // The same without an answer from the later worker.
    let (mut net, call, last) = retried();
    net.send_as(last, Message::Drain);
    net.send_as(last, Message::Goodbye);
    net.run(5 * INTERVAL);
    assert_eq!(maybe_executed(net.failure(call)), Some(true), "{:?}", net.failure(call));
    let (mut net, call, _) = retried();
    net.close(D(0));
    assert_eq!(net.failure(call), &CallFailure::Closed { maybe_executed: true });
}

#[test]
fn reply_to_an_earlier_attempt_is_dropped() {
    let (mut net, d, [first, second]) = two_workers();
    let call = net.call_with(d, "stubborn", |spec| {
        spec.idempotent = Some(true);
        spec.deadline += 20 * INTERVAL;
    });
    net.run(ms(5));
    net.cut(d, first);
    net.run(EXPIRY + INTERVAL);
    net.reply(first, call, "stale");
    net.heal(d, first);
    net.run(3 * INTERVAL);
    assert!(!net.has_ended(call));
    net.reply(second, call, "fresh");
    net.run(ms(5));
    assert_eq!(net.value(call), "fresh");
}

fn two_workers() -> (Net, D, [W; 2]) {
    let (mut net, d, first) = Net::pair();
    let second = net.worker(&[d]);
    net.connect();
    (net, d, [first, second])
}

/// A call whose first worker died, and the puppet that has its second and last attempt.
fn retried() -> (Net, CallId, Peer) {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.retry.attempts_max = 2);
    let w = net.worker(&[d]);
    net.connect();
    let last = net.puppet(d, 8);
    let call = net.call(d, "safe");
    net.run(ms(5));
    assert!(net.is_running(w, call));
    net.kill_worker(w);
    net.run(ms(5));
    (net, call, last)
}

/// The attempt numbers that workers were sent, in order.
fn attempts_sent(net: &Net, call: CallId) -> Vec<u8> {
    let attempt = |message: &Message| match message {
        Message::Request(request) if request.call == call => Some(request.attempt),
        _ => None,
    };
    net.sent.iter().filter_map(|sent| attempt(&sent.message)).collect()
}

fn in_flight_at(net: &Net, d: D) -> Vec<usize> {
    let mut workers: Vec<(Peer, usize)> =
        net.d(d).machine.workers().map(|worker| (worker.peer, worker.in_flight())).collect();
    workers.sort();
    workers.into_iter().map(|worker| worker.1).collect()
}
