//! The life of a registration: introduced, kept alive, drained, lost.

use super::*;

impl Dispatcher {
    pub(super) fn handle_stranger(&mut self, now: Instant, from: Peer, message: Message) {
        match message {
            Message::Ready(ready) if ready.role == Role::Worker && self.closing == Closing::No => {
                self.handle_ready(now, from, ready);
            }
            Message::Ready(ready) if ready.role == Role::Worker => self.turn_away(from, "closing".to_owned()),
            Message::Ready(ready) => {
                self.turn_away(from, format!("a {:?} has connected where workers are expected", ready.role));
            }
            _ => {
                self.counters.unregistered_messages += 1;
                self.outputs.push_back(Output::Disconnect(from));
            }
        }
    }

    /// Tells a peer that cannot be registered why, and lets it go.
    pub(super) fn turn_away(&mut self, from: Peer, detail: String) {
        info!(peer = from.0, detail, "turned a peer away");
        let (call, code, payload) = (CallId(0), ErrorCode::Malformed, Payload::default());
        let error = ErrorReply { call, partials: 0, code, maybe_executed: false, detail, payload };
        self.outbox.push(from, Message::Error(error));
        self.outputs.push_back(Output::Disconnect(from));
    }

    pub(super) fn handle_ready(&mut self, now: Instant, from: Peer, ready: Ready) {
        let interval = ready.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let heartbeats = self.config.heartbeats;
        let liveness = Liveness::new(now, heartbeats.interval, heartbeats.expiry(interval));
        info!(peer = from.0, incarnation = %ready.incarnation, credits = ready.credits, "worker registered");
        if ready.capabilities.contains(Capabilities::BATCH) {
            self.outbox.allow_batches(from, ready.payload_bytes_max);
        }
        self.registry.register(now, from, ready, liveness);
        self.timers.set(Timer::Lease(from), liveness.expires_at());
        self.timers.set(Timer::Heartbeat(from), liveness.heartbeat_at());
        self.send(now, from, Message::Ready(self.introduction()));
        self.outputs.push_back(Output::WorkerJoined(from));
        self.serve_waiting(now, from);
    }

    pub(super) fn introduction(&self) -> Ready {
        Ready {
            role: Role::Dispatcher,
            incarnation: self.config.incarnation,
            capabilities: Capabilities::BATCH,
            interval: self.config.heartbeats.interval,
            payload_bytes_max: self.config.limits.payload_bytes_max as u64,
            credits: 0,
            window_bytes: 0,
            codecs: Codec::ALL.to_vec(),
            services: Vec::new(),
        }
    }

    pub(super) fn handle_drain(&mut self, from: Peer) {
        info!(peer = from.0, "worker drains");
        self.registry.set_draining(from);
        self.outputs.push_back(Output::WorkerChanged(from));
    }

    pub(super) fn handle_goodbye(&mut self, now: Instant, from: Peer) {
        self.outputs.push_back(Output::Disconnect(from));
        self.remove_worker(now, from, Departure::Goodbye);
    }

    pub(super) fn remove_worker(&mut self, now: Instant, peer: Peer, departure: Departure) {
        let Some(worker) = self.registry.remove(peer) else { return };
        info!(peer = peer.0, ?departure, in_flight = worker.in_flight.len(), "worker left");
        self.timers.stop(Timer::Lease(peer));
        self.timers.stop(Timer::Heartbeat(peer));
        self.outbox.forget(peer);
        self.outputs.push_back(Output::WorkerLeft(peer, departure));
        // A worker that drains ends what it has read before it says goodbye; the rest it has not read (§10).
        let setback = match departure == Departure::Goodbye && worker.draining {
            true => Setback::NotStarted,
            false => Setback::MaybeExecuted,
        };
        for (id, wanted) in worker.in_flight {
            if wanted {
                self.lose_worker_of(now, id, setback);
            }
        }
        self.finish_closing();
    }

    pub(super) fn heartbeat(&mut self, now: Instant, peer: Peer) {
        let Some(worker) = self.registry.get(peer) else { return };
        // Nothing follows a goodbye. A timer that is set again without anything sent would be due at once, for ever.
        if self.closing != Closing::No {
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
        let Some(worker) = self.registry.get(peer) else { return };
        let expires_at = worker.liveness.expires_at();
        if expires_at > now {
            return self.timers.set(Timer::Lease(peer), expires_at);
        }
        self.counters.expired_leases += 1;
        self.outputs.push_back(Output::Disconnect(peer));
        self.remove_worker(now, peer, Departure::Expired);
    }

    pub(super) fn send(&mut self, now: Instant, to: Peer, message: Message) {
        // Nothing follows a goodbye (`PROTOCOL.md` §10).
        if self.closing != Closing::No && !matches!(message, Message::Goodbye) {
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
        for peer in self.registry.iter().map(|(peer, _)| peer).collect::<Vec<_>>() {
            self.outputs.push_back(Output::Disconnect(peer));
            self.remove_worker(now, peer, Departure::Goodbye);
        }
        self.finish_closing();
    }

    pub(super) fn finish_closing(&mut self) {
        if self.closing == Closing::Leaving && self.registry.iter().next().is_none() {
            self.closing = Closing::Closed;
            self.timers.stop(Timer::Leave);
            self.outputs.push_back(Output::Closed);
        }
    }
}
