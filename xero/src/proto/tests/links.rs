//! Limits of one connection in every role (`PROTOCOL.md` §5, §9, §11): messages out of turn, and beyond what was
//! granted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tracing::span;

use super::{
    bench::{Bench, request},
    node::offer,
    pair::{introduction, value},
};
use crate::proto::{
    announcements::Announcements,
    broker::{Broker, BrokerConfig, BrokerOutput, Door},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    frame::Limits,
    message::{CallId, Capabilities, ErrorCode, ErrorReply, Message, Peer, Ready, Request, Role},
    outbox::{BATCHED_PAYLOAD_BYTES_MAX, Transmit},
};

#[test]
fn peers_cannot_flood_the_log() {
    let lines = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::with_default(Counting(Arc::clone(&lines)), || {
        let (mut broker, now) = (Broker::new(BrokerConfig::default()), Instant::now());
        for peer in (0..1_000).map(Peer) {
            for (door, role) in [(Door::Front, Role::Client), (Door::Back, Role::Worker)] {
                for message in [Message::Ready(introduction_of(role)), Message::Drain, Message::Goodbye] {
                    broker.handle_message(now, door, peer, message);
                }
            }
        }
        assert!((20..50).contains(&lines.swap(0, Relaxed)), "of 6,000");
        let mut client = Dispatcher::dialing(now, DispatcherConfig::default(), 1);
        client.handle_dialed(now, Peer(0));
        client.handle_message(now, Peer(0), Message::Ready(introduction_of(Role::Dispatcher)));
        for number in 0..1_000 {
            let error = ErrorReply::not_started(CallId(0), ErrorCode::Malformed, number.to_string());
            client.handle_message(now, Peer(0), Message::Error(error));
        }
        assert!((20..30).contains(&lines.swap(0, Relaxed)), "of 1,001");
        let error = ErrorReply::not_started(CallId(0), ErrorCode::Malformed, "later".into());
        client.handle_message(now + Duration::from_secs(1), Peer(0), Message::Error(error));
        assert_eq!(lines.load(Relaxed), 2, "the number of left-out lines, and the new one");
    });
}

#[test]
fn dropped_peer_cannot_register_in_the_same_turn() {
    let openings: [&[Message]; 3] = [
        &[Message::Heartbeat],
        &[Message::Ready(introduction_of(Role::Dispatcher))],
        &[
            Message::Ready(introduction_of(Role::Client)),
            Message::Ready(introduction_of(Role::Worker)),
            Message::Goodbye,
        ],
    ];
    for (door, role) in [(Door::Front, Role::Client), (Door::Back, Role::Worker)] {
        for opening in openings {
            let (mut broker, now, peer) = (Broker::new(BrokerConfig::default()), Instant::now(), Peer(7));
            opening.iter().for_each(|message| broker.handle_message(now, door, peer, message.clone()));
            broker.handle_message(now, door, peer, Message::Ready(introduction_of(role)));
            broker.handle_message(now, door, peer, Message::Ready(introduction_of(role)));
            let ends = std::iter::from_fn(|| broker.poll_output())
                .filter(|output| *output == BrokerOutput::Disconnect(door, peer))
                .count();
            assert_eq!((ends, broker.clients().count(), broker.workers().count()), (1, 0, 0), "{door:?} {opening:?}");
            while broker.poll_transmit().is_some() {}
            assert!(broker.is_empty(), "{door:?} {opening:?}");
        }
    }
}

#[test]
fn connection_without_an_introduction_is_dropped_in_time() {
    let (mut broker, start) = (Broker::new(BrokerConfig::default()), Instant::now());
    let (silent, slow, gone) = (Peer(1), Peer(2), Peer(3));
    [silent, slow, gone].into_iter().for_each(|peer| broker.handle_accepted(start, Door::Front, peer));
    broker.handle_disconnected(start, Door::Front, gone);
    let just_before = start + Duration::from_secs(30) - Duration::from_millis(1);
    broker.handle_timeout(just_before);
    broker.handle_message(just_before, Door::Front, slow, Message::Ready(introduction_of(Role::Client)));
    assert_eq!(std::iter::from_fn(|| broker.poll_output()).collect::<Vec<_>>(), [BrokerOutput::ClientJoined(slow)]);
    while broker.poll_transmit().is_some() {}
    assert_eq!(broker.poll_timeout().map(|at| at - start), Some(Duration::from_secs(30)), "ten expiries");
    broker.handle_timeout(start + Duration::from_secs(30));
    let outputs = std::iter::from_fn(|| broker.poll_output()).collect::<Vec<_>>();
    assert_eq!(outputs, [BrokerOutput::Disconnect(Door::Front, silent)]);
    assert_eq!(broker.counters().unregistered_messages, 1);
}

