//! Peers that hold to no convention of ours: what they cost a broker, a worker and each other.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::node::offer;
use crate::proto::{
    broker::{Broker, BrokerConfig, Door},
    message::{Capabilities, Codec, Message, Peer, Ready, Role, ServiceOffer},
};

#[test]
fn registered_peers_that_introduce_themselves_in_another_role_stay_what_they_are() {
    let mut scene = Scene::new();
    let roles = [Role::Dispatcher, Role::Worker, Role::Client];
    for (door, own) in [(Door::Front, Role::Client), (Door::Back, Role::Worker)] {
        for role in roles.into_iter().filter(|role| *role != own) {
            scene.tell(door, Message::Ready(Ready { role, ..ready(role, Vec::new()) }));
        }
        assert_eq!(scene.sent(), [], "nothing is said to it");
    }
    let counters = scene.broker.counters();
    assert_eq!((counters.unexpected_messages, counters.workers.unexpected_messages), (2, 2));
    assert_eq!(scene.broker.workers().next().map(|worker| worker.services().count()), Some(1));
}

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
        scene.tell(Door::Back, Message::Ready(ready(Role::Worker, services)));
        scene.tell(Door::Front, Message::Ready(ready(Role::Client, Vec::new())));
        scene.sent();
        scene
    }

    fn tell(&mut self, door: Door, message: Message) {
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
        window_bytes: 2 << 20,
        codecs: Codec::ALL.to_vec(),
        services,
    }
}
