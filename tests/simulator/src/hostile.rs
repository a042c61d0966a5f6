//! Processes that keep to no rule: they speak out of turn, too much, and what cannot be read.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use uuid::Uuid;
use xero::proto::{
    broker::Door,
    frame::{self, Frames},
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, Event as Publication, FinalReply, Message, Metadata,
        OfferChange, PartialReply, Payload, Peer, Ready, Request, Role as Says, ServiceOffer,
    },
};

use super::{
    network::Event,
    scenario::{Pid, Role, SAFE, SERVICES, Setup, ms},
    work::{Fate, Tag, WORK_BYTES, Work},
    world::World,
};

/// A process that keeps to no rule.
#[derive(Debug)]
pub(super) struct Hostile {
    random: Rng,
    pid: Pid,
    says: Says,
    is_mute: bool,
    incarnation: Uuid,
    interval: Duration,
    requests: u64,
    /// Calls that others have open, as though it guessed well.
    guessed: Vec<CallId>,
    /// Calls that others have asked it for.
    asked: Vec<CallId>,
}

impl Hostile {
    fn new(seed: u64, pid: Pid, setup: &Setup) -> Self {
        let mut random = Rng::with_seed(seed ^ pid as u64);
        let says = match setup.role {
            Role::Worker => Says::Worker,
            Role::Dialing => Says::Client,
            Role::Broker | Role::Binding => Says::Dispatcher,
        };
        let incarnation = Uuid::from_u64_pair(random.u64(..), random.u64(..));
        Self {
            random,
            pid,
            says,
            is_mute: setup.is_mute,
            incarnation,
            interval: setup.heartbeats.interval,
            requests: 0,
            guessed: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// What it says next on a connection.
    fn speak(&mut self) -> Vec<Frames> {
        if self.is_mute {
            let count = self.random.usize(0..2);
            return vec![frame::encode(&Message::Heartbeat); count];
        }
        let messages: Vec<_> = match self.random.u8(0..13) {
            0 => vec![Message::Heartbeat, self.ready()],
            1 => vec![Message::Goodbye, self.ready()],
            2 => vec![Message::Drain, self.ready()],
            3 => vec![self.ready(), self.ready()],
            4..7 => (0..self.random.usize(1..20)).map(|_| self.request()).collect(),
            7 => (0..self.random.usize(1..200)).map(|_| self.late_request()).collect(),
            _ => (0..self.random.usize(1..4)).map(|_| self.message()).collect(),
        };
        match self.random.u8(0..6) {
            0 => vec![self.spoil(&messages)],
            1 | 2 => vec![frame::encode_batch(&messages)],
            _ => messages.iter().map(frame::encode).collect(),
        }
    }

    /// Frames that are cut, or changed somewhere.
    fn spoil(&mut self, messages: &[Message]) -> Frames {
        let Frames { header, payload } = frame::encode_batch(messages);
        let (mut header, mut payload) = (header.to_vec(), payload.to_vec());
        // A changed payload would be another argument, and no mistake of whoever reads it.
        let is_batch = messages.len() > 1;
        let part = if is_batch && self.random.bool() { &mut payload } else { &mut header };
        let at = self.random.usize(0..part.len());
        match self.random.u8(0..3) {
            0 => part.truncate(at),
            1 => header[at % FIXED_BYTES] ^= self.random.u8(1..),
            _ => part.extend([self.random.u8(..)].repeat(at + 1)),
        }
        Frames { header: header.into(), payload: payload.into() }
    }

    fn message(&mut self) -> Message {
        let random = &mut self.random;
        match random.u8(0..17) {
            0 => self.ready(),
            16 => self.offer(),
            1 => Message::Ack([0, 1, random.u64(0..100_000), u64::MAX][random.usize(0..4)]),
            2 => Message::Credit([0, 1, u32::MAX][random.usize(0..3)]),
            3 => Message::Cancel(self.call()),
            4 => Message::Patience(Duration::from_secs(random.u64(0..1_000_000))),
            5 => Message::Goodbye,
            6 => Message::Drain,
            7 => Message::Event(Publication {
                topic: "topic".into(),
                sequence: random.u64(..),
                payload: Payload::default(),
            }),
            8 | 9 => {
                let (call, sequence) = (self.call(), self.random.u32(0..4));
                Message::Partial(PartialReply { call, sequence, payload: self.payload() })
            }
            10 | 11 => {
                let (call, partials) = (self.call(), self.random.u32(0..3));
                Message::Final(FinalReply { call, partials, payload: self.payload() })
            }
            12 => {
                let codes = [ErrorCode::Refused, ErrorCode::Overloaded, ErrorCode::NoWorker, ErrorCode::Panicked];
                let (call, code) = (self.call(), codes[self.random.usize(0..codes.len())]);
                let detail = "?".repeat(self.random.usize(0..4_000));
                Message::Error(ErrorReply { payload: self.payload(), ..ErrorReply::not_started(call, code, detail) })
            }
            13 => Message::Heartbeat,
            _ => self.request(),
        }
    }

    /// An introduction, mostly of what it seems to be.
    fn ready(&mut self) -> Message {
        let random = &mut self.random;
        let roles = [Says::Worker, Says::Client, Says::Dispatcher];
        let count = if self.says == Says::Worker { random.usize(0..3) } else { 0 };
        let services = (0..count).map(|_| evil_service(random)).collect();
        Message::Ready(Ready {
            role: if random.u8(0..10) == 0 { roles[random.usize(0..3)] } else { self.says },
            incarnation: self.incarnation,
            capabilities: Capabilities(random.u32(0..16)),
            interval: self.interval,
            payload_bytes_max: [1, 1_000, u64::MAX][random.usize(0..3)],
            credits: [0, 3, u32::MAX][random.usize(0..3)],
            window_bytes: [0, 1, 5_000, u64::MAX][random.usize(0..4)],
            codecs: vec![Codec::Bincode],
            services,
        })
    }

    /// A change of what it offers, or of what it never has.
    fn offer(&mut self) -> Message {
        let random = &mut self.random;
        let changed = (0..random.usize(0..3)).map(|_| evil_service(random)).collect();
        let withdrawn = (0..random.usize(0..3)).map(|_| evil_service(random).name).collect();
        Message::Offer(OfferChange { changed, withdrawn })
    }

    /// A request that an honest worker can run, new or repeated.
    fn request(&mut self) -> Message {
        if self.requests == 0 || self.random.u8(0..5) > 0 {
            self.requests += 1;
        }
        let random = &mut self.random;
        let tag = Tag::of_hostile(self.pid, self.requests);
        let work = Work {
            tag,
            delay: Duration::ZERO,
            time: ms(random.u64(0..60)),
            partials: random.u32(0..3),
            fate: Fate::Replies,
            is_stubborn: false,
            ballast: if random.bool() { random.u32(4_000..9_000) } else { 10 },
        };
        Message::Request(Request {
            call: CallId(self.requests),
            attempt: random.u8(..),
            idempotent: random.bool(),
            as_declared: random.bool(),
            fail_fast: random.bool(),
            service: SERVICES[random.usize(0..SERVICES.len())].into(),
            method: SAFE.into(),
            fingerprint: 0,
            remaining: [Duration::ZERO, ms(300), ms(600), Duration::MAX][random.usize(0..4)],
            metadata: Metadata::new(),
            payload: work.payload(Codec::Bincode),
        })
    }

    /// A small request that is answered with an error at once, unless its header is spoiled on the way.
    fn late_request(&mut self) -> Message {
        let request = self.request();
        let Message::Request(mut request) = request else { return request };
        request.remaining = Duration::ZERO;
        request.payload.bytes.truncate(WORK_BYTES);
        Message::Request(request)
    }

    /// A call that it was asked for, one of an honest client, or none.
    fn call(&mut self) -> CallId {
        let random = &mut self.random;
        match random.u8(0..3) {
            0 if !self.asked.is_empty() => self.asked[random.usize(0..self.asked.len())],
            1 if !self.guessed.is_empty() => self.guessed[random.usize(0..self.guessed.len())],
            _ => CallId(random.u64(0..30)),
        }
    }

    fn payload(&mut self) -> Payload {
        let size = if self.random.u8(0..4) == 0 { self.random.usize(4_000..9_000) } else { self.random.usize(0..40) };
        Payload { codec: Codec::Bincode, bytes: Bytes::from(vec![0xee; size]) }
    }
}

/// A service that no honest process calls.
fn evil_service(random: &mut Rng) -> ServiceOffer {
    let name = Arc::<str>::from(format!("Evil{}", random.u8(0..9)));
    ServiceOffer { name, version: random.u32(..), methods: Vec::new() }
}

/// The fixed part of a header.
const FIXED_BYTES: usize = 32;

impl World {
    /// Lets a hostile process dial whom it is not connected to, and speak to some of those that it is.
    pub(super) fn misbehave(&mut self, pid: Pid) {
        let seed = self.network.random.u64(..);
        let setup = &self.processes[pid].setup;
        self.hostiles.entry(pid).or_insert_with(|| Hostile::new(seed, pid, setup));
        if setup.role != Role::Broker {
            let door = super::machine::door_of(setup.role);
            let slots = (0..setup.dials.len() as u64).map(Peer);
            let free: Vec<_> = slots.filter(|slot| !self.is_connected(pid, door, *slot)).collect();
            free.into_iter().for_each(|slot| self.dial(pid, slot));
        }
        for wire in self.wires_of(pid) {
            let side = self.side_of(wire, pid);
            let other = self.network[wire].end(side.other()).process;
            let Some(hostile) = self.hostiles.get_mut(&pid) else { return };
            hostile.guessed = self.processes[other].calls.keys().copied().collect();
            if hostile.random.bool() {
                let said = hostile.speak();
                self.log(pid, &format_args!("says {} things on connection {wire}", said.len()));
                said.into_iter().for_each(|frames| self.send_raw(wire, side, frames));
            }
        }
        let pause = ms(self.network.random.u64(5..100));
        self.post_after(pause, Event::Misbehave(pid));
    }

    /// Lets a hostile process read what it is sent.
    pub(super) fn overhear(&mut self, pid: Pid, frames: Frames) {
        let Some(hostile) = self.hostiles.get_mut(&pid) else { return };
        for inbound in frame::decode(frames, &Default::default()).flatten() {
            hostile.asked.extend(inbound.message.request());
            if let Message::Goodbye = inbound.message {
                hostile.asked.clear();
            }
        }
    }

    fn is_connected(&self, pid: Pid, door: Door, slot: Peer) -> bool {
        let is_dial = |event: &Event| matches!(event, Event::Dial { process, slot: other, .. } if *process == pid && *other == slot);
        self.processes[pid].sockets.contains_key(&(door, slot)) || self.network.queue.iter().any(is_dial)
    }
}
