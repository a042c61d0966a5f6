//! Limits of one connection in every role (`PROTOCOL.md` §5, §9, §11): messages out of turn, and beyond what was
//! granted.

use std::time::{Duration, Instant};

use super::{
    bench::{Bench, request},
    pair::{introduction, value},
};
use crate::proto::{
    broker::{Broker, BrokerConfig, BrokerOutput, Door},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    message::{Capabilities, Message, Peer, Ready, Request, Role},
    outbox::{BATCHED_PAYLOAD_BYTES_MAX, Transmit},
};

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
        bench.say(honest, large(call));
        bench.say(greedy, large(call));
    }
    for call in 10..20 {
        bench.say(honest, small(call));
        bench.say(greedy, small(call));
    }
    assert!(!bench.is_gone(honest) && !bench.is_gone(greedy), "one payload more than the window, and small ones");
    bench.say(greedy, large(4));
    assert!(bench.is_gone(greedy) && !bench.is_gone(honest));
    assert_eq!(bench.broker.counters().malformed_messages, 1);
    assert_eq!(bench.broker.open_calls(), 13, "those of the other client");
}

fn introduction_of(role: Role) -> Ready {
    Ready { role, ..introduction() }
}

const _: () = assert!(BATCHED_PAYLOAD_BYTES_MAX < 9_000);
