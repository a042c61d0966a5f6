//! A client's dispatcher that dials brokers, played by hand: introductions, redials, leaving.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    node::offer,
    pair::{CALL_TIMEOUT, EXPIRY, INTERVAL, TICK, error_reply, final_reply, introduction, start, value},
};
use crate::proto::{
    calls::{CallEnd, CallFailure, CallSpec, WaitPolicy},
    dispatch::{Departure, Dispatcher, DispatcherConfig, Output},
    frame::{self, Frames, Limits},
    message::{CallId, ErrorCode, Message, Metadata, OfferChange, Peer, Ready, Role, ServiceOffer},
    retry::{Backoff, BackoffConfig},
};

#[test]
fn every_broker_is_dialed_at_once_and_gets_an_introduction_first() {
    let mut client = Client::new(2);
    client.call(1);
    assert_eq!(client.dialed(), []);
    client.run(Duration::ZERO);
    assert_eq!(client.dialed(), [A, B]);
    client.connect(A);
    let [Message::Ready(ready)] = &client.sent(A)[..] else { panic!("not an introduction alone") };
    assert_eq!((ready.role, ready.credits, ready.services.len()), (Role::Client, 0, 0));
    assert_eq!(ready.window_bytes, DispatcherConfig::default().window_bytes);
    client.run(EXPIRY - TICK);
    assert_eq!((client.sent(A), client.sent(B)), (vec![], vec![]), "no heartbeat before the answer");
    client.send_as(A, Message::Ready(broker()));
    let [Message::Request(request)] = &client.sent(A)[..] else { panic!("the call that has waited") };
    assert_eq!(request.call, CallId(1));
    client.send_as(A, final_reply(CallId(1), "done"));
    assert_eq!(client.end(1), Ok(value("done")));
}

#[test]
fn broker_that_does_not_answer_its_introduction_within_the_expiry_is_dialed_again() {
    let mut client = Client::new(1);
    client.run(Duration::ZERO);
    client.connect(A);
    client.run(EXPIRY - TICK);
    assert!(client.stands(A));
    client.run(TICK);
    assert!(!client.stands(A));
    client.take_dials();
    client.run(BackoffConfig::default().first);
    assert_eq!(client.dialed(), [A]);
}

#[test]
fn broker_that_sends_anything_but_its_introduction_is_dialed_again() {
    let worker = Ready { role: Role::Worker, ..broker() };
    for answer in [
        Message::Heartbeat,
        Message::Goodbye,
        Message::Drain,
        Message::Offer(OfferChange::default()),
        Message::Patience(INTERVAL),
        Message::Ready(worker),
        final_reply(CallId(1), "early"),
        error_reply(CallId(0), ErrorCode::Malformed, false),
    ] {
        let mut client = Client::new(1);
        client.call(1);
        client.run(Duration::ZERO);
        client.connect(A);
        client.sent(A);
        client.send_as(A, answer.clone());
        assert!(!client.stands(A), "{answer:?}");
        assert_eq!((client.sent(A), client.ends.len()), (vec![], 0), "{answer:?}");
        client.take_dials();
        client.run(BackoffConfig::default().first);
        assert_eq!(client.dialed(), [A], "{answer:?}");
    }
}

#[test]
fn broker_with_an_unreadable_introduction_gets_no_answer_and_is_dialed_again() {
    let mut client = Client::new(1);
    client.run(Duration::ZERO);
    client.connect(A);
    client.sent(A);
    let mut frames = frame::encode(&Message::Ready(broker()));
    frames.header.truncate(40);
    client.send_frames_as(A, frames);
    assert!(!client.stands(A));
    assert_eq!(client.sent(A), []);
    client.take_dials();
    client.run(BackoffConfig::default().first);
    assert_eq!(client.dialed(), [A]);
    assert_eq!(client.machine.counters().malformed_messages, 1);
}

#[test]
fn dials_back_off_with_jitter_and_start_over_after_a_connection_that_has_lasted() {
    let (seed, backoff) = (11, BackoffConfig::default());
    let mut client = Client::with(1, |config| config.seed = seed);
    let mut expected = Backoff::new(backoff, seed);
    client.run(Duration::ZERO);
    for _ in 0..6 {
        assert_eq!(client.take_dials(), [A]);
        client.machine.handle_disconnected(client.now, A);
        client.settle();
        client.expect_dial_after(expected.next());
    }
    client.connect(A);
    client.send_as(A, Message::Ready(broker()));
    client.take_dials();
    // It answers, and ends at once.
    client.lose(A);
    client.expect_dial_after(expected.next());
    client.connect(A);
    client.send_as(A, Message::Ready(broker()));
    client.keep_alive(EXPIRY);
    expected.reset();
    client.take_dials();
    client.lose(A);
    let wait = expected.next();
    assert!(wait <= backoff.first);
    client.expect_dial_after(wait);
}

