//! Leaving (`PROTOCOL.md` §10): a worker that drains loses nothing, a dispatcher that closes ends everything, and
//! neither waits long for a peer that does not answer.

use std::time::Duration;

use super::{
    network::Net,
    node::Work,
    pair::{EXPIRY, INTERVAL, LATENCY, TICK, final_reply, introduction, ms},
};
use crate::proto::{
    calls::CallFailure,
    dispatch::Departure,
    message::{ErrorCode, Message},
};

#[test]
fn draining_worker_finishes_its_requests_then_says_goodbye_and_leaves() {
    let (mut net, d, w) = Net::pair();
    let calls = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    net.drain(w);
    net.run(2 * INTERVAL);
    assert!(net.d(d).machine.workers().all(|worker| worker.is_draining()));
    assert_eq!(net.w(w).left_at, None);
    net.reply(w, calls[0], "one");
    net.run(ms(5));
    assert_eq!(net.w(w).left_at, None);
    net.reply(w, calls[1], "two");
    let finished_at = net.now;
    net.run(ms(5));
    assert_eq!(calls.map(|call| net.value(call)), ["one", "two"]);
    assert_eq!(net.w(w).left_at, Some(finished_at + 2 * LATENCY), "once its goodbye has been read");
    assert_eq!(net.d(d).left.last().map(|left| left.2), Some(Departure::Goodbye));
}

#[test]
fn idle_worker_leaves_at_once() {
    let (mut net, d, w) = Net::pair();
    let drained_at = net.now;
    net.drain(w);
    net.drain(w);
    net.run(ms(5));
    assert_eq!(net.w(w).left_at, Some(drained_at + 2 * LATENCY));
    assert_eq!(
        net.d(d).left.iter().map(|left| (left.0, left.2)).collect::<Vec<_>>(),
        [(drained_at + LATENCY, Departure::Goodbye)]
    );
}

#[test]
fn worker_that_drains_before_it_is_answered_introduces_itself_once() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let call = net.call(d, "hold");
    let w = net.worker(&[d]);
    while net.sent_to(w).next().is_none() {
        net.run(LATENCY / 10);
    }
    net.drain(w);
    net.run(20 * LATENCY);
    let is_ready = |message: &Message| matches!(message, Message::Ready(_));
    let readies = [
        net.sent_by(w).filter(|sent| is_ready(&sent.message)).count(),
        net.sent_to(w).filter(|sent| is_ready(&sent.message)).count(),
    ];
    assert_eq!((readies, net.has_ended(call)), ([1, 1], false), "neither side answers the other's READY twice");
}

#[test]
fn worker_without_a_connection_leaves_at_once() {
    let mut net = Net::new();
    let d = net.dispatcher();
    net.kill_dispatcher(d);
    let w = net.worker(&[d]);
    net.run(10 * INTERVAL);
    net.drain(w);
    assert_eq!(net.w(w).left_at, Some(net.now));
    net.restart_dispatcher(d);
    net.run(10 * INTERVAL);
    assert!(net.d(d).joined.is_empty(), "nobody dials any more");
}

#[test]
fn worker_that_drains_while_it_dials_does_not_introduce_itself() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker(&[d]);
    net.run(LATENCY / 2);
    net.drain(w);
    net.run(INTERVAL);
    assert_eq!((net.sent_by(w).count(), net.d(d).joined.len()), (0, 0));
    assert!(net.w(w).sockets.is_empty());
}

#[test]
fn worker_that_drains_while_it_introduces_itself_harms_no_call() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker(&[d]);
    let call = net.call(d, "ping");
    net.run(LATENCY + LATENCY / 2);
    net.drain(w);
    let drained_at = net.now;
    net.run(ms(20));
    assert!(!net.has_ended(call), "it waits for a worker that stays");
    assert!(net.w(w).left_at.is_some_and(|at| at <= drained_at + 4 * LATENCY));
    net.worker(&[d]);
    net.connect();
    assert_eq!(net.value(call), "pong");
}

#[test]
fn draining_worker_without_an_answer_to_its_introduction_leaves_after_the_grace() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker(&[d]);
    net.freeze_dispatcher(d);
    net.run(ms(10));
    net.drain(w);
    net.run(GRACE);
    assert!(net.w(w).left_at.is_some());
}

#[test]
fn request_that_crosses_a_drain_goes_to_another_worker_unharmed() {
    let (mut net, d, draining) = Net::pair();
    let other = net.worker(&[d]);
    net.connect();
    let slow = net.call(d, "hold");
    net.run(ms(5));
    let first = net.call(d, "ping");
    net.run(ms(5));
    let second = net.call(d, "echo");
    net.drain(draining);
    net.run(ms(20));
    assert_eq!((net.value(first), net.value(second)), ("pong".to_owned(), second.to_string()));
    assert_eq!((net.w(draining).runs.len(), net.w(other).runs.len()), (1, 2));
    let refused = net.sent_by(draining).filter(|sent| {
        matches!(&sent.message, Message::Error(error) if error.code == ErrorCode::Refused && !error.maybe_executed)
    });
    assert_eq!(refused.count(), 1);
    net.reply(draining, slow, "done");
    net.run(ms(5));
    assert_eq!(net.value(slow), "done");
}

