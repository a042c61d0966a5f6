//! The links of all peers, in order, and the account of the bytes that they hold.

use std::collections::BTreeSet;

use crate::proto::{
    fault::{Fault, planted},
    hold::HoldLimits,
    ids::IdMap,
    link::Link,
    message::Peer,
};

/// See the module.
///
/// Changes of what a link holds go through [`Self::account`] or [`Self::remove`], so that the total stays true.
#[derive(Debug, Default)]
pub(super) struct Table {
    links: IdMap<Peer, Link>,
    /// The keys of `links`, in order.
    peers: BTreeSet<Peer>,
    limits: HoldLimits,
    /// Bytes held by all links.
    held_bytes: u64,
    /// Those of them that count in no window of others any more.
    acknowledged_bytes: u64,
    /// Below this, a waiting peer may hold more.
    room_at: u64,
}

impl Table {
    pub(super) fn with_limits(self, limits: HoldLimits) -> Self {
        Self { limits, ..self }
    }

    /// The peer's link, which is added if there is none.
    pub(super) fn entry(&mut self, peer: Peer, link: impl FnOnce() -> Link) -> &mut Link {
        self.peers.insert(peer);
        self.links.entry(peer).or_insert_with(link)
    }

    pub(super) fn remove(&mut self, peer: Peer) -> Option<Link> {
        self.peers.remove(&peer);
        let link = self.links.remove(&peer)?;
        self.held_bytes -= link.held_bytes();
        self.acknowledged_bytes -= link.acknowledged_bytes();
        Some(link)
    }

    /// Changes a link, and keeps the account of held bytes.
    pub(super) fn account<T>(&mut self, peer: Peer, change: impl FnOnce(&mut Link) -> T) -> Option<T> {
        let link = self.links.get_mut(&peer)?;
        let (held, acknowledged) = (link.held_bytes(), link.acknowledged_bytes());
        let changed = change(link);
        self.held_bytes = self.held_bytes - held + link.held_bytes();
        self.acknowledged_bytes = self.acknowledged_bytes - acknowledged + link.acknowledged_bytes();
        Some(changed)
    }

    /// A link, for changes that leave what it holds, and its receipts, as they are.
    pub(super) fn get_mut(&mut self, peer: Peer) -> Option<&mut Link> {
        self.links.get_mut(&peer)
    }

    pub(super) fn get(&self, peer: Peer) -> Option<&Link> {
        self.links.get(&peer)
    }

    pub(super) fn has(&self, peer: Peer) -> bool {
        self.links.contains_key(&peer)
    }

    /// Whether the peer is introduced, and neither side has said goodbye.
    pub(super) fn is_up(&self, peer: Peer) -> bool {
        self.get(peer).is_some_and(Link::is_up)
    }

    /// All peers, in order.
    pub(super) fn peers(&self) -> impl Iterator<Item = Peer> {
        self.peers.iter().copied()
    }

    /// Whether messages held of a peer, or for it, may be acknowledged: it holds less than what is left for all.
    ///
    /// So a few peers never take everything: n of them leave an (n + 1)th.
    pub(super) fn may_hold(&self, peer: Peer) -> bool {
        self.room_for(peer) > 0
    }

    /// The further bytes of a peer, or for it, that may be acknowledged.
    pub(super) fn room_for(&self, peer: Peer) -> u64 {
        let own = self.acknowledged_bytes_of(peer);
        self.left().min(self.limits.peer_bytes_max.saturating_add(1)).saturating_sub(own)
    }

    /// Whether there is no room for a request of the peer.
    pub(super) fn is_full(&self, peer: Peer, bytes: u64) -> bool {
        let left = self.left();
        bytes > left || self.acknowledged_bytes_of(peer).saturating_add(bytes) > left.saturating_mul(REQUESTS_PART)
    }

    /// Notes that a peer must wait until it may hold more.
    pub(super) fn note_waiting(&mut self, peer: Peer) {
        let room_at = self.limits.total_bytes_max.saturating_sub(self.acknowledged_bytes_of(peer));
        self.room_at = self.room_at.max(room_at);
    }

    /// Whether a waiting peer may hold more since the last call, because others hold less.
    pub(super) fn take_relief(&mut self) -> bool {
        let is_relieved = self.acknowledged_bytes < self.room_at;
        self.room_at = if is_relieved { 0 } else { self.room_at };
        is_relieved
    }

    fn acknowledged_bytes_of(&self, peer: Peer) -> u64 {
        self.get(peer).map_or(0, Link::acknowledged_bytes)
    }

    /// What is left of the limit of all peers together.
    fn left(&self) -> u64 {
        match planted(Fault::TotalIgnored) {
            true => u64::MAX,
            false => self.limits.total_bytes_max.saturating_sub(self.acknowledged_bytes),
        }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    pub(super) fn limits(&self) -> HoldLimits {
        self.limits
    }

    /// Whether there is no link.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

/// A peer's requests are refused once it would hold this many times what is left: more than once, because a refusal costs
/// more than an acknowledgement that waits.
const REQUESTS_PART: u64 = 4;