#[test]
fn every_way_to_lose_a_broker_loses_its_calls_and_dials_again() {
    for departure in [Departure::Goodbye, Departure::Disconnected, Departure::Expired] {
        let mut client = Client::connected(2);
        client.call(1);
        client.call_with(2, |spec| (spec.idempotent, spec.deadline) = (Some(true), spec.deadline + CALL_TIMEOUT));
        let [(first, 1), (second, 2)] = client.requests()[..] else { panic!("one call at each") };
        assert_ne!(first, second);
        match departure {
            Departure::Goodbye => client.send_as(first, Message::Goodbye),
            Departure::Disconnected => client.lose(first),
            Departure::Expired => {
                client.run(EXPIRY / 2);
                client.send_as(second, Message::Heartbeat);
                client.run(EXPIRY / 2);
            }
        }
        assert_eq!(client.left, [(first, departure)]);
        assert_eq!(client.end(1), Err(CallFailure::WorkerLost { maybe_executed: true, attempts: 1 }));
        client.lose(second);
        client.take_dials();
        client.run(BackoffConfig::default().first);
        assert!(!client.dialed().is_empty(), "{departure:?}");
        assert!(client.ends.len() == 1, "the other call waits for a broker");
    }
}

#[test]
fn renewed_introduction_of_a_broker_changes_its_offer_and_is_not_answered() {
    let mut client = Client::connected(1);
    client.send_as(A, Message::Ready(Ready { services: Vec::new(), ..broker() }));
    assert_eq!((client.sent(A), client.machine.services().count()), (vec![], 0));
    client.call(1);
    assert_eq!(client.requests(), []);
    client.send_as(A, Message::Ready(broker()));
    assert_eq!(client.requests(), [(A, 1)], "and nothing else");
    // Requests in flight stay so, and keep their credits, when their method is no longer offered.
    client.send_as(A, Message::Ready(Ready { services: Vec::new(), credits: 1, ..broker() }));
    client.call_with(2, |spec| spec.wait_policy = WaitPolicy::Never);
    assert!(matches!(client.end(2), Err(CallFailure::NoWorker { .. })));
    client.send_as(A, Message::Ready(Ready { credits: 1, ..broker() }));
    client.call(3);
    assert_eq!(client.requests(), []);
    client.send_as(A, final_reply(CallId(1), "done"));
    assert_eq!((client.end(1), client.requests()), (Ok(value("done")), vec![(A, 3)]));
}

#[test]
fn changes_of_a_brokers_offer_apply_one_after_the_other() {
    let mut client = Client::connected(1);
    let change = |changed: &[&str], withdrawn: &[&str]| {
        let changed = changed.iter().map(|name| offer(name, &["hold"])).collect();
        Message::Offer(OfferChange { changed, withdrawn: withdrawn.iter().map(|name| Arc::from(*name)).collect() })
    };
    client.send_as(A, change(&["New", "Other"], &[]));
    client.send_as(A, change(&["Last"], &["Demo", "Other"]));
    assert_eq!(client.machine.services().collect::<Vec<_>>(), ["Last", "New"]);
    client.call(1);
    assert_eq!(client.requests(), []);
    client.send_as(A, change(&["Demo"], &[]));
    assert_eq!(client.requests(), [(A, 1)]);
    // Requests in flight and credits stay as they are.
    client.send_as(A, change(&[], &["Demo"]));
    client.send_as(A, final_reply(CallId(1), "done"));
    assert_eq!(client.end(1), Ok(value("done")));
}

