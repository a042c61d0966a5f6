//! Leases (`PROTOCOL.md` §6): when a silent peer is dead, and what keeps it alive.

use std::time::Duration;

use uuid::Uuid;

use super::{
    network::Net,
    pair::{
        EXPIRY, INTERVAL, LATENCY, TICK, error_reply, final_reply, introduction, ms, partial_reply, spec, start, value,
    },
};
use crate::proto::{
    calls::{CallFailure, CallSpec},
    dispatch::{Departure, Dispatcher, DispatcherConfig, Output},
    frame::encode,
    liveness::{Heartbeats, INTERVAL_MIN},
    message::{CallId, ErrorCode, Event, Message, Peer, Ready},
    retry::BackoffConfig,
};

#[test]
fn silent_worker_expires_exactly_at_its_expiry() {
    let (mut net, d, w) = Net::pair();
    net.freeze_worker(w);
    let (joined_at, peer) = net.d(d).joined[0];
    net.run_until(joined_at + EXPIRY - TICK);
    assert!(net.d(d).left.is_empty() && net.stands(peer));
    net.run_until(joined_at + EXPIRY);
    assert_eq!(net.d(d).left, [(joined_at + EXPIRY, peer, Departure::Expired)]);
    assert_eq!(net.d(d).machine.counters().expired_leases, 1);
    net.run_until(joined_at + EXPIRY + TICK);
    assert!(!net.stands(peer));
    assert_eq!(net.d(d).machine.counters().expired_leases, 1);
}

#[test]
fn request_for_a_worker_that_is_lost_together_with_others_counts_as_not_sent() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| {
        config.retry.attempts_max = 2;
        config.retry.backoff = BackoffConfig { first: Duration::ZERO, max: Duration::ZERO };
    });
    let lost = [net.worker(&[d]), net.worker(&[d]), net.worker(&[d])];
    net.connect();
    let call = net.call_with(d, "safe", |spec| spec.deadline += 20 * EXPIRY);
    net.run(2 * LATENCY);
    // The dispatcher is suspended, and finds all of them expired in one turn.
    net.freeze_dispatcher(d);
    lost.into_iter().for_each(|w| net.freeze_worker(w));
    net.run(3 * EXPIRY);
    net.thaw_dispatcher(d);
    net.run(LATENCY);
    assert_eq!((net.d(d).machine.workers().count(), net.has_ended(call)), (0, false), "its second attempt is left");
    let w = net.worker(&[d]);
    net.run(4 * LATENCY);
    assert!(net.w(w).runs.contains(&call));
}

#[test]
fn silent_dispatcher_expires_exactly_at_its_expiry() {
    let (mut net, d, w) = Net::pair();
    net.freeze_dispatcher(d);
    let (registered_at, slot) = net.w(w).registered[0];
    net.run_until(registered_at + EXPIRY - TICK);
    assert!(net.w(w).unregistered.is_empty());
    net.run_until(registered_at + EXPIRY);
    assert_eq!(net.w(w).unregistered, [(registered_at + EXPIRY, slot)]);
    net.run_until(registered_at + EXPIRY + TICK);
    assert_eq!(net.w(w).machine.counters().expired_leases, 1);
}

#[test]
fn announced_payload_excuses_a_worker_exactly_as_long_as_it_may_take() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppet = net.puppet_with(d, |ready| ready.interval = INTERVAL);
    net.send_as(puppet, Message::Patience(10 * EXPIRY));
    net.run(2 * LATENCY);
    let excused_at = net.now - LATENCY;
    net.run_until(excused_at + 10 * EXPIRY - TICK - LATENCY);
    assert!(net.d(d).left.is_empty());
    net.run(2 * LATENCY + 2 * TICK);
    assert_eq!(net.d(d).machine.counters().expired_leases, 1);
}

