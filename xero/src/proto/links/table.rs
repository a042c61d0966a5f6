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
        Some(link)
    }

    /// Changes a link, and keeps the account of held bytes.
    pub(super) fn account<T>(&mut self, peer: Peer, change: impl FnOnce(&mut Link) -> T) -> Option<T> {
        let link = self.links.get_mut(&peer)?;
        let before = link.held_bytes();
        let changed = change(link);
        self.held_bytes = self.held_bytes - before + link.held_bytes();
        Some(changed)
    }

    /// A link, for changes that leave what it holds as it is.
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

    /// Whether messages held of a peer, or for it, may be acknowledged.
    pub(super) fn may_hold(&self, peer: Peer) -> bool {
        let is_half_full = self.held_bytes >= self.limits.total_bytes_max / 2 && !planted(Fault::TotalIgnored);
        !is_half_full && self.get(peer).is_none_or(|link| link.may_hold(&self.limits))
    }

    /// Whether the limit of all peers together is reached.
    pub(super) fn is_full(&self) -> bool {
        self.held_bytes >= self.limits.total_bytes_max
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