#[test]
fn call_that_a_changed_broker_returns_waits_for_the_change() {
    let mut client = Client::connected(1);
    client.call(1);
    client.requests();
    let methods: Vec<_> = (0..2_000).map(|number| number.to_string()).collect();
    let methods: Vec<_> = methods.iter().map(|name| &**name).collect();
    for version in 1..=100 {
        let changed = vec![ServiceOffer { version, ..offer("Large", &methods) }];
        client.send_as(A, Message::Offer(OfferChange { changed, withdrawn: vec![] }));
    }
    client.send_as(A, Message::Offer(OfferChange { changed: vec![], withdrawn: vec!["Demo".into()] }));
    assert_eq!(client.machine.services().collect::<Vec<_>>(), ["Demo", "Large"], "it waits for its turn");
    for _ in 0..5 {
        client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, false));
        assert_eq!(client.requests(), [], "a broker that is about to change gets no request");
    }
    client.keep_alive(INTERVAL);
    assert_eq!(client.machine.services().collect::<Vec<_>>(), ["Large"]);
    assert_eq!(client.requests(), []);
    let demo = vec![offer("Demo", &["hold"])];
    client.send_as(A, Message::Offer(OfferChange { changed: demo, withdrawn: vec![] }));
    client.keep_alive(INTERVAL);
    assert_eq!(client.requests(), [(A, 1)]);
}

#[test]
fn broker_whose_offer_grows_beyond_the_clients_limits_is_dialed_again() {
    let mut client = Client::with(1, |config| config.limits.services_max = 1);
    client.run(Duration::ZERO);
    client.connect(A);
    client.send_as(A, Message::Ready(broker()));
    client.take_dials();
    let changed = vec![offer("New", &["hold"])];
    client.send_as(A, Message::Offer(OfferChange { changed, withdrawn: vec![] }));
    assert!(!client.stands(A));
    client.run(BackoffConfig::default().first);
    assert_eq!(client.dialed(), [A]);
}

#[test]
fn call_that_a_broker_returns_waits_and_goes_where_its_service_is_offered() {
    let mut client = Client::connected(2);
    client.call(1);
    let [(first, 1)] = client.requests()[..] else { panic!("not sent") };
    client.send_as(first, Message::Ready(Ready { services: Vec::new(), ..broker() }));
    client.send_as(first, error_reply(CallId(1), ErrorCode::NoWorker, false));
    let other = if first == A { B } else { A };
    assert_eq!(client.requests(), [(other, 1)]);
    client.send_as(other, Message::Ready(Ready { services: Vec::new(), ..broker() }));
    client.send_as(other, error_reply(CallId(1), ErrorCode::NoWorker, false));
    client.keep_alive(CALL_TIMEOUT - TICK);
    assert!(client.ends.is_empty() && client.requests().is_empty());
    client.run(TICK);
    assert!(matches!(client.end(1), Err(CallFailure::NoWorker { .. })), "{:?}", client.end(1));
}

#[test]
fn call_that_comes_back_from_a_broker_that_still_offers_it_costs_an_attempt() {
    let mut client = Client::connected(1);
    client.call(1);
    for _ in 0..3 {
        assert_eq!(client.requests(), [(A, 1)]);
        client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, false));
        client.run(INTERVAL);
        client.send_as(A, Message::Heartbeat);
    }
    assert_eq!(client.requests(), []);
    assert!(matches!(client.end(1), Err(CallFailure::Remote(error)) if error.code == ErrorCode::NoWorker));
}

#[test]
fn returned_call_costs_no_attempt_unless_it_may_have_run() {
    let mut client = Client::connected(1);
    client.call_with(1, |spec| spec.idempotent = Some(true));
    for _ in 0..20 {
        assert_eq!(client.requests(), [(A, 1)]);
        client.send_as(A, Message::Ready(Ready { services: Vec::new(), ..broker() }));
        client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, false));
        client.send_as(A, Message::Ready(broker()));
    }
    client.requests();
    // Twenty attempts that cost nothing, and one of three that does.
    client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, true));
    assert_eq!(client.requests(), [(A, 1)]);
    client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, true));
    assert_eq!(client.requests(), [(A, 1)]);
    client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, true));
    assert!(matches!(client.end(1), Err(CallFailure::Remote(error)) if error.maybe_executed));
    client.call(2);
    client.requests();
    client.send_as(A, error_reply(CallId(2), ErrorCode::NoWorker, true));
    assert!(matches!(client.end(2), Err(CallFailure::Remote(error)) if error.maybe_executed), "not idempotent");
    client.call_with(3, |spec| spec.wait_policy = WaitPolicy::Never);
    client.send_as(A, error_reply(CallId(3), ErrorCode::NoWorker, false));
    assert!(matches!(client.end(3), Err(CallFailure::Remote(error)) if !error.maybe_executed), "it does not wait");
}

