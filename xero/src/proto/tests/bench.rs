//! A broker whose clients and workers a test plays by hand. Every message passes through `frame.rs`; outgoing messages
//! are checked against the rules of their connection. On drop, all peers leave and the tables must be empty.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::pair::{INTERVAL, introduction, ms, start, value};
use crate::proto::{
    broker::{Broker, BrokerConfig, BrokerOutput, Door},
    frame::{self, Frames, Limits},
    message::{CallId, ErrorCode, ErrorReply, FinalReply, Message, Peer, Ready, Request, Role},
    outbox::Transmit,
    retry::BackoffConfig,
};

/// A broker and its connections.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) now: Instant,
    pub(super) broker: Broker,
    pub(super) outputs: Vec<BrokerOutput>,
    pub(super) closed_at: Option<Instant>,
    sent: Vec<(Wire, Message)>,
    wires: BTreeMap<Wire, State>,
    limits: Limits,
    /// Keeps outgoing messages here instead of sending them, like a transport that accepts nothing.
    is_stuck: bool,
    stuck: Vec<(Door, Transmit)>,
}

/// One connection.
pub(super) type Wire = (Door, Peer);

/// What was sent on a connection so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Introduced,
    SaidGoodbye,
    Gone,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(shape: impl FnOnce(&mut BrokerConfig)) -> Self {
        let mut config = BrokerConfig::default();
        // Retries at once, for tests that are not about their pace.
        config.dispatcher.retry.backoff = BackoffConfig { first: Duration::ZERO, max: Duration::ZERO };
        shape(&mut config);
        Self {
            now: start(),
            limits: config.dispatcher.limits,
            broker: Broker::new(config),
            outputs: Vec::new(),
            closed_at: None,
            sent: Vec::new(),
            wires: BTreeMap::new(),
            is_stuck: false,
            stuck: Vec::new(),
        }
    }

    /// A connection without any message yet.
    pub(super) fn open(&mut self, door: Door) -> Wire {
        // Each door counts from 0, so that confusing a front peer with a back one would show.
        let wire = (door, Peer(self.wires.keys().filter(|wire| wire.0 == door).count() as u64));
        self.wires.insert(wire, State::Open);
        wire
    }

    /// A client that may be silent for minutes and accepts any number of replies.
    pub(super) fn client(&mut self) -> Wire {
        self.client_with(|_| {})
    }

    pub(super) fn client_with(&mut self, shape: impl FnOnce(&mut Ready)) -> Wire {
        self.introduce(Door::Front, |ready| {
            (ready.role, ready.credits, ready.services) = (Role::Client, 0, Vec::new());
            shape(ready);
        })
    }

    /// A worker of `Demo` that may be silent for minutes.
    pub(super) fn worker(&mut self) -> Wire {
        self.worker_with(|_| {})
    }

    pub(super) fn worker_with(&mut self, shape: impl FnOnce(&mut Ready)) -> Wire {
        self.introduce(Door::Back, shape)
    }

    pub(super) fn introduce(&mut self, door: Door, shape: impl FnOnce(&mut Ready)) -> Wire {
        let wire = self.open(door);
        let mut ready = Ready { incarnation: Uuid::from_u64_pair(3, wire.1.0), ..introduction() };
        shape(&mut ready);
        self.send_as(wire, Message::Ready(ready));
        wire
    }

    /// Gives the broker a message from this connection.
    pub(super) fn send_as(&mut self, wire: Wire, message: Message) {
        self.send_frames_as(wire, frame::encode(&message));
    }

    pub(super) fn send_frames_as(&mut self, (door, peer): Wire, frames: Frames) {
        for decoded in frame::decode(frames, &self.limits) {
            match decoded {
                Ok(message) => self.broker.handle_message(self.now, door, peer, message),
                Err(malformed) => self.broker.handle_malformed(self.now, door, peer, &malformed),
            }
        }
        self.settle();
    }

    /// Requests a method of `Demo` under the client's own id, with five seconds to go.
    pub(super) fn request(&mut self, client: Wire, call: u64, method: &str) {
        self.request_with(client, call, method, |_| {});
    }

    pub(super) fn request_with(&mut self, wire: Wire, call: u64, method: &str, shape: impl FnOnce(&mut Request)) {
        let mut request = request(call, method);
        shape(&mut request);
        self.send_as(wire, Message::Request(request));
    }

    /// Ends a worker's request.
    pub(super) fn reply(&mut self, worker: Wire, id: CallId, text: &str) {
        self.send_as(worker, Message::Final(FinalReply { call: id, partials: 0, payload: value(text) }));
    }

    pub(super) fn drop_wire(&mut self, wire: Wire) {
        if self.wires.insert(wire, State::Gone) != Some(State::Gone) {
            self.broker.handle_disconnected(self.now, wire.0, wire.1);
            self.settle();
        }
    }

    pub(super) fn drain(&mut self) {
        self.broker.drain(self.now);
        self.settle();
    }

    pub(super) fn close(&mut self) {
        self.broker.close(self.now);
        self.settle();
    }

    /// From now on, no outgoing message leaves.
    pub(super) fn hold_transmits(&mut self) {
        self.is_stuck = true;
    }

    /// The connection is gone, and the transport has accepted nothing of what was kept for it.
    pub(super) fn fail_transmits(&mut self, wire: Wire) {
        self.is_stuck = false;
        self.wires.insert(wire, State::Gone);
        for (door, transmit) in std::mem::take(&mut self.stuck) {
            match (door, transmit.to) == wire {
                true => self.broker.handle_unsent(self.now, door, transmit),
                false => self.note_sent(door, transmit),
            }
        }
        self.settle();
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Handles everything due up to this instant, inclusive.
    pub(super) fn run_until(&mut self, end: Instant) {
        for _ in 0..TIMEOUTS_MAX {
            match self.broker.poll_timeout() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => return self.now = end,
            }
            self.broker.handle_timeout(self.now);
            self.settle();
        }
        panic!("the broker's timers do not come to rest");
    }

    /// Takes everything sent on a connection.
    pub(super) fn take(&mut self, wire: Wire) -> Vec<Message> {
        let (taken, rest) = std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == wire);
        self.sent = rest;
        taken.into_iter().map(|(_, message)| message).collect()
    }

    /// The same, without heartbeats.
    pub(super) fn take_news(&mut self, wire: Wire) -> Vec<Message> {
        let mut taken = self.take(wire);
        taken.retain(|message| *message != Message::Heartbeat);
        taken
    }

    /// Takes the requests sent to a worker.
    pub(super) fn requests(&mut self, worker: Wire) -> Vec<Request> {
        let request = |message| match message {
            Message::Request(request) => Some(request),
            _ => None,
        };
        self.take(worker).into_iter().filter_map(request).collect()
    }

    /// Takes the id of the only request sent to a worker.
    pub(super) fn request_id(&mut self, worker: Wire) -> CallId {
        let requests = self.requests(worker);
        let [request] = &requests[..] else { panic!("not one request: {requests:?}") };
        request.call
    }

    /// Takes the errors sent to a client: the call, the code, and whether it may have run.
    pub(super) fn errors(&mut self, client: Wire) -> Vec<(u64, ErrorCode, bool)> {
        let error = |message| match message {
            Message::Error(ErrorReply { call, code, maybe_executed, .. }) => Some((call.0, code, maybe_executed)),
            _ => None,
        };
        self.take(client).into_iter().filter_map(error).collect()
    }

    pub(super) fn is_gone(&self, wire: Wire) -> bool {
        self.wires.get(&wire) == Some(&State::Gone)
    }

    fn settle(&mut self) {
        let mut disconnects = Vec::new();
        while let Some(output) = self.broker.poll_output() {
            match output {
                BrokerOutput::Disconnect(door, peer) => disconnects.push((door, peer)),
                BrokerOutput::Closed => {
                    assert_eq!(self.closed_at.replace(self.now), None, "a broker that closes twice");
                }
                output => self.outputs.push(output),
            }
        }
        while let Some((door, transmit)) = self.broker.poll_transmit() {
            match self.is_stuck {
                true => self.stuck.push((door, transmit)),
                false => self.note_sent(door, transmit),
            }
        }
        for wire in disconnects {
            self.wires.insert(wire, State::Gone);
        }
    }

    fn note_sent(&mut self, door: Door, transmit: Transmit) {
        let wire = (door, transmit.to);
        for message in transmit.messages {
            let state = self.wires.get_mut(&wire).expect("a peer that has connected");
            *state = match (*state, &message) {
                (State::Open, Message::Ready(_)) => State::Introduced,
                (State::Open | State::Introduced, Message::Error(_)) => *state,
                (State::Introduced, Message::Goodbye) => State::SaidGoodbye,
                (State::Introduced, _) => *state,
                (state, message) => panic!("sent to {wire:?}, which is {state:?}: {message:?}"),
            };
            for decoded in frame::decode(frame::encode(&message), &self.limits) {
                self.sent.push((wire, decoded.expect("the broker's own messages can be read").message));
            }
        }
    }

    /// All peers leave; nothing may be left.
    fn wind_up(&mut self) {
        self.is_stuck = false;
        for wire in self.wires.keys().copied().collect::<Vec<_>>() {
            self.drop_wire(wire);
        }
        self.run(2 * INTERVAL);
        assert_eq!(self.broker.open_calls(), 0, "a call of nobody");
        self.close();
        self.run(INTERVAL);
        assert!(self.closed_at.is_some(), "a broker that does not close");
        assert!(self.broker.is_empty(), "{:#?}", self.broker);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A second panic would abort and hide the first.
        if !std::thread::panicking() {
            self.wind_up();
        }
    }
}

pub(super) fn request(call: u64, method: &str) -> Request {
    Request {
        call: CallId(call),
        attempt: 1,
        idempotent: false,
        as_declared: false,
        fail_fast: false,
        service: "Demo".into(),
        method: method.into(),
        fingerprint: 0,
        remaining: ms(5_000),
        metadata: Default::default(),
        payload: value("argument"),
    }
}

/// Far more than any test needs, so that a timer that is always due is noticed.
const TIMEOUTS_MAX: usize = 100_000;
