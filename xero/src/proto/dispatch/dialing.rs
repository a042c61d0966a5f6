//! The brokers that a client connects to: dialed, introduced to, and dialed again after each loss.

use super::*;

/// A broker that is not registered.
#[derive(Debug)]
pub(super) struct Dial {
    backoff: Backoff,
    /// Why it did not take this client the last time, so that the same is not said again and again.
    refusal: Option<String>,
    /// Set from the introduction until the answer: the broker must be heard from by then.
    introducing: Option<Liveness>,
}

impl Dispatcher {
    pub(super) fn dials(now: Instant, config: &DispatcherConfig, timers: &mut TimerTable, brokers: u64) -> Dials {
        let dial = |peer: u64| {
            timers.set(Timer::Dial(Peer(peer)), now);
            let backoff = Backoff::new(config.backoff, config.seed.wrapping_add(peer));
            (Peer(peer), Dial { backoff, refusal: None, introducing: None })
        };
        (0..brokers).map(dial).collect()
    }

    /// The connection asked for by [`Output::Dial`] stands.
    pub fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        let Some(dial) = self.dials.get_mut(&peer) else { return self.outputs.push_back(Output::Disconnect(peer)) };
        let heartbeats = self.config.heartbeats;
        // Until the broker has told its own interval, ours is the best guess.
        let liveness = Liveness::new(now, heartbeats.interval, heartbeats.expiry(heartbeats.interval));
        dial.introducing = Some(liveness);
        self.outbox.push(peer, Message::Ready(self.introduction()));
        self.timers.set(Timer::Lease(peer), liveness.expires_at());
    }

    /// A message of a broker that has not answered the introduction yet.
    pub(super) fn handle_dialed_stranger(&mut self, now: Instant, from: Peer, message: Message) {
        let Some(dial) = self.dials.get_mut(&from).filter(|dial| dial.introducing.is_some()) else {
            self.counters.unregistered_messages += 1;
            return;
        };
        match message {
            Message::Ready(ready) if ready.role == Role::Dispatcher => {
                // What was sent last is the introduction; its answer may have come long after.
                let introduced = dial.introducing.take();
                dial.backoff.reset();
                dial.refusal = None;
                self.register(now, from, ready, introduced);
            }
            Message::Error(error) => {
                match dial.refusal.as_ref() == Some(&error.detail) {
                    true => debug!(peer = from.0, detail = error.detail, "the broker does not take this client"),
                    false => warn!(peer = from.0, detail = error.detail, "the broker does not take this client"),
                }
                dial.refusal = Some(error.detail);
                self.hang_up(now, from);
            }
            _ => self.hang_up(now, from),
        }
    }

    pub(super) fn is_introducing(&self, peer: Peer) -> bool {
        self.dials.get(&peer).is_some_and(|dial| dial.introducing.is_some())
    }

    /// Ends the connection to a broker that is not registered; it is dialed again after the back-off.
    pub(super) fn hang_up(&mut self, now: Instant, peer: Peer) {
        self.outputs.push_back(Output::Disconnect(peer));
        self.redial(now, peer);
    }

    /// There is no connection to that broker any more.
    pub(super) fn redial(&mut self, now: Instant, peer: Peer) {
        let Some(dial) = self.dials.get_mut(&peer) else { return };
        dial.introducing = None;
        self.outbox.forget(peer);
        self.timers.stop(Timer::Lease(peer));
        self.timers.set(Timer::Dial(peer), now + dial.backoff.next());
    }

    pub(super) fn check_introduction(&mut self, now: Instant, peer: Peer) {
        let Some(Dial { introducing: Some(liveness), .. }) = self.dials.get(&peer) else { return };
        match liveness.expires_at() {
            at if at > now => self.timers.set(Timer::Lease(peer), at),
            _ => self.hang_up(now, peer),
        }
    }

    /// Dials nobody any more; connections that have not been answered end.
    pub(super) fn stop_dialing(&mut self) {
        for (peer, dial) in std::mem::take(&mut self.dials) {
            self.timers.stop(Timer::Dial(peer));
            if dial.introducing.is_some() {
                self.timers.stop(Timer::Lease(peer));
                self.outbox.forget(peer);
                self.outputs.push_back(Output::Disconnect(peer));
            }
        }
    }
}

/// The brokers to dial, by their number in the order in which they were named.
pub(super) type Dials = BTreeMap<Peer, Dial>;
