//! What a side holds of its peers and for them, and whether there is room for more (`PROTOCOL.md` §9).

use std::time::Instant;

use super::Links;
use crate::proto::{
    hold::HoldLimits,
    link::ACK_DELAY,
    message::{ErrorCode, Peer, Role},
    window::{Outflow, SMALL_PAYLOAD_BYTES},
};

impl Links {
    /// Holds a request of a peer until [`Self::forget_request`].
    pub(crate) fn hold_request(&mut self, from: Peer, bytes: u64) {
        self.links.account(from, |link| link.hold_request(bytes));
    }

    /// Ends the holding of a request.
    pub(crate) fn forget_request(&mut self, from: Peer, bytes: u64) {
        self.links.account(from, |link| link.forget_request(bytes));
    }

    /// Whether messages held of a peer, or for it, may be acknowledged.
    pub(crate) fn may_hold(&self, peer: Peer) -> bool {
        self.links.may_hold(peer)
    }

    /// Whether more than its limit is held back for the peer, because it has not taken what is on its way.
    ///
    /// Another of its requests would only add a reply.
    pub(crate) fn is_unread(&self, peer: Peer) -> bool {
        let max = self.links.limits().peer_bytes_max;
        self.outflow(peer).is_some_and(|outflow| outflow.kept_bytes() > max)
    }

    /// Whether a large reply to the peer must become an error, because others would wait for the peer to take it.
    ///
    /// That is a client that workers have waited for, and that has taken less than a slow link carries. A broker may wait
    /// for one of its clients: it must have taken nothing for an expiry while all dispatchers together hold more than
    /// theirs.
    pub(crate) fn is_hoarding(&self, now: Instant, peer: Peer) -> bool {
        if self.partner == Role::Client {
            return self.lags_at(peer).is_some_and(|at| at <= now);
        }
        let limits = self.links.limits();
        let HoldLimits { peer_bytes_max, .. } = limits;
        let is_beyond = self.links.held_bytes() > limits.shared_bytes()
            && self.links.get(peer).is_some_and(|link| link.held_bytes() > peer_bytes_max);
        let since = self.outflow(peer).and_then(Outflow::stalled_since);
        is_beyond && since.is_some_and(|since| since + self.heartbeats.own_expiry() <= now)
    }

    /// When workers have waited for a client for an expiry, and for as long as a slow link needs for what it has taken. One
    /// that reads may acknowledge a rest late.
    pub(super) fn lags_at(&self, peer: Peer) -> Option<Instant> {
        self.outflow(peer)?.lags_at(self.heartbeats.own_expiry().max(2 * ACK_DELAY))
    }

    /// Why [`Self::is_hoarding`] leaves no room for a large reply.
    pub(crate) fn unread(&self, bytes: usize) -> String {
        let limits = self.links.limits();
        let (peer_bytes_max, shared) = (limits.peer_bytes_max, limits.shared_bytes());
        match self.partner {
            Role::Client => format!(
                "a reply of {bytes} bytes finds no room, because the caller's side reads less than 1 MiB a second: others \
                 have waited for it; raise the broker's `peer_bytes_max` of {peer_bytes_max} bytes, or its \
                 `total_bytes_max`"
            ),
            Role::Dispatcher | Role::Worker => format!(
                "a reply of {bytes} bytes finds no room, because the caller's side reads no replies: more than \
                 {peer_bytes_max} bytes are held for it, and {shared} for all; raise the worker's `total_bytes_max`"
            ),
        }
    }

    /// Whether there is no room for a large reply of this side's own.
    pub(crate) fn lacks_room(&self, bytes: usize) -> bool {
        let held = self.links.held_bytes().saturating_add(bytes as u64);
        bytes > SMALL_PAYLOAD_BYTES && held > self.links.limits().replies_bytes_max()
    }

    /// Why [`Self::lacks_room`].
    pub(crate) fn no_room_to_reply(&self, bytes: usize) -> String {
        let (held, max) = (self.links.held_bytes(), self.links.limits().replies_bytes_max());
        match bytes as u64 > max {
            true => format!(
                "a reply of {bytes} bytes is over the {max} bytes that all replies may take; raise the worker's \
                 `total_bytes_max`"
            ),
            false => format!(
                "a reply of {bytes} bytes finds no room: {held} bytes of {max} are held for all; raise the worker's \
                 `total_bytes_max`"
            ),
        }
    }

    /// Why there is no room for a request of the peer, if there is none. `who` is this side, such as "broker".
    pub(crate) fn refusal(&self, peer: Peer, bytes: u64, who: &str) -> Option<(ErrorCode, String)> {
        if !self.links.is_full(peer, bytes) {
            return None;
        }
        let limits = self.links.limits();
        let (most, total) = (limits.request_bytes_max(), limits.total_bytes_max);
        if bytes > most {
            let least = HoldLimits::total_for(bytes);
            let detail = format!(
                "a request of {bytes} bytes is over the {most} bytes that one request may take; raise the {who}'s \
                 `total_bytes_max` to at least {least}"
            );
            return Some((ErrorCode::TooLarge, detail));
        }
        let (own, all) = self.links.requests_bytes(peer);
        let detail = format!(
            "the {who} has no room for a request of {bytes} bytes: open requests take {all} bytes, {own} of them over the \
             same connection; raise the {who}'s `total_bytes_max` of {total} bytes"
        );
        Some((ErrorCode::Overloaded, detail))
    }

    /// Bytes held of all peers, and for them, those in transit included.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.links.held_bytes()
    }

    pub(crate) fn hold_limits(&self) -> HoldLimits {
        self.links.limits()
    }
}
