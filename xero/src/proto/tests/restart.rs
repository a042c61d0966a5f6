//! Restarts (`PROTOCOL.md` §5, §6): connections recover in any order, and no incarnation gets another's replies.

use std::time::Duration;

use super::{
    network::Net,
    pair::{EXPIRY, INTERVAL, LATENCY, ms, value},
};
use crate::proto::message::{CallId, Message, Request};

#[test]
fn restarted_dispatcher_is_served_again() {
    let (mut net, d, w) = Net::pair();
    for life in 1..=5 {
        net.kill_dispatcher(d);
        net.run(INTERVAL * life);
        net.restart_dispatcher(d);
        let call = net.call(d, "echo");
        net.run(ms(2100));
        assert_eq!(net.value(call), call.to_string());
    }
    assert_eq!(net.w(w).registered.len(), 6);
}

#[test]
fn worker_that_has_waited_for_an_hour_serves_within_seconds() {
    for seed in 0..20 {
        let mut net = Net::new();
        let d = net.dispatcher();
        net.kill_dispatcher(d);
        net.worker_with(&[d], |config| config.seed = seed);
        net.run(Duration::from_secs(3600));
        net.restart_dispatcher(d);
        net.run(ms(2000) + 3 * LATENCY);
        assert_eq!(net.d(d).workers(), 1, "seed {seed}");
    }
}

#[test]
fn pause_is_short_again_after_a_connection_that_has_lasted() {
    for seed in 0..20 {
        let mut net = Net::new();
        let d = net.dispatcher();
        net.kill_dispatcher(d);
        let w = net.worker_with(&[d], |config| config.seed = seed);
        net.run(60 * INTERVAL);
        net.restart_dispatcher(d);
        net.run(3 * INTERVAL + EXPIRY);
        net.disconnect(d, w);
        net.run(ms(100) + 4 * LATENCY);
        assert_eq!(net.d(d).workers(), 1, "seed {seed}");
    }
}

#[test]
fn pause_doubles_while_introductions_go_unanswered() {
    let mut net = Net::new();
    let d = net.dispatcher();
    net.freeze_dispatcher(d);
    let workers: Vec<_> = (0..30).map(|_| net.worker(&[d])).collect();
    net.run(60 * INTERVAL);
    let mut longest = [Duration::ZERO; 6];
    for w in workers {
        let readies: Vec<_> = net.sent_by(w).map(|sent| sent.at).collect();
        for (index, longest) in longest.iter_mut().enumerate() {
            let pause = readies[index + 1] - readies[index] - EXPIRY - LATENCY;
            *longest = pause.max(*longest);
        }
    }
    for (longest, bound) in longest.into_iter().zip([100, 200, 400, 800, 1600, 2000]) {
        assert!(longest <= ms(bound) && longest > ms(bound / 2), "{longest:?} of {bound} ms");
    }
}

#[test]
fn workers_of_a_dispatcher_that_comes_back_do_not_dial_in_step() {
    let mut net = Net::new();
    let d = net.dispatcher();
    for _ in 0..20 {
        net.worker(&[d]);
    }
    net.connect();
    net.kill_dispatcher(d);
    net.run(10 * INTERVAL);
    net.restart_dispatcher(d);
    net.run(3 * INTERVAL);
    let joined = net.d(d).joined.len() - 20;
    let mut instants: Vec<_> = net.d(d).joined[20..].iter().map(|joined| joined.0).collect();
    instants.dedup();
    assert_eq!((joined, instants.len()), (20, 20));
}

#[test]
fn restarted_worker_is_a_new_worker_and_the_old_one_is_forgotten() {
    let (mut net, d, old) = Net::pair();
    let call = net.call(d, "safe");
    net.run(ms(5));
    net.kill_worker(old);
    let new = net.worker(&[d]);
    net.connect();
    net.reply(new, call, "done");
    net.run(ms(5));
    assert_eq!((net.value(call), net.d(d).workers()), ("done".to_owned(), 1));
    let incarnations: Vec<_> = net.d(d).machine.workers().map(|worker| worker.incarnation()).collect();
    assert_eq!(incarnations, [net.w(new).config.incarnation]);
}

#[test]
fn client_and_worker_may_start_and_restart_in_any_order() {
    for order in 0..8_u32 {
        let mut net = Net::new();
        let d = net.dispatcher();
        net.kill_dispatcher(d);
        let mut w = net.worker(&[d]);
        for step in 0..3 {
            match order >> step & 1 {
                0 => {
                    net.kill_dispatcher(d);
                    net.run(ms(700));
                    net.restart_dispatcher(d);
                }
                _ => {
                    net.kill_worker(w);
                    net.run(ms(700));
                    w = net.worker(&[d]);
                }
            }
        }
        if !net.d(d).is_alive {
            net.restart_dispatcher(d);
        }
        let call = net.call(d, "ping");
        net.run(ms(2100));
        assert_eq!(net.value(call), "pong", "order {order:b}");
    }
}

#[test]
fn reply_to_an_earlier_incarnation_is_dropped() {
    let (mut net, d, w) = Net::pair();
    let old = net.call(d, "stubborn");
    net.run(ms(5));
    net.kill_dispatcher(d);
    net.run(ms(5));
    net.restart_dispatcher(d);
    net.run(INTERVAL);
    let new = net.call(d, "hold");
    net.run(ms(5));
    net.reply(w, old, "stale");
    net.run(ms(5));
    assert_eq!(net.w(w).machine.counters().unwanted_replies, 1);
    assert_eq!(net.d(d).machine.counters().unsolicited_replies, 0);
    net.reply(w, new, "fresh");
    net.run(ms(5));
    assert_eq!(net.value(new), "fresh");
}

#[test]
fn equal_ids_of_two_incarnations_are_two_calls() {
    let (mut net, d, w) = Net::pair();
    net.send_to(d, w, request(CallId(7)));
    net.run(ms(5));
    net.kill_dispatcher(d);
    net.run(ms(5));
    net.restart_dispatcher(d);
    net.run(INTERVAL);
    net.send_to(d, w, request(CallId(7)));
    net.run(ms(5));
    let executions: Vec<_> = net.w(w).running.keys().copied().collect();
    assert_eq!(executions.len(), 2);
    net.reply(w, CallId(7), "stale");
    let finals = |net: &Net| net.sent_by(w).filter(|sent| matches!(sent.message, Message::Final(_))).count();
    net.run(ms(5));
    assert_eq!(finals(&net), 0, "nobody waits for the first");
    net.reply(w, CallId(7), "fresh");
    net.run(ms(5));
    assert_eq!(finals(&net), 1);
}

#[test]
fn broken_connection_is_made_again_and_its_requests_are_stopped() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.disconnect(d, w);
    net.run(ms(110));
    assert_eq!((net.w(w).aborted.as_slice(), net.w(w).registered.len()), (&[call][..], 2));
    assert_eq!(net.w(w).machine.counters().unwanted_replies, 1);
    assert!(net.end(call).is_err());
}

fn request(call: CallId) -> Message {
    Message::Request(Request {
        call,
        attempt: 1,
        idempotent: false,
        as_declared: false,
        fail_fast: false,
        service: "Demo".into(),
        method: "stubborn".into(),
        fingerprint: 0,
        remaining: 60 * INTERVAL,
        metadata: Default::default(),
        payload: value(""),
    })
}
