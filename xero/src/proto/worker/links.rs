//! The life of a connection: introduced, kept alive, lost, left.

use super::*;

impl Worker {
    pub(super) fn handle_ready(&mut self, now: Instant, from: Peer, ready: &Ready) {
        let heartbeats = self.config.heartbeats;
        let interval = ready.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let peer_max = usize::try_from(ready.payload_bytes_max).unwrap_or(usize::MAX);
        let reply_bytes_max = peer_max.min(self.config.limits.payload_bytes_max);
        let Some(link) = self.links.get_mut(&from) else { return };
        // What was sent last is the introduction; its answer may have come long after.
        let LinkState::Introducing(introduced) = link.state else { return };
        let liveness = introduced.renewed(now, heartbeats.expiry(interval));
        link.backoff.reset();
        link.refusal = None;
        link.state = LinkState::Up(Box::new(Registration {
            liveness,
            reply_bytes_max,
            requests: BTreeMap::new(),
            intake: Intake::default(),
            replies: Outflow::new(ready.window_bytes),
        }));
        if ready.capabilities.contains(Capabilities::BATCH) {
            self.outbox.allow_batches(from, ready.payload_bytes_max);
        }
        info!(peer = from.0, incarnation = %ready.incarnation, "registered");
        self.timers.set(Timer::Lease(from), liveness.expires_at());
        self.timers.set(Timer::Heartbeat(from), liveness.heartbeat_at());
        self.outputs.push_back(WorkerOutput::Registered(from));
        if self.leaving != Leaving::No {
            self.send(now, from, Message::Drain);
        }
        if self.leaving == Leaving::Goodbye {
            self.say_goodbye_to(now, from);
        }
    }

    pub(super) fn heartbeat(&mut self, now: Instant, peer: Peer) {
        let Some(registration) = self.registration(peer) else { return };
        if planted(Fault::WorkerHeartbeatNotSent) {
            return;
        }
        if registration.liveness.heartbeat_at() <= now {
            self.send(now, peer, Message::Heartbeat);
        }
        if let Some(registration) = self.registration(peer) {
            self.timers.set(Timer::Heartbeat(peer), registration.liveness.heartbeat_at());
        }
    }

    pub(super) fn check_lease(&mut self, now: Instant, peer: Peer) {
        let liveness = match self.links.get(&peer).map(|link| &link.state) {
            Some(LinkState::Up(registration)) => registration.liveness,
            Some(LinkState::Introducing(liveness) | LinkState::Leaving(liveness)) => *liveness,
            Some(LinkState::Down) | None => return,
        };
        if liveness.expires_at() > now {
            return self.timers.set(Timer::Lease(peer), liveness.check_at(now));
        }
        self.counters.expired_leases += 1;
        info!(peer = peer.0, "the dispatcher has fallen silent");
        self.hang_up(now, peer);
    }

    pub(super) fn hang_up(&mut self, now: Instant, peer: Peer) {
        self.outputs.push_back(WorkerOutput::Hangup(peer));
        self.lose_link(now, peer);
    }