/// Each message that excuses a silence would cost its receiver twenty thousand looks.
#[test]
fn excused_peer_with_a_short_interval_is_not_looked_after_more_often_than_others() {
    let now = start();
    let mut dispatcher = Dispatcher::new(DispatcherConfig::default());
    let ready = Ready { interval: Duration::from_millis(1), ..introduction() };
    dispatcher.handle_message(now, Peer(1), Message::Ready(ready));
    dispatcher.handle_message(now, Peer(1), Message::Patience(Duration::from_secs(60)));
    let mut looks = 0;
    while let Some(at) = dispatcher.poll_timeout().filter(|at| *at < now + Duration::from_secs(30)) {
        dispatcher.handle_timeout(at);
        while dispatcher.poll_transmit().is_some() {}
        looks += 1;
    }
    assert_eq!(dispatcher.workers().count(), 1);
    // A heartbeat each second, and a look.
    assert!(looks <= 61, "{looks} in 30 s");
}

/// While silence is excused, the lease is checked at this side's own pace.
#[test]
fn peer_that_falls_silent_after_a_large_message_expires_exactly_at_its_expiry() {
    for (own, peers) in [(1_000, 1_000), (1_000, 100), (10_000, 1_000), (60_000, 1_000)] {
        let (began_at, interval) = (start(), ms(peers));
        let heartbeats = Heartbeats { interval: ms(own), ..Heartbeats::default() };
        let mut dispatcher = Dispatcher::new(DispatcherConfig { heartbeats, ..DispatcherConfig::default() });
        dispatcher.handle_message(began_at, Peer(1), Message::Ready(Ready { interval, ..introduction() }));
        dispatcher.handle_message(began_at, Peer(1), Message::Patience(Duration::from_secs(64)));
        let handle_next = |dispatcher: &mut Dispatcher, until| {
            let at = dispatcher.poll_timeout().filter(|at| *at <= until)?;
            dispatcher.handle_timeout(at);
            while dispatcher.poll_transmit().is_some() || dispatcher.poll_output().is_some() {}
            Some(at)
        };
        // Silent for longer than the expiry.
        let arrives_at = began_at + interval * 7 / 2;
        while handle_next(&mut dispatcher, arrives_at).is_some() {}
        dispatcher.handle_message(arrives_at, Peer(1), partial_reply(CallId(1), 0, "large"));
        let mut expired_at = None;
        while dispatcher.workers().count() > 0 {
            expired_at = handle_next(&mut dispatcher, arrives_at + Duration::from_secs(3600));
        }
        assert_eq!(expired_at, Some(arrives_at + heartbeats.expiry(interval)), "{own} ms here, {peers} ms there");
    }
}

/// Peers' timers come first, but only those that were due before.
#[test]
fn call_ends_on_time_however_many_leases_are_due_after_it() {
    const PEERS: u64 = 1_000;
    let now = start();
    let mut dispatcher = Dispatcher::new(DispatcherConfig::default());
    dispatcher.handle_message(now, Peer(0), Message::Ready(introduction()));
    dispatcher.call(now, CallId(1), CallSpec { deadline: now + EXPIRY / 2, ..spec(now, "hold") });
    let later = now + EXPIRY / 2;
    for peer in 1..=PEERS {
        let incarnation = Uuid::from_u64_pair(3, peer);
        let ready = Ready { interval: INTERVAL_MIN, incarnation, ..introduction() };
        dispatcher.handle_message(later, Peer(peer), Message::Ready(ready));
    }
    while dispatcher.poll_transmit().is_some() || dispatcher.poll_output().is_some() {}
    // The thread was held up: by now, all of them are due.
    let late = now + 2 * EXPIRY;
    dispatcher.handle_message(late, Peer(0), Message::Heartbeat);
    dispatcher.handle_timeout(late);
    let is_end = |output: &Output| matches!(output, Output::Ended(CallId(1), ..));
    let outputs: Vec<_> = std::iter::from_fn(|| dispatcher.poll_output()).collect();
    assert!(outputs.iter().any(is_end), "{outputs:?}");
    assert!(dispatcher.workers().count() > 900, "few of them end in one pass");
}

