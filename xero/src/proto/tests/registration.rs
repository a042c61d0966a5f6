//! Introductions (`PROTOCOL.md` §5): which peers are registered or refused, and what is sent before.

use std::time::Duration;

use super::{
    network::Net,
    node::offer,
    pair::{EXPIRY, INTERVAL, LATENCY, TICK, error_reply, final_reply, introduction, ms, partial_reply, value},
};
use crate::proto::{
    dispatch::Departure,
    frame::{Frames, encode},
    liveness::INTERVAL_MIN,
    message::{CallId, Capabilities, ErrorCode, Event, Message, Role, Subscribe},
};

#[test]
fn worker_is_registered_on_both_sides_once_its_introduction_is_answered() {
    let mut net = Net::new();
    let started_at = net.now;
    let d = net.dispatcher();
    let w = net.worker(&[d]);
    net.connect();
    assert_eq!(net.d(d).joined.iter().map(|joined| joined.0).collect::<Vec<_>>(), [started_at + 2 * LATENCY]);
    assert_eq!(
        net.w(w).registered.iter().map(|registered| registered.0).collect::<Vec<_>>(),
        [started_at + 3 * LATENCY]
    );
    assert_eq!(net.d(d).machine.services().collect::<Vec<_>>(), ["Demo"]);
}

#[test]
fn worker_sends_only_its_introduction_until_it_is_answered() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker(&[d]);
    net.freeze_dispatcher(d);
    net.run(EXPIRY);
    assert!(net.sent_by(w).all(|sent| matches!(sent.message, Message::Ready(_))));
    assert_eq!(net.sent_by(w).count(), 1);
}

#[test]
fn unanswered_introduction_is_retried_over_a_new_connection_at_the_expiry() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker(&[d]);
    net.freeze_dispatcher(d);
    let expires_at = net.now + LATENCY + EXPIRY;
    net.run_until(expires_at - TICK);
    assert_eq!(net.w(w).sockets.len(), 1);
    net.run_until(expires_at);
    assert!(net.w(w).sockets.is_empty());
    assert_eq!(net.w(w).machine.counters().redials, 1);
    net.thaw_dispatcher(d);
    net.run(ms(200));
    assert_eq!(net.d(d).workers(), 1);
}

#[test]
fn dispatcher_says_nothing_to_a_connection_that_has_not_introduced_itself() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let stranger = net.stranger(d);
    net.call(d, "ping");
    net.run(10 * INTERVAL);
    assert_eq!(net.sent_to_strangers().count(), 0);
    assert!(net.stands(stranger));
}

#[test]
fn anything_but_an_introduction_costs_a_stranger_only_its_own_connection() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    let topic: std::sync::Arc<str> = "weather".into();
    let messages = [
        partial_reply(call, 0, "stray"),
        final_reply(call, "stray"),
        error_reply(call, ErrorCode::Panicked, true),
        Message::Cancel(call),
        Message::Credit(100),
        Message::Event(Event { topic: topic.clone(), sequence: 0, payload: value("rain") }),
        Message::Subscribe(Subscribe { topic, wanted: true }),
        Message::Heartbeat,
        Message::Drain,
        Message::Goodbye,
    ];
    let count = messages.len() as u64;
    for message in messages {
        let stranger = net.stranger(d);
        net.send_as(stranger, message);
        net.run(ms(2));
        assert!(!net.stands(stranger));
    }
    assert_eq!(net.d(d).machine.counters().unregistered_messages, count);
    assert_eq!(net.sent_to_strangers().count(), 0);
    assert!(!net.has_ended(call));
    net.reply(w, call, "mine");
    net.run(ms(5));
    assert_eq!(net.value(call), "mine");
}

#[test]
fn client_that_connects_to_a_client_gets_an_error_that_says_so() {
    let mut net = Net::new();
    let d = net.dispatcher();
    for role in [Role::Client, Role::Dispatcher] {
        let peer = net.puppet_with(d, |ready| ready.role = role);
        assert!(!net.stands(peer));
        let sent = net.sent_to_strangers().last().map(|sent| &sent.message);
        let Some(Message::Error(error)) = sent else { panic!("an explanation, not {sent:?}") };
        assert!(error.detail.contains(&role.to_string()) && !error.maybe_executed);
    }
    assert_eq!(net.d(d).workers(), 0);
}