#[test]
fn long_introduction_reaches_many_clients_over_several_turns_whatever_else_they_are_sent() {
    const CLIENTS: u64 = 20;
    for is_busy in [false, true] {
        let mut config = BrokerConfig::default();
        config.dispatcher.limits =
            Limits { services_max: 1_000, methods_max: 100_000, header_bytes_max: 16 << 20, ..Limits::default() };
        let (mut broker, mut now) = (Broker::new(config), Instant::now());
        for client in 0..CLIENTS {
            broker.handle_message(now, Door::Front, Peer(client), Message::Ready(introduction_of(Role::Client)));
        }
        while broker.poll_transmit().is_some() {}
        if is_busy {
            // Heartbeats to all clients are due.
            now += Duration::from_secs(1);
        }
        // Half a mebibyte and more.
        let methods: Vec<_> = (0..100).map(|number| format!("method-{number:030}")).collect();
        let methods: Vec<_> = methods.iter().map(String::as_str).collect();
        let services = (0..120).map(|number| offer(&format!("Service{number}"), &methods)).collect();
        let ready = Ready { services, ..introduction_of(Role::Worker) };
        broker.handle_message(now, Door::Back, Peer(0), Message::Ready(ready));
        let (mut turns, mut heartbeats) = (Vec::new(), 0);
        loop {
            if is_busy {
                broker.handle_timeout(now);
            }
            let (mut readies, mut other) = (0, 0);
            while let Some((door, transmit)) = broker.poll_transmit() {
                let is_ready = |message: &&Message| matches!(message, Message::Ready(_));
                let count = transmit.messages.iter().filter(is_ready).count();
                if door == Door::Front {
                    (readies, other) = (readies + count, other + transmit.messages.len() - count);
                }
            }
            heartbeats += other;
            if readies == 0 {
                break;
            }
            turns.push(readies);
            let is_left = turns.iter().sum::<usize>() < CLIENTS as usize;
            let next = broker.poll_timeout().filter(|at| *at <= now);
            assert_eq!(next.is_some(), is_left, "the next turn follows at once: {turns:?}");
            if !is_busy {
                broker.handle_timeout(now);
            }
            // Such a turn does not make the thread seem late.
            assert!(!is_busy || next.is_none_or(|at| at == now), "due for {:?}", next.map(|at| now - at));
            now += Duration::from_millis(1);
        }
        assert_eq!(turns, [2; CLIENTS as usize / 2], "READY of each turn");
        assert_eq!(heartbeats, if is_busy { CLIENTS as usize } else { 0 });
    }
}

#[test]
fn newcomers_are_answered_before_others_hear_of_changes() {
    let mut announcements = Announcements::default();
    let now = Instant::now();
    announcements.add(now, Peer(5), false);
    announcements.add(now, Peer(1), false);
    announcements.add(now, Peer(9), true);
    announcements.add(now, Peer(5), false);
    let order: Vec<_> = std::iter::from_fn(|| {
        let next = announcements.next()?;
        announcements.remove(next).then_some(next)
    })
    .collect();
    assert_eq!(order, [Peer(9), Peer(5), Peer(1)]);
    assert!(announcements.is_empty() && announcements.due_at().is_none());
}

#[test]
fn worker_may_renew_its_offer_within_the_memory_of_its_former_one() {
    let mut bench = Bench::with(|config| config.dispatcher.offers_bytes_max = 20_000);
    let names = |tag: char| (0..10).map(|number| format!("{tag}{number}")).collect::<Vec<_>>();
    let offer_of = |tag: char| {
        let names = names(tag);
        vec![offer("Demo", &names.iter().map(String::as_str).collect::<Vec<_>>())]
    };
    let worker = bench.worker_with(|ready| ready.services = offer_of('a'));
    bench.send_as(worker, Message::Ready(Ready { services: offer_of('b'), ..introduction() }));
    assert!(!bench.is_gone(worker));
    let other = bench.worker_with(|ready| ready.services = offer_of('c'));
    assert!(bench.is_gone(other) && !bench.is_gone(worker), "there is room for one");
}

#[test]
fn closed_machine_keeps_no_stranger() {
    let (mut broker, now) = (Broker::new(BrokerConfig::default()), Instant::now());
    [Door::Front, Door::Back].into_iter().for_each(|door| broker.handle_accepted(now, door, Peer(1)));
    broker.close(now);
    broker.handle_accepted(now, Door::Front, Peer(2));
    let outputs: Vec<_> = std::iter::from_fn(|| broker.poll_output()).collect();
    for (door, peer) in [(Door::Front, Peer(1)), (Door::Back, Peer(1)), (Door::Front, Peer(2))] {
        assert!(outputs.contains(&BrokerOutput::Disconnect(door, peer)), "{door:?} {peer:?}: {outputs:?}");
    }
    assert!(outputs.contains(&BrokerOutput::Closed) && broker.is_empty(), "{outputs:?}");
}