#[test]
fn request_that_crosses_the_goodbye_of_an_idle_worker_goes_to_another_unharmed() {
    let (mut net, d, draining) = Net::pair();
    let other = net.worker(&[d]);
    net.connect();
    let call = net.call(d, "ping");
    net.drain(draining);
    net.run(ms(20));
    assert_eq!(net.value(call), "pong");
    assert_eq!((net.w(draining).runs.len(), net.w(other).runs.len()), (0, 1));
}

#[test]
fn worker_that_says_goodbye_without_a_drain_may_have_run_what_it_has() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.send_as(puppet, Message::Goodbye);
    net.run(ms(5));
    assert_eq!(net.failure(call), &CallFailure::WorkerLost { maybe_executed: true, attempts: 1 });
    assert!(!net.stands(puppet));
}

#[test]
fn draining_worker_gets_no_new_requests() {
    let (mut net, d, w) = Net::pair();
    let slow = net.call(d, "hold");
    net.run(ms(5));
    net.drain(w);
    net.run(ms(5));
    let call = net.call(d, "ping");
    net.run(INTERVAL);
    assert!(!net.has_ended(call) && net.runs(call) == 0);
    assert_eq!(net.w(w).machine.counters().requests, 1);
    let other = net.worker(&[d]);
    net.connect();
    assert_eq!((net.value(call), net.runs(call)), ("pong".to_owned(), 1));
    assert!(net.is_running(w, slow) && net.w(other).runs == [call]);
}

#[test]
fn drain_ends_at_its_timeout_and_answers_running_requests() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.drain_timeout = 2 * INTERVAL);
    net.connect();
    let call = net.call(d, "stubborn");
    net.run(ms(5));
    net.drain(w);
    let drained_at = net.now;
    net.run_until(drained_at + 2 * INTERVAL - TICK);
    assert!(net.w(w).aborted.is_empty() && !net.has_ended(call));
    net.run_until(drained_at + 2 * INTERVAL);
    assert_eq!(net.w(w).aborted, [call]);
    net.run_until(drained_at + 2 * INTERVAL + 2 * LATENCY);
    assert!(net.w(w).left_at.is_some());
    let CallFailure::Remote(error) = net.failure(call) else { panic!("an error of the worker") };
    assert_eq!((error.code, error.maybe_executed), (ErrorCode::Refused, true));
}

#[test]
fn worker_waits_the_grace_for_its_goodbye_to_be_read() {
    let (mut net, d, w) = Net::pair();
    net.freeze_dispatcher(d);
    net.drain(w);
    let drained_at = net.now;
    net.run_until(drained_at + GRACE - TICK);
    assert_eq!(net.w(w).left_at, None);
    net.run_until(drained_at + GRACE);
    assert_eq!(net.w(w).left_at, Some(drained_at + GRACE));
    net.run_until(drained_at + GRACE + TICK);
    assert!(net.w(w).sockets.is_empty());
}

#[test]
fn worker_waits_for_its_goodbye_while_its_dispatcher_is_heard_from_and_may_still_read_a_reply() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    // A round trip of six graces, in which the dispatcher's heartbeats still come often enough.
    net.network.latency = 3 * GRACE;
    net.reply(w, call, "slow to arrive");
    net.drain(w);
    let drained_at = net.now;
    net.run_until(drained_at + 2 * net.network.latency - TICK);
    assert_eq!((net.value(call), net.w(w).left_at), ("slow to arrive".to_owned(), None));
    net.run_until(drained_at + 2 * net.network.latency);
    assert_eq!(net.w(w).left_at, Some(drained_at + 2 * net.network.latency));
}

#[test]
fn worker_stops_waiting_for_its_goodbye_when_its_dispatcher_expires() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    let heard_at = net.sent_to(w).last().expect("the request").at + LATENCY;
    net.freeze_dispatcher(d);
    net.reply(w, call, "for nobody");
    net.drain(w);
    net.run_until(heard_at + EXPIRY - TICK);
    assert_eq!(net.w(w).left_at, None);
    net.run_until(heard_at + EXPIRY);
    assert_eq!(net.w(w).left_at, Some(heard_at + EXPIRY));
}

#[test]
fn worker_stops_waiting_for_its_goodbye_at_the_drain_timeout() {
    for drain_timeout in [2 * INTERVAL, 2 * EXPIRY] {
        let mut net = Net::new();
        let d = net.dispatcher();
        let w = net.worker_with(&[d], |config| config.drain_timeout = drain_timeout);
        net.connect();
        let call = net.call(d, "hold");
        net.run(ms(5));
        // It reads nothing any more, but still sends.
        net.freeze_dispatcher(d);
        net.reply(w, call, "for nobody");
        net.drain(w);
        let drained_at = net.now;
        while net.now + INTERVAL < drained_at + drain_timeout {
            net.send_to(d, w, Message::Heartbeat);
            net.run(INTERVAL);
        }
        net.run_until(drained_at + drain_timeout - TICK);
        assert_eq!(net.w(w).left_at, None);
        net.run_until(drained_at + drain_timeout);
        assert_eq!(net.w(w).left_at, Some(drained_at + drain_timeout));
    }
}

