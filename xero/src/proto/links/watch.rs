//! Watching the peers: heartbeats to them, their leases, and whether they take what is sent to them.

use std::time::Instant;

use tracing::debug;

use super::Links;
use crate::proto::{
    fault::{Fault, planted},
    link::{Departure, Link},
    message::{Message, Peer, Role},
    timer::Timer,
    window::Outflow,
};

impl Links {
    /// Sends what keeps the connection alive: an acknowledgement that is due, or a heartbeat.
    pub(super) fn heartbeat(&mut self, now: Instant, peer: Peer) {
        let is_dropped = match self.introduction.ready().role {
            Role::Worker => planted(Fault::WorkerHeartbeatNotSent),
            Role::Dispatcher | Role::Client => planted(Fault::HeartbeatNotSent),
        };
        let Some(link) = self.links.get_mut(peer).filter(|link| link.is_up() && !is_dropped) else { return };
        let rest = link.take_ack();
        if let Some(bytes) = rest.filter(|_| !self.is_ack_dropped()) {
            self.transmit(now, peer, Message::Ack(bytes));
        } else if self.links.get(peer).is_some_and(|link| link.heartbeat_at() <= now) {
            self.transmit(now, peer, Message::Heartbeat);
        }
        if let Some(link) = self.links.get(peer) {
            self.beats.set(Timer::Heartbeat(peer), link.heartbeat_at());
        }
    }

    /// Ends a connection whose peer is silent, or takes nothing while others wait for that. Otherwise sends what is kept
    /// for the peer, and may leave. Returns how much that is.
    pub(super) fn check_lease(&mut self, now: Instant, peer: Peer) -> usize {
        let stalls_at = self.stalls_at(now, peer);
        let Some(link) = self.links.get(peer) else {
            self.counters.unregistered += 1;
            debug!(peer = peer.0, "dropped a connection without an introduction");
            self.hang_up(now, peer, Departure::Expired);
            return 0;
        };
        if planted(Fault::LeaseNeverEnds) {
            return 0;
        }
        let is_in_arrears = self.links.is_in_arrears(peer);
        if is_in_arrears && stalls_at.is_some_and(|at| at <= now) {
            self.log.dropped(now, peer, "it reads no replies");
            self.hang_up(now, peer, Departure::Disconnected);
            return 0;
        }
        if link.expires_at() > now {
            // Others may come to wait for a peer that takes nothing, whatever its own interval is.
            let looks_at =
                stalls_at.map(|at| if is_in_arrears { at } else { at.max(now + self.heartbeats.own_expiry()) });
            let (check_at, has_leaving) = (link.check_at(now), link.next_leaving().is_some());
            let lags_at = self.lags_at(peer).filter(|at| *at > now);
            let looks_at = [looks_at, lags_at].into_iter().flatten().fold(check_at, Instant::min);
            self.timers.set(Timer::Lease(peer), looks_at);
            if self.is_hoarding(now, peer) {
                self.release_all_receipts(peer);
            }
            return if has_leaving { self.send_kept(now, peer) } else { 0 };
        }
        self.counters.expired_leases += u64::from(!link.is_introducing());
        debug!(peer = peer.0, "the peer has fallen silent");
        self.hang_up(now, peer, Departure::Expired);
        0
    }

    /// Has the peer checked in time if others suffer from what it does not take.
    pub(super) fn watch(&mut self, now: Instant, peer: Peer) {
        if let Some(link) = self.links.get_mut(peer).filter(|_| self.partner == Role::Client) {
            link.note_lag(now);
        }
        if self.links.is_in_arrears(peer) {
            let lags_at = self.lags_at(peer).filter(|at| *at > now);
            for at in [self.stalls_at(now, peer), lags_at].into_iter().flatten() {
                self.timers.hasten(Timer::Lease(peer), at);
            }
        }
    }

    /// Ends connections until all peers together hold less than their limit, by an eighth: first those of peers that have
    /// taken nothing for an expiry and the time that the next bytes need, and of these the ones that the most is held
    /// for. Then those that the most is held for beyond what a peer that reads may have: one large message in transit, or
    /// half of an equal share.
    pub(super) fn shed(&mut self, now: Instant) {
        if planted(Fault::ExcessKept) {
            return;
        }
        let expiry = self.heartbeats.own_expiry();
        let mut peers: Vec<_> = self.links.peers().collect();
        let (links, total) = (&self.links, self.links.limits().total_bytes_max);
        // Not all peers hold less than that: together, they would hold half of the limit.
        let half_share = total / (2 * peers.len().max(1) as u64);
        peers.sort_by_cached_key(|peer| {
            let link = links.get(*peer);
            let outflow = link.and_then(Link::outflow);
            let is_stalled = outflow.and_then(|it| it.stalls_at(expiry)).is_some_and(|at| at <= now);
            let bytes = link.map_or(0, |link| link.acknowledged_bytes() - link.requests_bytes());
            let usual = outflow.map_or(0, Outflow::largest_in_transit).max(half_share);
            let excess = if is_stalled { bytes } else { bytes.saturating_sub(usual) };
            (is_stalled, excess, bytes, *peer)
        });
        while self.links.acknowledged_bytes() > total - total / 8
            && let Some(peer) = peers.pop()
        {
            self.counters.shed += 1;
            let reason = format!("it takes less than it is sent, and {total} bytes are held for all");
            self.log.dropped(now, peer, &reason);
            self.hang_up(now, peer, Departure::Disconnected);
        }
    }

    /// When the peer will have taken nothing for too long; `None` while nothing is on its way.
    fn stalls_at(&mut self, now: Instant, peer: Peer) -> Option<Instant> {
        let (partner, expiry) = (self.partner, self.heartbeats.own_expiry());
        self.links.get_mut(peer)?.stalls_at(now, partner, expiry)
    }
}