#[test]
fn unreadable_introduction_is_answered_with_the_reason() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let stranger = net.stranger(d);
    let mut frames = encode(&Message::Ready(introduction()));
    frames.header.truncate(60);
    net.send_frames_as(stranger, frames);
    let browser = net.stranger(d);
    net.send_frames_as(browser, Frames { header: "GET / HTTP/1.1".into(), payload: "".into() });
    net.run(ms(2));
    assert!(!net.stands(stranger) && !net.stands(browser));
    assert!(
        net.sent_to_strangers().all(|sent| matches!(&sent.message, Message::Error(error) if !error.detail.is_empty()))
    );
    assert_eq!(net.sent_to_strangers().count(), 2);
    assert_eq!(net.d(d).machine.counters().malformed_messages, 2);
}

#[test]
fn refused_worker_tries_again_after_a_pause() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker(&[d]);
    net.freeze_dispatcher(d);
    net.run(ms(10));
    net.send_to(d, w, error_reply(CallId(0), ErrorCode::Malformed, false));
    net.run(ms(2));
    assert_eq!(net.w(w).machine.counters().redials, 1);
    net.thaw_dispatcher(d);
    net.run(ms(200));
    assert_eq!(net.w(w).machine.registered().count(), 1);
}

#[test]
fn repeated_introduction_replaces_the_former_and_is_answered() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let peer = net.puppet(d, 1);
    let calls = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    let ready = |sent: &&super::pair::Sent| matches!(sent.message, Message::Ready(_));
    assert_eq!(net.sent_to_strangers().filter(ready).count(), 1);
    let again = crate::proto::message::Ready { credits: 2, services: vec![offer("Demo", &["hold"])], ..introduction() };
    net.send_as(peer, Message::Ready(again));
    net.run(ms(5));
    assert_eq!(net.sent_to_strangers().filter(ready).count(), 2);
    assert_eq!(
        net.d(d).machine.workers().map(|worker| (worker.in_flight(), worker.credits())).collect::<Vec<_>>(),
        [(2, 2)]
    );
    let unknown = net.call(d, "ping");
    assert!(net.has_ended(unknown));
    calls.into_iter().for_each(|call| net.send_as(peer, final_reply(call, "done")));
    net.run(ms(5));
    assert_eq!(calls.map(|call| net.value(call)), ["done", "done"]);
}

#[test]
fn replacement_serves_before_the_dead_worker_expires() {
    let (mut net, d, dead) = Net::pair();
    net.freeze_worker(dead);
    let replacement = net.worker(&[d]);
    net.connect();
    assert_eq!(net.d(d).workers(), 2);
    let calls = [net.call(d, "ping"), net.call(d, "ping")];
    net.run(ms(5));
    assert_eq!(calls.map(|call| net.has_ended(call)), [false, true]);
    assert_eq!(net.w(replacement).runs, [calls[1]]);
}

#[test]
fn batches_go_only_to_peers_that_read_them() {
    for (capabilities, together) in [(Capabilities::default(), 1), (Capabilities::BATCH, 3)] {
        let mut net = Net::new();
        let d = net.dispatcher();
        net.puppet_with(d, |ready| ready.capabilities = capabilities);
        for _ in 0..3 {
            net.call(d, "hold");
        }
        net.run(ms(5));
        let requests = net.sent_to_strangers().filter(|sent| matches!(sent.message, Message::Request(_)));
        assert_eq!(requests.map(|sent| sent.together).collect::<Vec<_>>(), [together; 3]);
    }
}

#[test]
fn announced_intervals_are_clamped_to_the_shortest_and_longest() {
    let mut net = Net::new();
    let d = net.dispatcher();
    net.puppet_with(d, |ready| ready.interval = Duration::ZERO);
    let patient = net.puppet_with(d, |ready| ready.interval = Duration::MAX);
    net.run(3 * INTERVAL_MIN);
    assert_eq!(net.d(d).workers(), 1);
    net.run(Duration::from_secs(3 * 60));
    assert_eq!(net.d(d).left.last().map(|left| (left.1, left.2)), Some((patient, Departure::Expired)));
}