    /// The connection is no more: nobody waits for its requests, and it is dialed again after the back-off.
    pub(super) fn lose_link(&mut self, now: Instant, peer: Peer) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let wait = link.backoff.next();
        self.disown(peer);
        if self.leaving != Leaving::No {
            self.drop_link(peer);
            return self.finish_drain(now);
        }
        self.counters.redials += 1;
        trace!(peer = peer.0, ?wait, "dialing again after the back-off");
        if !planted(Fault::RedialForgotten) {
            self.timers.set(Timer::Dial(peer), now + wait);
        }
    }

    /// Takes a connection's requests from it: what runs is aborted, what waits is forgotten.
    pub(super) fn disown(&mut self, peer: Peer) {
        self.outbox.forget(peer);
        self.timers.stop(Timer::Lease(peer));
        self.timers.stop(Timer::Heartbeat(peer));
        let Some(link) = self.links.get_mut(&peer) else { return };
        let LinkState::Up(registration) = mem::replace(&mut link.state, LinkState::Down) else { return };
        self.outputs.push_back(WorkerOutput::Unregistered(peer));
        let mut forgotten = BTreeSet::new();
        for execution in registration.requests.into_values() {
            if planted(Fault::ExecutionKept) {
                break;
            }
            let Some(task) = self.executions.get_mut(&execution) else { continue };
            if !planted(Fault::StaleReplySent) {
                task.caller = None;
            }
            if task.waiting.is_some() {
                forgotten.insert(execution);
                self.executions.remove(&execution);
                self.timers.stop(Timer::Overrun(execution));
            } else if task.aborted.replace(ErrorCode::Cancelled).is_none() {
                self.outputs.push_back(WorkerOutput::Abort(execution));
            }
        }
        self.backlog.retain(|execution| !forgotten.contains(execution));
    }

    pub(super) fn drop_link(&mut self, peer: Peer) {
        self.disown(peer);
        self.timers.stop(Timer::Dial(peer));
        self.links.remove(&peer);
    }

    /// Says goodbye once nothing runs and no reply is held back, and has left once everyone has taken it.
    pub(super) fn finish_drain(&mut self, now: Instant) {
        let is_done = self.executions.is_empty() && !self.links.keys().any(|peer| self.is_holding(*peer));
        if self.leaving == Leaving::Draining && (is_done || planted(Fault::DrainCutShort)) {
            self.say_goodbye(now);
        }
        if self.leaving == Leaving::Goodbye && self.links.is_empty() {
            self.leaving = Leaving::Left;
            self.timers.stop(Timer::Leave);
            self.outputs.push_back(WorkerOutput::Left);
        }
    }

    /// Whether replies to that dispatcher are held back.
    fn is_holding(&self, peer: Peer) -> bool {
        self.registration(peer).is_some_and(|registration| !registration.replies.is_empty())
    }

    pub(super) fn say_goodbye(&mut self, now: Instant) {
        self.leaving = Leaving::Goodbye;
        self.timers.set(Timer::Leave, now + GOODBYE_GRACE);
        self.registered().collect::<Vec<_>>().into_iter().for_each(|peer| self.say_goodbye_to(now, peer));
    }

    pub(super) fn say_goodbye_to(&mut self, now: Instant, peer: Peer) {
        self.send(now, peer, Message::Goodbye);
        if let Some(link) = self.links.get_mut(&peer)
            && let LinkState::Up(registration) = &link.state
        {
            link.state = LinkState::Leaving(registration.liveness);
        }
    }

    /// The time for leaving is up: answers for what still runs and goes.
    pub(super) fn force_leave(&mut self, now: Instant) {
        if self.leaving == Leaving::Draining {
            for (execution, task) in mem::take(&mut self.executions) {
                self.timers.stop(Timer::Overrun(execution));
                self.outputs.push_back(WorkerOutput::Abort(execution));
                let Some((peer, call)) = task.caller else { continue };
                let detail = "the worker's drain timeout has passed".to_owned();
                let finish = Finish::Error { code: ErrorCode::Refused, detail, payload: Payload::default() };
                self.answer(now, peer, call, &task, finish);
            }
            self.backlog.clear();
            self.running = 0;
            // A goodbye would overtake the replies that are held back, and say of their requests that they were not started.
            for peer in self.peers().into_iter().filter(|peer| self.is_holding(*peer)).collect::<Vec<_>>() {
                self.outputs.push_back(WorkerOutput::Hangup(peer));
                self.drop_link(peer);
            }
            self.say_goodbye(now);
            self.finish_drain(now);
        } else {
            let expiry = self.config.heartbeats.expiry(self.config.heartbeats.interval);
            let may_be_sending = now < self.leave_by && self.sending_until.is_some_and(|until| now < until + expiry);
            for peer in self.peers() {
                // A dispatcher that still reads a large reply goes on sending heartbeats; one that falls silent expires.
                let is_said = self.links.get(&peer).is_some_and(|link| matches!(link.state, LinkState::Leaving(_)));
                if !(may_be_sending && is_said) {
                    self.outputs.push_back(WorkerOutput::Hangup(peer));
                    self.drop_link(peer);
                }
            }
            self.timers.set(Timer::Leave, self.leave_by);
            self.finish_drain(now);
        }
    }

    pub(super) fn send(&mut self, now: Instant, to: Peer, message: Message) {
        if let Some(registration) = self.registration_mut(to) {
            registration.liveness.sent(now);
            let bytes = message.payload_bytes();
            if bytes >= LARGE_PAYLOAD_BYTES {
                self.outbox.push(to, Message::Patience(patience(bytes)));
            }
            self.outbox.push(to, message);
        }
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        self.links.keys().copied().collect()
    }
}