#[test]
fn draining_broker_gets_no_new_calls_and_returns_others_unharmed() {
    let mut client = Client::connected(2);
    client.call(1);
    let [(first, 1)] = client.requests()[..] else { panic!("not sent") };
    client.send_as(first, Message::Drain);
    client.send_as(first, error_reply(CallId(1), ErrorCode::Refused, false));
    let other = if first == A { B } else { A };
    client.call(2);
    client.call(3);
    assert_eq!(client.requests(), [(other, 1), (other, 2), (other, 3)]);
    client.send_as(other, Message::Drain);
    client.send_as(other, Message::Goodbye);
    assert_eq!(client.ends.len(), 0, "a goodbye after a drain: what was in flight has crossed it");
    client.take_dials();
    client.run(BackoffConfig::default().first);
    assert_eq!(client.dialed(), [other]);
}

#[test]
fn close_ends_connections_in_every_state_and_nothing_is_dialed_again() {
    let mut client = Client::new(4);
    client.run(Duration::ZERO);
    let (dialing, introducing, up, down) = (A, B, Peer(2), Peer(3));
    client.connect(introducing);
    client.connect(up);
    client.send_as(up, Message::Ready(broker()));
    client.machine.handle_disconnected(client.now, down);
    client.call(1);
    client.sent(up);
    client.sent(introducing);
    client.take_dials();
    client.machine.close(client.now);
    client.settle();
    assert_eq!(client.end(1), Err(CallFailure::Closed { maybe_executed: true }));
    assert_eq!((client.sent(up), client.sent(introducing)), (vec![Message::Goodbye], vec![]));
    assert!(!client.stands(introducing) && client.stands(up));
    client.connect(dialing);
    assert!(!client.stands(dialing) && client.sent(dialing).is_empty(), "hung up on before a word");
    client.send_as(introducing, Message::Ready(broker()));
    client.run(GRACE - TICK);
    assert_eq!((client.closed_at, client.dialed()), (None, vec![]));
    client.run(TICK);
    assert_eq!((client.closed_at, client.stands(up)), (Some(client.now), false));
}

#[test]
fn draining_client_lets_its_calls_end_and_still_dials_for_them() {
    let mut client = Client::new(1);
    client.call_with(1, |spec| spec.idempotent = Some(true));
    client.machine.drain(client.now, 4 * CALL_TIMEOUT);
    client.call(2);
    assert_eq!(client.end(2), Err(CallFailure::Closed { maybe_executed: false }));
    client.run(Duration::ZERO);
    client.connect(A);
    client.send_as(A, Message::Ready(broker()));
    client.lose(A);
    client.take_dials();
    client.run(BackoffConfig::default().first);
    client.connect(A);
    client.sent(A);
    client.send_as(A, Message::Ready(broker()));
    assert_eq!(client.requests(), [(A, 1)], "again");
    client.send_as(A, final_reply(CallId(1), "done"));
    client.run(Duration::ZERO);
    assert_eq!((client.end(1), client.sent(A)), (Ok(value("done")), vec![Message::Goodbye]));
    client.send_as(A, Message::Goodbye);
    assert_eq!(client.closed_at, Some(client.now));
}

#[test]
fn drain_of_a_client_ends_exactly_at_its_timeout() {
    let mut client = Client::connected(1);
    client.call(1);
    client.requests();
    client.machine.drain(client.now, INTERVAL / 2);
    client.machine.drain(client.now, 9 * INTERVAL);
    client.run(INTERVAL / 2 - TICK);
    assert!(client.ends.is_empty());
    client.run(TICK);
    assert_eq!(client.end(1), Err(CallFailure::Closed { maybe_executed: true }));
    assert_eq!(client.sent(A), [Message::Goodbye]);
}

#[test]
fn draining_client_leaves_at_once_without_a_call_or_after_cancelling_the_last() {
    let mut client = Client::connected(1);
    client.machine.drain(client.now, CALL_TIMEOUT);
    client.run(Duration::ZERO);
    assert_eq!(client.sent(A), [Message::Goodbye]);
    let mut client = Client::connected(1);
    client.call(1);
    client.requests();
    client.machine.drain(client.now, CALL_TIMEOUT);
    client.machine.cancel(client.now, CallId(1));
    client.run(Duration::ZERO);
    assert_eq!(client.sent(A), [Message::Cancel(CallId(1)), Message::Goodbye]);
}