#[test]
fn worker_whose_offer_has_no_memory_is_refused_and_others_are_not() {
    let mut bench = Bench::with(|config| config.dispatcher.offers_bytes_max = 1 << 20);
    let client = bench.client();
    let methods: Vec<_> = (0..400).map(|number| format!("method-{number}")).collect();
    let methods: Vec<_> = methods.iter().map(String::as_str).collect();
    let own = |name: &str| vec![offer(name, &methods)];
    let [first, second] = ["First", "Second"].map(|name| bench.worker_with(|ready| ready.services = own(name)));
    let third = bench.worker_with(|ready| ready.services = own("Third"));
    let sent = bench.take(third);
    let [Message::Error(error)] = &sent[..] else { panic!("{sent:?}") };
    assert!(error.detail.contains("raise `offers_bytes_max`"), "{}", error.detail);
    assert!(bench.is_gone(third) && !bench.is_gone(first));
    // An equal offer takes no more memory, and a worker that leaves makes room.
    let same = bench.worker_with(|ready| ready.services = own("First"));
    assert!(!bench.is_gone(same));
    bench.drop_wire(second);
    let again = bench.worker_with(|ready| ready.services = own("Third"));
    assert!(!bench.is_gone(again));
    bench.request_with(client, 1, "method-0", |request| request.service = "Third".into());
    assert_eq!(bench.requests(again).len(), 1);
}

#[test]
fn dropped_peer_may_return_over_another_connection() {
    let (mut dispatcher, now) = (Dispatcher::new(DispatcherConfig::default()), Instant::now());
    dispatcher.handle_message(now, Peer(1), Message::Heartbeat);
    dispatcher.handle_message(now, Peer(2), Message::Ready(introduction()));
    let joined = std::iter::from_fn(|| dispatcher.poll_output()).filter(|it| matches!(it, Output::WorkerJoined(_)));
    assert_eq!(joined.collect::<Vec<_>>(), [Output::WorkerJoined(Peer(2))]);
}

#[test]
fn later_introduction_without_batches_revokes_them() {
    let (mut dispatcher, now) = (Dispatcher::new(DispatcherConfig::default()), Instant::now());
    let mut largest_batch = |now, capabilities| {
        dispatcher.handle_message(now, Peer(1), Message::Ready(Ready { capabilities, ..introduction() }));
        // A heartbeat travels with the answer.
        dispatcher.handle_timeout(now + Duration::from_secs(2));
        std::iter::from_fn(|| dispatcher.poll_transmit()).map(|Transmit { messages, .. }| messages.len()).max()
    };
    assert_eq!(largest_batch(now, Capabilities::BATCH), Some(2));
    assert_eq!(largest_batch(now + Duration::from_secs(2), Capabilities::default()), Some(1));
}

#[test]
fn client_that_exceeds_its_window_is_dropped() {
    const WINDOW: u64 = 10_000;
    let mut bench = Bench::with(|config| config.dispatcher.window_bytes = WINDOW);
    let (honest, greedy) = (bench.client(), bench.client());
    let worker = bench.worker_with(|ready| ready.credits = 1);
    bench.request(honest, 1, "hold");
    assert_eq!(bench.requests(worker).len(), 1, "what follows waits");
    let large = |call| Message::Request(Request { payload: value(&"x".repeat(9_000)), ..request(call, "hold") });
    let small = |call| Message::Request(request(call, "hold"));
    for call in [2, 3] {
        bench.send_as(honest, large(call));
        bench.send_as(greedy, large(call));
    }
    for call in 10..20 {
        bench.send_as(honest, small(call));
        bench.send_as(greedy, small(call));
    }
    assert!(!bench.is_gone(honest) && !bench.is_gone(greedy), "one payload more than the window, and small ones");
    bench.send_as(greedy, large(4));
    assert!(bench.is_gone(greedy) && !bench.is_gone(honest));
    assert_eq!(bench.broker.counters().malformed_messages, 1);
    assert_eq!(bench.broker.open_calls(), 13, "those of the other client");
}

fn introduction_of(role: Role) -> Ready {
    Ready { role, ..introduction() }
}

const _: () = assert!(BATCHED_PAYLOAD_BYTES_MAX < 9_000);

#[test]
fn drain_that_is_repeated_is_reported_once() {
    let mut bench = Bench::new();
    let worker = bench.worker();
    bench.outputs.clear();
    (0..1_000).for_each(|_| bench.send_as(worker, Message::Drain));
    assert_eq!(bench.outputs.len(), 1);
}

#[test]
fn clients_that_expire_together_do_not_hold_up_one_pass() {
    let mut bench = Bench::new();
    bench.worker();
    let clients: Vec<_> =
        (0..500).map(|_| bench.client_with(|ready| ready.interval = Duration::from_secs(1))).collect();
    for client in &clients {
        (1..=4).for_each(|call| bench.request(*client, call, "hold"));
    }
    bench.broker.handle_timeout(bench.now + Duration::from_secs(3));
    let left = std::iter::from_fn(|| bench.broker.poll_output()).count();
    assert!((1..=2 * 64).contains(&left), "{left} ends of 500 connections in one pass");
    bench.run(Duration::from_secs(3));
    assert_eq!(bench.broker.clients().count(), 0);
}

/// Counts the lines that users read.
#[derive(Debug)]
struct Counting(Arc<AtomicUsize>);

impl tracing::Subscriber for Counting {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Relaxed);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
