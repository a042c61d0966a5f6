//! A client's dispatcher that dials brokers, which a test plays by hand.

use std::time::{Duration, Instant};

use super::pair::{CALL_TIMEOUT, INTERVAL, TICK, introduction, start, value};
use crate::proto::{
    calls::{CallEnd, CallSpec, WaitPolicy},
    dispatch::{Departure, Dispatcher, DispatcherConfig, Output},
    frame::{self, Frames, Limits},
    message::{CallId, Message, Metadata, Peer, Ready, Role},
    retry::BackoffConfig,
};

/// A client and the connections to its brokers.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) now: Instant,
    pub(super) machine: Dispatcher,
    pub(super) limits: Limits,
    pub(super) sent: Vec<(Peer, Message)>,
    /// The connected brokers, and whether each has answered.
    pub(super) standing: Vec<(Peer, bool)>,
    pub(super) dials: Vec<Peer>,
    pub(super) ends: Vec<(CallId, CallEnd)>,
    pub(super) left: Vec<(Peer, Departure)>,
    pub(super) closed_at: Option<Instant>,
}

impl Client {
    pub(super) fn new(brokers: u64) -> Self {
        Self::with(brokers, |_| {})
    }

    pub(super) fn with(brokers: u64, shape: impl FnOnce(&mut DispatcherConfig)) -> Self {
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
    pub(super) fn connected(brokers: u64) -> Self {
        let mut client = Self::new(brokers);
        client.run(Duration::ZERO);
        for peer in client.take_dials() {
            client.connect(peer);
            client.send_as(peer, Message::Ready(Ready { interval: INTERVAL, ..broker() }));
            client.sent(peer);
        }
        client
    }

    pub(super) fn call(&mut self, id: u64) {
        self.call_with(id, |_| {});
    }

    pub(super) fn call_with(&mut self, id: u64, shape: impl FnOnce(&mut CallSpec)) {
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

    pub(super) fn connect(&mut self, peer: Peer) {
        self.standing.push((peer, false));
        self.machine.handle_dialed(self.now, peer);
        self.settle();
    }

    pub(super) fn lose(&mut self, peer: Peer) {
        self.standing.retain(|(other, _)| *other != peer);
        self.machine.handle_disconnected(self.now, peer);
        self.settle();
    }

    pub(super) fn send_as(&mut self, from: Peer, message: Message) {
        self.send_frames_as(from, frame::encode(&message));
    }

    pub(super) fn send_frames_as(&mut self, from: Peer, frames: Frames) {
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

    pub(super) fn run(&mut self, time: Duration) {
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
    pub(super) fn keep_alive(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.standing.clone().into_iter().for_each(|(peer, _)| self.send_as(peer, Message::Heartbeat));
            self.run(INTERVAL.min(end - self.now));
        }
    }

    /// The next dial comes exactly then.
    pub(super) fn expect_dial_after(&mut self, wait: Duration) {
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

    pub(super) fn settle(&mut self) {
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

    pub(super) fn stands(&self, peer: Peer) -> bool {
        self.standing.iter().any(|(other, _)| *other == peer)
    }

    pub(super) fn dialed(&self) -> Vec<Peer> {
        self.dials.clone()
    }

    pub(super) fn take_dials(&mut self) -> Vec<Peer> {
        std::mem::take(&mut self.dials)
    }

    /// Takes what was sent to a broker.
    pub(super) fn sent(&mut self, to: Peer) -> Vec<Message> {
        let (taken, rest) = std::mem::take(&mut self.sent).into_iter().partition(|(peer, _)| *peer == to);
        self.sent = rest;
        taken.into_iter().map(|(_, message)| message).collect()
    }

    /// Takes the requests sent to all brokers; drops heartbeats.
    pub(super) fn requests(&mut self) -> Vec<(Peer, u64)> {
        let request = |(peer, message)| match message {
            Message::Request(request) => Some((peer, request.call.0)),
            Message::Heartbeat | Message::Ack(_) => None,
            other => panic!("neither request nor heartbeat: {other:?}"),
        };
        std::mem::take(&mut self.sent).into_iter().filter_map(request).collect()
    }

    pub(super) fn end(&self, id: u64) -> CallEnd {
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

/// The introduction of a broker that offers `Demo`.
pub(super) fn broker() -> Ready {
    Ready { role: Role::Dispatcher, ..introduction() }
}

pub(super) const A: Peer = Peer(0);
pub(super) const B: Peer = Peer(1);
pub(super) const GRACE: Duration = Duration::from_millis(500);
