//! Heartbeats (`PROTOCOL.md` §6): sent when nothing else was, never for an absent peer, never after a goodbye.

use std::time::Instant;

use super::{
    network::Net,
    pair::{EXPIRY, INTERVAL, LATENCY, Sent, introduction, ms, start},
};
use crate::proto::{
    dispatch::{Departure, Dispatcher, DispatcherConfig, Output},
    liveness::Heartbeats,
    message::{Message, Peer},
};

#[test]
fn heartbeats_alone_keep_both_sides_connected() {
    let (mut net, d, w) = Net::pair();
    net.run(60 * INTERVAL);
    assert!(net.d(d).left.is_empty() && net.w(w).unregistered.is_empty());
    assert_eq!(heartbeats(net.sent_by(w)).len(), 60);
    assert_eq!(heartbeats(net.sent_to(w)).len(), 60);
}

#[test]
fn heartbeat_goes_out_exactly_an_interval_after_the_last_message() {
    let (mut net, d, w) = Net::pair();
    net.run(ms(700));
    let call = net.call(d, "ping");
    net.run(10 * INTERVAL);
    assert!(net.has_ended(call));
    for sent in [net.sent_to(w).collect::<Vec<_>>(), net.sent_by(w).collect()] {
        let pairs = sent.windows(2).filter(|pair| pair[1].message == Message::Heartbeat);
        let pauses: Vec<_> = pairs.map(|pair| pair[1].at - pair[0].at).collect();
        assert!(pauses.len() >= 8 && pauses.iter().all(|pause| *pause == INTERVAL), "{pauses:?}");
    }
}

#[test]
fn heartbeats_go_out_while_other_timers_are_put_off() {
    let mut dispatcher = Dispatcher::new(DispatcherConfig::default());
    dispatcher.handle_message(start(), Peer(1), Message::Ready(introduction()));
    while dispatcher.poll_output().is_some() || dispatcher.poll_transmit().is_some() {}
    let late = start() + 1_000 * INTERVAL;
    dispatcher.handle_heartbeats(late);
    let sent = dispatcher.poll_transmit().map(|transmit| transmit.messages);
    assert_eq!((dispatcher.poll_output(), sent), (None, Some(vec![Message::Heartbeat])));
    dispatcher.handle_timeout(late);
    let outputs: Vec<_> = std::iter::from_fn(|| dispatcher.poll_output()).collect();
    assert!(outputs.contains(&Output::WorkerLeft(Peer(1), Departure::Expired)), "{outputs:?}");
}

#[test]
fn busy_peers_send_no_heartbeats() {
    let (mut net, d, w) = Net::pair();
    for _ in 0..50 {
        net.call(d, "ping");
        net.run(ms(300));
    }
    assert!(heartbeats(net.sent_by(w)).is_empty() && heartbeats(net.sent_to(w)).is_empty());
    assert!(net.d(d).left.is_empty());
}

#[test]
fn heartbeats_do_not_wait_for_procedures_nor_stop_while_draining() {
    let (mut net, d, w) = Net::pair();
    let call = net.call_with(d, "stubborn", |spec| spec.deadline += 60 * INTERVAL);
    net.run(10 * INTERVAL);
    assert_eq!(signs(net.sent_by(w)).len(), 10);
    net.drain(w);
    net.run(10 * INTERVAL);
    assert_eq!(signs(net.sent_by(w)).len(), 20);
    net.reply(w, call, "done");
    net.run(ms(5));
    assert_eq!(net.value(call), "done");
}

#[test]
fn nothing_piles_up_for_an_absent_peer() {
    let (mut net, d, w) = Net::pair();
    net.kill_dispatcher(d);
    net.run(ms(5));
    let sent = net.sent_by(w).count();
    net.run(60 * INTERVAL);
    assert_eq!(net.sent_by(w).count(), sent, "nobody listens");
    net.restart_dispatcher(d);
    net.run(3 * INTERVAL);
    let burst: Vec<_> = net.sent_by(w).skip(sent).collect();
    assert!(matches!(burst[0].message, Message::Ready(_)));
    assert!(heartbeats(burst.into_iter()).len() <= 3);
}

#[test]
fn frozen_peer_gets_heartbeats_only_until_it_expires() {
    let (mut net, d, w) = Net::pair();
    let sent = net.sent_to(w).count();
    net.freeze_worker(w);
    net.run(60 * INTERVAL);
    assert!(net.sent_to(w).count() - sent <= (EXPIRY.as_secs() / INTERVAL.as_secs()) as usize);
    let sent = net.sent_by(w).count();
    net.thaw_worker(w);
    net.run(3 * INTERVAL);
    assert!(net.sent_by(w).count() - sent <= 5, "no burst");
    assert_eq!(net.d(d).workers(), 1);
}

#[test]
fn dispatcher_says_nothing_after_its_goodbye() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.heartbeats = Heartbeats { interval: ms(50), liveness: 3 });
    let w = net.worker(&[d]);
    net.connect();
    net.freeze_worker(w);
    net.close(d);
    net.run(INTERVAL);
    assert!(matches!(net.sent_to(w).last().map(|sent| &sent.message), Some(Message::Goodbye)));
}

#[test]
fn worker_says_nothing_after_its_goodbye() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.heartbeats = Heartbeats { interval: ms(50), liveness: 3 });
    net.connect();
    net.freeze_dispatcher(d);
    net.drain(w);
    net.run(INTERVAL);
    assert!(matches!(net.sent_by(w).last().map(|sent| &sent.message), Some(Message::Goodbye)));
    assert!(net.sent_by(w).last().is_some_and(|sent| sent.at + 500 * LATENCY < net.now));
}

fn heartbeats<'a>(sent: impl Iterator<Item = &'a Sent>) -> Vec<Instant> {
    sent.filter(|sent| sent.message == Message::Heartbeat).map(|sent| sent.at).collect()
}

/// When heartbeats left, and acknowledgements in their place.
fn signs<'a>(sent: impl Iterator<Item = &'a Sent>) -> Vec<Instant> {
    sent.filter(|sent| matches!(sent.message, Message::Heartbeat | Message::Ack(_))).map(|sent| sent.at).collect()
}
