//! The life of a registration: introduced, kept alive, drained, lost.

use super::*;

impl Dispatcher {
    pub(super) fn handle_stranger(&mut self, now: Instant, from: Peer, message: Message) {
        if self.role == Role::Client {
            return self.handle_dialed_stranger(now, from, message);
        }
        match message {
            Message::Ready(ready) if ready.role == self.partner() && !self.has_said_goodbye() => {
                self.handle_ready(now, from, ready);
            }
            Message::Ready(ready) if ready.role == self.partner() => self.turn_away(from, "closing".to_owned()),
            Message::Ready(ready) => {
                let place = "a client that binds, or the backend of a broker";
                self.turn_away(from, format!("a {} has connected where workers are expected: {place}", ready.role));
            }
            _ => {
                self.counters.unregistered_messages += 1;
                self.outputs.push_back(Output::Disconnect(from));
            }
        }
    }

    pub(super) fn handle_malformed_of_stranger(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        match self.role {
            // Nothing is said to a broker that has not answered.
            Role::Client if self.is_introducing(from) => self.hang_up(now, from),
            Role::Client => {}
            _ => self.turn_away(from, malformed.to_string()),
        }
    }

    /// Does not take what a peer introduces itself with, and lets it go; also one that is registered already.
    pub(in crate::proto) fn refuse(&mut self, now: Instant, from: Peer, detail: String) {
        self.remove_worker(now, from, Departure::Disconnected);
        self.turn_away(from, detail);
    }

    /// Tells a peer that cannot be registered why, and lets it go.
    pub(super) fn turn_away(&mut self, from: Peer, detail: String) {
        info!(peer = from.0, detail, "turned a peer away");
        let error = ErrorReply::not_started(CallId(0), ErrorCode::Malformed, detail);
        self.outbox.push(from, Message::Error(error));
        self.outputs.push_back(Output::Disconnect(from));
    }

    pub(super) fn handle_ready(&mut self, now: Instant, from: Peer, ready: Ready) {
        // The answer goes before the requests that wait for this worker.
        self.outbox.push(from, Message::Ready(self.introduction()));
        self.register(now, from, ready, None);
    }

    /// A registered peer introduces itself anew: a worker expects an answer, a broker tells what it offers by now.
    pub(super) fn handle_ready_again(&mut self, now: Instant, from: Peer, ready: Ready) {
        match self.role {
            Role::Client => self.register(now, from, ready, None),
            _ => self.handle_ready(now, from, ready),
        }
    }

    pub(super) fn register(&mut self, now: Instant, from: Peer, ready: Ready, introduced: Option<Liveness>) {
        let interval = ready.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let heartbeats = self.config.heartbeats;
        let expiry = heartbeats.expiry(interval);
        let liveness = match introduced.or(self.registry.get(from).map(|worker| worker.liveness)) {
            Some(before) => before.renewed(now, expiry),
            None => Liveness::new(now, heartbeats.interval, expiry),
        };
        let (role, credits) = (ready.role, ready.credits);
        info!(peer = from.0, %role, incarnation = %ready.incarnation, credits, "registered");
        if ready.capabilities.contains(Capabilities::BATCH) {
            self.outbox.allow_batches(from, ready.payload_bytes_max);
        }
        self.registry.register(now, from, ready, liveness);
        self.timers.set(Timer::Lease(from), liveness.expires_at());
        self.timers.set(Timer::Heartbeat(from), liveness.heartbeat_at());
        self.outputs.push_back(Output::WorkerJoined(from));
        self.follow_offers(now);
        self.serve_waiting(now, from);
    }

    /// What those are that are registered here.
    pub(super) fn partner(&self) -> Role {
        if self.role == Role::Client { Role::Dispatcher } else { Role::Worker }
    }

    pub(super) fn introduction(&self) -> Ready {
        Ready {
            role: self.role,
            incarnation: self.config.incarnation,
            capabilities: Capabilities::BATCH,
            interval: self.config.heartbeats.interval,
            payload_bytes_max: self.config.limits.payload_bytes_max as u64,
            credits: 0,
            window_bytes: self.config.window_bytes,
            codecs: Codec::available().collect(),
            services: Vec::new(),
        }
    }

