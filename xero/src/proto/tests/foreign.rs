//! Peers that keep none of our conventions: their cost to a broker, a worker and each other.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::node::{WorkerNode, offer};
use crate::proto::{
    broker::{Broker, BrokerConfig, Door},
    frame,
    message::{CallId, Capabilities, Codec, Message, Metadata, Payload, Peer, Ready, Request, Role, ServiceOffer},
    worker::Worker,
};

#[test]
fn registered_peers_keep_their_role_when_they_introduce_another() {
    let mut scene = Scene::new();
    let roles = [Role::Dispatcher, Role::Worker, Role::Client];
    for (door, own) in [(Door::Front, Role::Client), (Door::Back, Role::Worker)] {
        for role in roles.into_iter().filter(|role| *role != own) {
            scene.send_as(door, Message::Ready(Ready { role, ..ready(role, Vec::new()) }));
        }
        assert_eq!(scene.sent(), [], "nothing is sent to it");
    }
    let counters = scene.broker.counters();
    assert_eq!((counters.unexpected_messages, counters.workers.unexpected_messages), (2, 2));
    assert_eq!(scene.broker.workers().next().map(|worker| worker.services().count()), Some(1));
}

#[test]
fn client_that_keeps_sending_requests_without_reading_replies_is_dropped() {
    let mut reader = Scene::new();
    let mut taken = 0;
    for call in 0..CALLS {
        reader.send_as(Door::Front, request(call, "none"));
        taken += reader.sent().iter().map(|(_, message)| frame::window_bytes(message)).sum::<u64>();
        // As late as `PROTOCOL.md` §9 allows.
        if call % (WINDOW / 4 / 64) == 0 {
            reader.send_as(Door::Front, Message::Ack(taken));
        }
    }
    assert_eq!(reader.broker.clients().count(), 1);

    let mut deaf = Scene::new();
    for call in 0..CALLS {
        deaf.send_as(Door::Front, request(call, "none"));
    }
    assert_eq!(deaf.broker.clients().count(), 0);
}

#[test]
fn dispatcher_that_keeps_sending_requests_without_reading_replies_is_dropped() {
    let now = Instant::now();
    let config = WorkerNode::new(now, 1, Vec::new(), |config| config.credits = 8).config;
    let mut worker = Worker::new(now, config, 1);
    worker.handle_timeout(now);
    worker.handle_dialed(now, Peer(0));
    worker.handle_message(now, Peer(0), Message::Ready(ready(Role::Dispatcher, Vec::new())));
    for call in 0..CALLS {
        worker.handle_message(now, Peer(0), request(call, "none"));
    }
    assert_eq!(worker.registered().count(), 0);
}

/// The byte window of every peer here.
const WINDOW: u64 = 2 << 20;

/// Far more than may be in flight in answers of 64 bytes.
const CALLS: u64 = 300_000;

struct Scene {
    now: Instant,
    broker: Broker,
}

impl Scene {
    /// A broker with a client and a worker, each the first peer at its door.
    fn new() -> Self {
        Self::of(vec![offer("Demo", &["hold"])])
    }

    fn of(services: Vec<ServiceOffer>) -> Self {
        let mut scene = Self { now: Instant::now(), broker: Broker::new(BrokerConfig::default()) };
        scene.send_as(Door::Back, Message::Ready(ready(Role::Worker, services)));
        scene.send_as(Door::Front, Message::Ready(ready(Role::Client, Vec::new())));
        scene.sent();
        scene
    }

    fn send_as(&mut self, door: Door, message: Message) {
        self.broker.handle_message(self.now, door, Peer(1), message);
    }

    fn sent(&mut self) -> Vec<(Door, Message)> {
        let transmits = std::iter::from_fn(|| self.broker.poll_transmit());
        transmits
            .flat_map(|(door, transmit)| transmit.messages.into_iter().map(move |message| (door, message)))
            .collect()
    }
}

fn ready(role: Role, services: Vec<ServiceOffer>) -> Ready {
    Ready {
        role,
        incarnation: Uuid::nil(),
        capabilities: Capabilities::BATCH,
        interval: Duration::from_secs(1),
        payload_bytes_max: 64 << 20,
        credits: if role == Role::Worker { 8 } else { 0 },
        window_bytes: WINDOW,
        codecs: Codec::ALL.to_vec(),
        services,
    }
}

fn request(call: u64, method: &str) -> Message {
    Message::Request(Request {
        call: CallId(call),
        attempt: 1,
        idempotent: false,
        as_declared: false,
        fail_fast: false,
        service: "Demo".into(),
        method: method.into(),
        fingerprint: 0,
        remaining: Duration::from_secs(60),
        metadata: Metadata::new(),
        payload: Payload::default(),
    })
}