#[test]
fn draining_worker_stops_work_of_lost_callers_and_leaves() {
    let (mut net, d, w) = Net::pair();
    let [call, stubborn] = [net.call(d, "hold"), net.call(d, "stubborn")];
    net.run(ms(5));
    net.drain(w);
    net.run(ms(5));
    net.kill_dispatcher(d);
    net.run(ms(5));
    assert_eq!(net.w(w).aborted, [call, stubborn]);
    assert_eq!(net.w(w).left_at, None, "one does not stop");
    net.reply(w, stubborn, "for nobody");
    assert_eq!(net.w(w).left_at, Some(net.now));
}

#[test]
fn rolling_drain_of_three_workers_fails_no_call() {
    for seed in 0..20 {
        let mut net = Net::with_seed(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        net.network.jitter = ms(10);
        let d = net.dispatcher();
        let mut workers: Vec<_> = (0..3).map(|_| net.worker(&[d])).collect();
        net.run(ms(100));
        let mut calls = Vec::new();
        for step in 0..300_u64 {
            let work = Work { tag: step, time: ms(random.u64(0..30)), fails: false, blocks: false };
            calls.push(net.call_with(d, "work", |spec| spec.payload = work.payload()));
            if step % 40 == 20 {
                workers.push(net.worker(&[d]));
                net.drain(workers.remove(0));
            }
            net.run(ms(random.u64(0..4)));
        }
        net.run(4 * INTERVAL);
        for call in calls {
            assert!(net.end(call).is_ok(), "seed {seed}: {:?}", net.end(call));
            assert_eq!(net.runs(call), 1, "seed {seed}");
        }
    }
}

#[test]
fn closing_dispatcher_ends_every_call_and_reports_which_may_have_run() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.credits = 1);
    net.connect();
    let [running, waiting] = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    net.close(d);
    let closed_at = net.now;
    assert_eq!(net.failure(running), &CallFailure::Closed { maybe_executed: true });
    assert_eq!(net.failure(waiting), &CallFailure::Closed { maybe_executed: false });
    let late = net.call(d, "ping");
    assert_eq!(net.failure(late), &CallFailure::Closed { maybe_executed: false });
    net.run(LATENCY);
    assert_eq!(net.w(w).aborted, [running]);
    net.run(LATENCY);
    assert_eq!(net.d(d).closed_at, Some(closed_at + 2 * LATENCY));
}

#[test]
fn dispatcher_waits_the_grace_for_its_goodbye_to_be_read() {
    let (mut net, d, w) = Net::pair();
    net.freeze_worker(w);
    net.close(d);
    let closing_at = net.now;
    net.run_until(closing_at + GRACE - TICK);
    assert_eq!(net.d(d).closed_at, None);
    net.run_until(closing_at + GRACE);
    assert_eq!(net.d(d).closed_at, Some(closing_at + GRACE));
    net.run_until(closing_at + GRACE + TICK);
    assert_eq!(net.d(d).workers(), 0);
}

#[test]
fn dispatcher_without_workers_closes_at_once_and_accepts_no_later_peer() {
    let (mut net, d, w) = Net::pair();
    net.freeze_worker(w);
    net.close(d);
    net.close(d);
    let late = net.stranger(d);
    net.send_as(late, Message::Ready(introduction()));
    net.run(ms(5));
    assert!(!net.stands(late) && net.d(d).joined.len() == 1);

    let mut net = Net::new();
    let d = net.dispatcher();
    net.close(d);
    assert_eq!(net.d(d).closed_at, Some(net.now));
}

#[test]
fn reply_that_crosses_the_close_is_dropped() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.reply(w, call, "crossing");
    net.close(d);
    net.run(ms(5));
    assert_eq!(net.failure(call), &CallFailure::Closed { maybe_executed: true });
}

#[test]
fn goodbyes_that_cross_end_both_waits() {
    let (mut net, d, w) = Net::pair();
    let started_at = net.now;
    net.drain(w);
    net.close(d);
    net.run(GRACE);
    assert!(net.d(d).closed_at.is_some_and(|at| at <= started_at + 3 * LATENCY));
    assert!(net.w(w).left_at.is_some_and(|at| at <= started_at + 3 * LATENCY));
}

#[test]
fn goodbye_of_a_dispatcher_sends_the_worker_back_to_dialing() {
    let (mut net, d, w) = Net::pair();
    net.close(d);
    net.run(ms(5));
    assert_eq!(net.w(w).unregistered.len(), 1);
    net.restart_dispatcher(d);
    net.run(INTERVAL);
    assert_eq!(net.d(d).workers(), 1);
}

#[test]
fn replies_of_a_worker_that_said_drain_still_count() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.send_as(puppet, Message::Drain);
    net.send_as(puppet, final_reply(call, "done"));
    net.send_as(puppet, Message::Goodbye);
    net.run(ms(5));
    assert_eq!(net.value(call), "done");
}

const GRACE: Duration = Duration::from_millis(500);