#[test]
fn close_during_a_drain_ends_the_calls_now() {
    let mut client = Client::connected(1);
    client.call(1);
    client.requests();
    client.machine.drain(client.now, CALL_TIMEOUT);
    client.machine.close(client.now);
    client.machine.drain(client.now, CALL_TIMEOUT);
    client.machine.close(client.now);
    client.settle();
    assert_eq!(client.end(1), Err(CallFailure::Closed { maybe_executed: true }));
    assert_eq!(client.sent(A), [Message::Goodbye]);
    client.lose(A);
    assert_eq!(client.closed_at, Some(client.now));
}

/// A client and the connections to its brokers.
#[derive(Debug)]
struct Client {
    now: Instant,
    machine: Dispatcher,
    limits: Limits,
    sent: Vec<(Peer, Message)>,
    /// The connected brokers, and whether each has answered.
    standing: Vec<(Peer, bool)>,
    dials: Vec<Peer>,
    ends: Vec<(CallId, CallEnd)>,
    left: Vec<(Peer, Departure)>,
    closed_at: Option<Instant>,
}

impl Client {
    fn new(brokers: u64) -> Self {
        Self::with(brokers, |_| {})
    }

    fn with(brokers: u64, shape: impl FnOnce(&mut DispatcherConfig)) -> Self {
        let mut config = DispatcherConfig::default();
        config.retry.backoff = BackoffConfig { first: Duration::ZERO, max: Duration::ZERO };
        shape(&mut config);
        let now = start();
        Self {
            now,
            limits: config.limits,
            machine: Dispatcher::dialing(now, config, brokers),
            sent: Vec::new(),
            standing: Vec::new(),
            dials: Vec::new(),
            ends: Vec::new(),
            left: Vec::new(),
            closed_at: None,
        }
    }

    /// A client that all its brokers have answered, with nothing to send.
    fn connected(brokers: u64) -> Self {
        let mut client = Self::new(brokers);
        client.run(Duration::ZERO);
        for peer in client.take_dials() {
            client.connect(peer);
            client.send_as(peer, Message::Ready(Ready { interval: INTERVAL, ..broker() }));
            client.sent(peer);
        }
        client
    }

    fn call(&mut self, id: u64) {
        self.call_with(id, |_| {});
    }

    fn call_with(&mut self, id: u64, shape: impl FnOnce(&mut CallSpec)) {
        let mut spec = CallSpec {
            service: "Demo".into(),
            method: "hold".into(),
            fingerprint: 0,
            idempotent: None,
            must_declare: false,
            wait_policy: WaitPolicy::default(),
            owner: 0,
            attempts_before: 0,
            deadline: self.now + CALL_TIMEOUT,
            metadata: Metadata::new(),
            payload: value("argument"),
        };
        shape(&mut spec);
        self.machine.call(self.now, CallId(id), spec);
        self.settle();
    }

    fn connect(&mut self, peer: Peer) {
        self.standing.push((peer, false));
        self.machine.handle_dialed(self.now, peer);
        self.settle();
    }

    fn lose(&mut self, peer: Peer) {
        self.standing.retain(|(other, _)| *other != peer);
        self.machine.handle_disconnected(self.now, peer);
        self.settle();
    }

    fn send_as(&mut self, from: Peer, message: Message) {
        self.send_frames_as(from, frame::encode(&message));
    }

    fn send_frames_as(&mut self, from: Peer, frames: Frames) {
        for decoded in frame::decode(frames, &self.limits) {
            match decoded {
                Ok(message) => {
                    let is_answer = matches!(message.message, Message::Ready(_));
                    self.standing.iter_mut().filter(|(peer, _)| *peer == from).for_each(|it| it.1 |= is_answer);
                    self.machine.handle_message(self.now, from, message);
                }
                Err(malformed) => self.machine.handle_malformed(self.now, from, &malformed),
            }
            self.settle();
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        for _ in 0..100_000 {
            match self.machine.poll_timeout() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => return self.now = end,
            }
            self.machine.handle_timeout(self.now);
            self.settle();
        }
        panic!("the client's timers do not come to rest");
    }

