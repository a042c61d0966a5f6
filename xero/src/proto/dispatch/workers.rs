//! The life of a registration: introduced, kept alive, drained, lost.

use super::*;

impl Dispatcher {
    /// Acts on what the links report.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(event) = self.links.poll_event() {
            match event {
                LinkEvent::Introduced(peer, ready) => self.handle_ready(now, peer, ready),
                LinkEvent::Received(peer, message, bytes) => {
                    self.receipt = Receipt { from: peer, bytes };
                    self.handle_received(now, peer, message);
                    let receipt = self.take_receipt();
                    self.release(now, receipt);
                }
                LinkEvent::Draining(peer) => self.handle_drain(now, peer),
                LinkEvent::Doubted(peer) => self.registry.set_doubted(peer, true),
                LinkEvent::Heard(peer) => {
                    self.registry.set_doubted(peer, false);
                    self.serve_waiting(now, peer);
                }
                LinkEvent::Room(peer) => {
                    self.note_room(peer);
                    self.serve_waiting(now, peer);
                }
                LinkEvent::Ended(peer, end) => self.remove_worker(now, peer, &end),
                LinkEvent::Dial(peer) => self.outputs.push_back(Output::Dial(peer)),
                LinkEvent::Disconnect(peer) => self.outputs.push_back(Output::Disconnect(peer)),
                // Dispatchers pass nothing on to workers.
                LinkEvent::PartialLeft(..) | LinkEvent::Released(_) => {}
            }
        }
        self.finish_closing();
    }

    fn handle_ready(&mut self, now: Instant, from: Peer, ready: Ready) {
        if self.has_said_goodbye() {
            return self.links.turn_away(now, from, "the client or broker is closing".to_owned());
        }
        self.links.accept(now, from, &ready);
        self.registry.register(now, from, ready);
        self.note_room(from);
        self.outputs.push_back(Output::WorkerJoined(from));
        self.follow_offers(now);
        self.serve_waiting(now, from);
    }

    fn handle_received(&mut self, now: Instant, from: Peer, message: Message) {
        match message {
            Message::Partial(reply) => self.handle_partial(now, from, reply),
            Message::Final(reply) => self.handle_final(now, from, reply),
            Message::Error(reply) => self.handle_error(now, from, reply),
            Message::Credit(credits) => {
                self.registry.set_credits(from, credits);
                self.outputs.push_back(Output::WorkerChanged(from));
                self.follow_offers(now);
                self.serve_waiting(now, from);
            }
            _ => self.links.drop_unexpected(from, "a message that workers do not send"),
        }
    }

    fn handle_drain(&mut self, now: Instant, from: Peer) {
        info!(peer = from.0, "a worker drains: it finishes its calls and accepts no others");
        self.registry.set_draining(from);
        self.outputs.push_back(Output::WorkerChanged(from));
        self.follow_offers(now);
    }

    fn remove_worker(&mut self, now: Instant, peer: Peer, end: &End) {
        let Some(worker) = self.registry.remove(peer) else { return };
        let unsent: BTreeSet<_> = end.unsent.iter().filter_map(Message::request).collect();
        self.outputs.push_back(Output::WorkerLeft(peer, end.departure));
        // Before its goodbye, a draining worker ends all requests that it has read; the others it has not read (§10).
        let is_drained = end.departure == Departure::Goodbye && end.was_draining;
        for (id, wanted) in worker.in_flight {
            let setback = match is_drained || unsent.contains(&id) {
                true => Setback::NotStarted,
                false => Setback::MaybeExecuted,
            };
            if wanted && !planted(Fault::LostRequestsForgotten) {
                self.lose_worker_of(now, id, setback);
            }
        }
        self.follow_offers(now);
    }

    /// Notes in the registry whether the worker's window has room for a large payload.
    pub(super) fn note_room(&mut self, peer: Peer) {
        let has_room = self.links.outflow(peer).is_none_or(|outflow| !outflow.is_full());
        self.registry.set_room(peer, has_room);
    }

    /// Handles the end of the time for leaving.
    pub(super) fn finish_leaving(&mut self, now: Instant) {
        for peer in self.links.peers() {
            self.links.hang_up(now, peer, Departure::Goodbye);
        }
    }

    pub(super) fn has_said_goodbye(&self) -> bool {
        matches!(self.closing, Closing::Leaving | Closing::Closed)
    }

    fn finish_closing(&mut self) {
        if self.closing == Closing::Leaving && self.links.are_gone() {
            self.closing = Closing::Closed;
            self.timers.stop(Timer::Leave);
            self.outputs.push_back(Output::Closed);
        }
    }

    pub(super) fn is_client(&self) -> bool {
        self.links.introduction().role == Role::Client
    }
}

/// A dispatcher's introduction.
pub(super) fn introduction(config: &DispatcherConfig, role: Role) -> Ready {
    Ready {
        role,
        incarnation: config.incarnation,
        capabilities: Capabilities::BATCH,
        interval: config.heartbeats.interval,
        payload_bytes_max: config.limits.payload_bytes_max as u64,
        credits: 0,
        window_bytes: config.window_bytes,
        codecs: Codec::available().collect(),
        services: Vec::new(),
    }
}