#[test]
fn excuse_ends_with_the_next_message_or_the_largest_payloads_time() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let [ended, endless] = [(); 2].map(|()| net.puppet_with(d, |ready| ready.interval = INTERVAL));
    net.send_as(ended, Message::Patience(10 * EXPIRY));
    net.send_as(ended, Message::Heartbeat);
    net.send_as(endless, Message::Patience(Duration::MAX));
    net.run(EXPIRY + INTERVAL);
    assert_eq!(net.d(d).machine.counters().expired_leases, 1);
    // 64 MiB at 1 MiB a second.
    net.run(Duration::from_secs(65));
    assert_eq!(net.d(d).machine.counters().expired_leases, 2);
}

#[test]
fn large_payloads_are_announced_both_ways_and_small_ones_are_not() {
    let (mut net, d, w) = Net::pair();
    let large = "x".repeat(2 << 20);
    let small = net.call(d, "hold");
    net.run(ms(5));
    net.reply(w, small, "done");
    let call = net.call_with(d, "hold", |spec| spec.payload = value(&large));
    net.run(ms(5));
    net.reply(w, call, &large);
    net.run(ms(5));
    assert!(net.has_ended(call));
    let announced = |sent: Vec<Message>| {
        let place = sent.iter().position(|message| *message == Message::Patience(Duration::from_secs(2)));
        let count = sent.iter().filter(|message| matches!(message, Message::Patience(_))).count();
        place.is_some_and(|place| count == 1 && sent[place + 1].payload_bytes() == large.len())
    };
    assert!(announced(net.sent_to(w).map(|sent| sent.message.clone()).collect()));
    assert!(announced(net.sent_by(w).map(|sent| sent.message.clone()).collect()));
}

#[test]
fn any_message_of_a_worker_renews_its_lease() {
    let call = CallId(1);
    let event = Event { topic: "weather".into(), sequence: 0, payload: value("rain") };
    let messages = [
        Message::Heartbeat,
        Message::Credit(8),
        Message::Drain,
        Message::Event(event),
        partial_reply(call, 0, "stray"),
        final_reply(call, "stray"),
        error_reply(call, ErrorCode::Panicked, true),
    ];
    let mut frames: Vec<_> = messages.iter().map(encode).collect();
    let mut malformed = encode(&Message::Credit(1));
    malformed.header.truncate(33);
    frames.push(malformed);
    for frames in frames {
        let (mut net, d, w) = Net::pair();
        net.freeze_worker(w);
        net.run(ms(1500));
        net.send_frames_as(net.peer(d, w), frames);
        let heard_at = net.now + LATENCY;
        net.run_until(heard_at + EXPIRY - TICK);
        assert!(net.d(d).left.is_empty());
        net.run_until(heard_at + EXPIRY);
        assert_eq!(net.d(d).left.len(), 1);
    }
}

#[test]
fn any_message_of_a_dispatcher_renews_its_lease() {
    let mut malformed = encode(&Message::Cancel(CallId(1)));
    malformed.header.truncate(20);
    for frames in [encode(&Message::Heartbeat), encode(&Message::Cancel(CallId(1))), malformed] {
        let (mut net, d, w) = Net::pair();
        net.freeze_dispatcher(d);
        net.run(ms(1500));
        net.send_frames_to(d, w, frames);
        let heard_at = net.now + LATENCY;
        net.run_until(heard_at + EXPIRY - TICK);
        assert!(net.w(w).unregistered.is_empty());
        net.run_until(heard_at + EXPIRY);
        assert_eq!(net.w(w).unregistered.len(), 1);
    }
}