    /// Tells a peer how much of its payloads has been dealt with, when it is time to.
    pub(super) fn acknowledge(&mut self, now: Instant, from: Peer, bytes: u64) {
        let window = self.config.window_bytes;
        let told = self.registry.get_mut(from).and_then(|worker| worker.intake.take(bytes, window));
        if let Some(bytes) = told
            && !planted(Fault::AckNotSent)
        {
            self.send(now, from, Message::Ack(bytes));
        }
    }

    pub(super) fn handle_drain(&mut self, now: Instant, from: Peer) {
        info!(peer = from.0, "worker drains");
        self.registry.set_draining(from);
        self.outputs.push_back(Output::WorkerChanged(from));
        self.follow_offers(now);
    }

    pub(super) fn handle_goodbye(&mut self, now: Instant, from: Peer) {
        self.outputs.push_back(Output::Disconnect(from));
        self.remove_worker(now, from, Departure::Goodbye);
    }

    pub(super) fn remove_worker(&mut self, now: Instant, peer: Peer, departure: Departure) {
        let Some(worker) = self.registry.remove(peer) else { return };
        let unsent: BTreeSet<_> = self.outbox.forget(peer).iter().filter_map(Message::request).collect();
        let (role, in_flight) = (worker.role, worker.in_flight.len());
        info!(peer = peer.0, %role, ?departure, in_flight, "left");
        self.timers.stop(Timer::Lease(peer));
        self.timers.stop(Timer::Heartbeat(peer));
        self.outputs.push_back(Output::WorkerLeft(peer, departure));
        // A worker that drains ends what it has read before it says goodbye; the rest it has not read (§10).
        let is_drained = departure == Departure::Goodbye && worker.draining;
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
        self.redial(now, peer);
        self.finish_closing();
    }

    pub(super) fn heartbeat(&mut self, now: Instant, peer: Peer) {
        if planted(Fault::RetriedForTime) {
            let requests = self.registry.get(peer).map(|worker| worker.in_flight.clone()).unwrap_or_default();
            requests.into_keys().for_each(|id| self.lose_worker_of(now, id, Setback::MaybeExecuted));
        }
        let Some(worker) = self.registry.get(peer) else { return };
        // Nothing follows a goodbye. A timer that is set again without anything sent would be due at once, for ever.
        if self.has_said_goodbye() {
            return;
        }
        if planted(Fault::HeartbeatNotSent) {
            return;
        }
        if worker.liveness.heartbeat_at() <= now {
            self.send(now, peer, Message::Heartbeat);
        }
        if let Some(worker) = self.registry.get(peer) {
            self.timers.set(Timer::Heartbeat(peer), worker.liveness.heartbeat_at());
        }
    }

    pub(super) fn check_lease(&mut self, now: Instant, peer: Peer) {
        let Some(worker) = self.registry.get(peer) else { return self.check_introduction(now, peer) };
        if planted(Fault::LeaseNeverEnds) {
            return;
        }
        if worker.liveness.expires_at() > now {
            return self.timers.set(Timer::Lease(peer), worker.liveness.check_at(now));
        }
        self.counters.expired_leases += 1;
        self.outputs.push_back(Output::Disconnect(peer));
        self.remove_worker(now, peer, Departure::Expired);
    }

    pub(super) fn send(&mut self, now: Instant, to: Peer, message: Message) {
        // Nothing follows a goodbye (`PROTOCOL.md` §10).
        if self.has_said_goodbye() && !matches!(message, Message::Goodbye) {
            return;
        }
        if let Some(worker) = self.registry.get_mut(to) {
            worker.liveness.sent(now);
            let bytes = message.payload_bytes();
            if bytes >= LARGE_PAYLOAD_BYTES {
                self.outbox.push(to, Message::Patience(patience(bytes)));
            }
            self.outbox.push(to, message);
        }
    }

    pub(super) fn finish_leaving(&mut self, now: Instant) {
        for peer in self.registry.peers() {
            self.outputs.push_back(Output::Disconnect(peer));
            self.remove_worker(now, peer, Departure::Goodbye);
        }
        self.finish_closing();
    }

    pub(super) fn has_said_goodbye(&self) -> bool {
        matches!(self.closing, Closing::Leaving | Closing::Closed)
    }

    pub(super) fn finish_closing(&mut self) {
        if self.closing == Closing::Leaving && self.registry.is_empty() {
            self.closing = Closing::Closed;
            self.timers.stop(Timer::Leave);
            self.outputs.push_back(Output::Closed);
        }
    }
}