    /// Like `run`, but the brokers are heard from.
    fn keep_alive(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.standing.clone().into_iter().for_each(|(peer, _)| self.send_as(peer, Message::Heartbeat));
            self.run(INTERVAL.min(end - self.now));
        }
    }

    /// The next dial comes exactly then.
    fn expect_dial_after(&mut self, wait: Duration) {
        self.take_dials();
        if let Some(before) = wait.checked_sub(TICK) {
            self.run(before);
            assert_eq!(self.dialed(), []);
            self.run(TICK);
        } else {
            self.run(wait);
        }
        assert_eq!(self.dialed(), [A]);
    }

    fn settle(&mut self) {
        let mut disconnects = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Dial(peer) => {
                    assert!(!self.stands(peer), "dialed although a connection stands");
                    self.dials.push(peer);
                }
                Output::Disconnect(peer) => {
                    assert!(self.stands(peer), "a connection that does not stand is ended");
                    disconnects.push(peer);
                }
                Output::Ended(id, end, receipt) => {
                    self.machine.release(self.now, receipt);
                    assert!(self.ends.iter().all(|(other, _)| *other != id), "a call that ends twice");
                    self.ends.push((id, end));
                }
                Output::WorkerLeft(peer, departure) => self.left.push((peer, departure)),
                Output::Closed => assert_eq!(self.closed_at.replace(self.now), None, "closed twice"),
                Output::Forwarded(_) | Output::Partial(..) | Output::WorkerJoined(_) | Output::WorkerChanged(_) => {}
            }
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            let standing = self.standing.iter().find(|(peer, _)| *peer == transmit.to);
            let (_, has_answered) = *standing.expect("sent over a connection that stands");
            for message in transmit.messages {
                assert!(has_answered || matches!(message, Message::Ready(_)), "sent before the answer: {message:?}");
                self.sent.push((transmit.to, message));
            }
        }
        self.standing.retain(|(peer, _)| !disconnects.contains(peer));
    }

    fn stands(&self, peer: Peer) -> bool {
        self.standing.iter().any(|(other, _)| *other == peer)
    }

    fn dialed(&self) -> Vec<Peer> {
        self.dials.clone()
    }

    fn take_dials(&mut self) -> Vec<Peer> {
        std::mem::take(&mut self.dials)
    }

    /// Takes what was sent to a broker.
    fn sent(&mut self, to: Peer) -> Vec<Message> {
        let (taken, rest) = std::mem::take(&mut self.sent).into_iter().partition(|(peer, _)| *peer == to);
        self.sent = rest;
        taken.into_iter().map(|(_, message)| message).collect()
    }

    /// Takes the requests sent to all brokers; drops heartbeats.
    fn requests(&mut self) -> Vec<(Peer, u64)> {
        let request = |(peer, message)| match message {
            Message::Request(request) => Some((peer, request.call.0)),
            Message::Heartbeat | Message::Ack(_) => None,
            other => panic!("neither request nor heartbeat: {other:?}"),
        };
        std::mem::take(&mut self.sent).into_iter().filter_map(request).collect()
    }

    fn end(&self, id: u64) -> CallEnd {
        let end = self.ends.iter().find(|(call, _)| call.0 == id);
        end.unwrap_or_else(|| panic!("call {id} has not ended")).1.clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A second panic would abort and hide the first.
        if !std::thread::panicking() {
            self.machine.close(self.now);
            self.run(INTERVAL);
            assert!(self.closed_at.is_some(), "a client that does not close");
            assert!(self.machine.is_empty(), "{:#?}", self.machine);
        }
    }
}

#[test]
fn credits_from_a_broker_count_like_those_of_a_worker() {
    let mut client = Client::connected(1);
    client.send_as(A, Message::Credit(1));
    (1..=3).for_each(|id| client.call(id));
    assert_eq!(client.requests(), [(A, 1)]);
    client.send_as(A, Message::Credit(2));
    assert_eq!(client.requests(), [(A, 2)]);
    client.send_as(A, Message::Credit(0));
    client.send_as(A, final_reply(CallId(1), "done"));
    assert_eq!(client.requests(), [], "it pauses");
    client.send_as(A, Message::Credit(u32::MAX));
    assert_eq!(client.requests(), [(A, 3)]);
    [2, 3].into_iter().for_each(|id| client.send_as(A, final_reply(CallId(id), "done")));
}

/// The introduction of a broker that offers `Demo`.
fn broker() -> Ready {
    Ready { role: Role::Dispatcher, ..introduction() }
}

const A: Peer = Peer(0);
const B: Peer = Peer(1);
const GRACE: Duration = Duration::from_millis(500);