#[test]
fn expiry_is_the_peers_interval_times_this_sides_liveness() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.heartbeats = Heartbeats { interval: ms(400), liveness: 5 });
    let w = net.worker_with(&[d], |config| config.heartbeats = Heartbeats { interval: ms(200), liveness: 4 });
    net.connect();
    net.run(20 * INTERVAL);
    assert!(net.d(d).left.is_empty() && net.w(w).unregistered.is_empty());

    let heard_at = net.sent_by(w).last().expect("a heartbeat").at + LATENCY;
    net.freeze_worker(w);
    net.run_until(heard_at + ms(5 * 200) - TICK);
    assert!(net.d(d).left.is_empty());
    net.run_until(heard_at + ms(5 * 200));
    assert_eq!(net.d(d).left.len(), 1);

    net.thaw_worker(w);
    net.run(INTERVAL);
    net.freeze_dispatcher(d);
    let heard_at = net.sent_to(w).last().expect("a heartbeat").at + LATENCY;
    let lost = net.w(w).unregistered.len();
    net.run_until(heard_at + ms(4 * 400) - TICK);
    assert_eq!(net.w(w).unregistered.len(), lost);
    net.run_until(heard_at + ms(4 * 400));
    assert_eq!(net.w(w).unregistered.len(), lost + 1);
}

#[test]
fn frozen_or_cut_off_peer_is_noticed_within_interval_times_liveness_plus_one() {
    for phase in 0..20 {
        for is_cut in [false, true] {
            let (mut net, d, w) = Net::pair();
            net.run(ms(50 * phase));
            match is_cut {
                true => net.cut(d, w),
                false => net.freeze_worker(w),
            }
            let call = net.call_with(d, "hold", |spec| spec.deadline += 60 * INTERVAL);
            let lost_at = net.now;
            net.run(4 * INTERVAL);
            let (noticed_at, end) = net.ending(call).expect("the loss is noticed");
            assert!(*noticed_at <= lost_at + 4 * INTERVAL, "phase {phase}");
            assert!(matches!(end, Err(CallFailure::WorkerLost { maybe_executed: true, attempts: 1 })), "{end:?}");
            assert_eq!(net.w(w).unregistered.len(), usize::from(is_cut), "the worker notices the cut as well");
        }
    }
}

#[test]
fn killed_peer_is_noticed_at_once_by_its_connection() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    let killed_at = net.now;
    net.kill_worker(w);
    net.run(LATENCY);
    assert!(matches!(net.failure(call), CallFailure::WorkerLost { maybe_executed: true, .. }));
    assert_eq!(
        net.d(d).left.iter().map(|left| (left.0, left.2)).collect::<Vec<_>>(),
        [(killed_at + LATENCY, Departure::Disconnected)]
    );
    assert_eq!(net.d(d).workers(), 0, "nobody counts as connected");

    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.kill_dispatcher(d);
    net.run(LATENCY);
    assert_eq!(net.w(w).unregistered.len(), 1);
    assert_eq!(net.w(w).aborted, [call], "its work is stopped");
}

#[test]
fn slow_worker_is_not_dead() {
    let (mut net, d, w) = Net::pair();
    let call = net.call_with(d, "stubborn", |spec| spec.deadline += 60 * INTERVAL);
    net.run(10 * EXPIRY);
    assert!(net.d(d).left.is_empty() && net.w(w).unregistered.is_empty());
    net.reply(w, call, "at last");
    net.run(ms(5));
    assert_eq!(net.value(call), "at last");
}

#[test]
fn thawed_dispatcher_reads_arrived_messages_before_it_expires_anyone() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.heartbeats.liveness = 10);
    net.connect();
    net.freeze_dispatcher(d);
    net.run(8 * INTERVAL);
    net.thaw_dispatcher(d);
    net.run(8 * INTERVAL);
    assert!(net.d(d).left.is_empty() && net.w(w).unregistered.is_empty());
}

#[test]
fn cut_off_worker_is_served_again_once_the_network_heals() {
    let (mut net, d, w) = Net::pair();
    net.cut(d, w);
    net.run(30 * INTERVAL);
    assert_eq!(net.d(d).workers(), 0);
    net.heal(d, w);
    net.run(4 * INTERVAL);
    let call = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!(net.value(call), "pong");
    assert_eq!(net.w(w).machine.registered().count(), 1);
}
