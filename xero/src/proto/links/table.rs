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
#[derive(Debug)]
pub(super) struct Table {
    links: IdMap<Peer, Link>,
    /// The keys of `links`, in order.
    peers: BTreeSet<Peer>,
    limits: HoldLimits,
    sums: Sums,
    /// Peers for whose replies receipts are kept, by their own bytes: the first one has the most room.
    owing: BTreeSet<(u64, Peer)>,
}

/// What all links hold, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    held: u64,
    /// The same without what still counts in the windows of others.
    acknowledged: u64,
    /// What counts in no window of others any more; of each peer at most its limit, so that none takes another's part.
    charged: u64,
    /// Open requests.
    requests: u64,
}

impl Sums {
    fn of(link: &Link, limits: &HoldLimits) -> Self {
        let acknowledged = link.acknowledged_bytes();
        let charged = acknowledged.min(limits.peer_bytes_max);
        Self { held: link.held_bytes(), acknowledged, charged, requests: link.requests_bytes() }
    }

    fn change(&mut self, before: Self, after: Self) {
        self.held = self.held - before.held + after.held;
        self.acknowledged = self.acknowledged - before.acknowledged + after.acknowledged;
        self.charged = self.charged - before.charged + after.charged;
        self.requests = self.requests - before.requests + after.requests;
    }
}

impl Default for Table {
    /// A table without limits.
    fn default() -> Self {
        Self {
            links: IdMap::default(),
            peers: BTreeSet::new(),
            limits: HoldLimits { peer_bytes_max: u64::MAX, total_bytes_max: u64::MAX },
            sums: Sums::default(),
            owing: BTreeSet::new(),
        }
    }
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
        self.sums.change(Sums::of(&link, &self.limits), Sums::default());
        if let Some(own) = owing(&link) {
            self.owing.remove(&(own, peer));
        }
        Some(link)
    }

    /// Changes a link, and keeps the account of held bytes.
    pub(super) fn account<T>(&mut self, peer: Peer, change: impl FnOnce(&mut Link) -> T) -> Option<T> {
        let link = self.links.get_mut(&peer)?;
        let (before, owed) = (Sums::of(link, &self.limits), owing(link));
        let changed = change(link);
        self.sums.change(before, Sums::of(link, &self.limits));
        let owes = owing(link);
        if owed != owes {
            owed.map(|own| self.owing.remove(&(own, peer)));
            owes.map(|own| self.owing.insert((own, peer)));
        }
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

    /// The further bytes of a peer, or for it, that may be acknowledged: then it holds no more than what is left.
    pub(super) fn room_for(&self, peer: Peer) -> u64 {
        let own = self.own_bytes(peer);
        let shared = self.left().saturating_sub(own).div_ceil(2);
        shared.min(self.limits.peer_bytes_max.saturating_add(1).saturating_sub(own))
    }

    /// A peer for whose replies receipts are kept, and that may hold more.
    pub(super) fn next_relieved(&self) -> Option<Peer> {
        // Who holds the least has the most room.
        self.owing.first().map(|(_, peer)| *peer).filter(|peer| self.may_hold(*peer))
    }

    /// Whether others wait for the peer, or have less because of it: it holds more than its limit, or than is left.
    pub(super) fn is_in_arrears(&self, peer: Peer) -> bool {
        let own = self.own_bytes(peer);
        own > self.limits.peer_bytes_max || own > self.left() || self.get(peer).is_some_and(Link::keeps_receipts)
    }

    /// Whether there is no room for a request of the peer: requests would leave too little for those of others.
    ///
    /// Replies are no reason: who does not read them must not keep others from sending requests.
    pub(super) fn is_full(&self, peer: Peer, bytes: u64) -> bool {
        let shared = self.limits.shared_bytes();
        let (own, all) = self.requests_bytes(peer);
        let (own, all) = (own.saturating_add(bytes), all.saturating_add(bytes));
        let most = shared.saturating_sub(all).saturating_mul(REQUESTS_PART).max(shared / SHARES);
        (own > most || all > self.limits.requests_bytes_max()) && !planted(Fault::TotalIgnored)
    }

    /// What the open requests of the peer take, and those of all.
    pub(super) fn requests_bytes(&self, peer: Peer) -> (u64, u64) {
        (self.get(peer).map_or(0, Link::requests_bytes), self.sums.requests)
    }

    fn own_bytes(&self, peer: Peer) -> u64 {
        self.get(peer).map_or(0, Link::acknowledged_bytes)
    }

    /// What is left of what all peers together may hold before senders wait.
    fn left(&self) -> u64 {
        match planted(Fault::TotalIgnored) {
            true => u64::MAX,
            false => self.limits.shared_bytes().saturating_sub(self.sums.charged),
        }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.sums.held
    }

    /// The same without what still counts in the windows of others.
    pub(super) fn acknowledged_bytes(&self) -> u64 {
        self.sums.acknowledged
    }

    pub(super) fn limits(&self) -> HoldLimits {
        self.limits
    }

    /// Whether there is no link.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

/// What a link holds apart from replies whose receipts are kept; `None` if there are none.
fn owing(link: &Link) -> Option<u64> {
    link.keeps_receipts().then(|| link.acknowledged_bytes())
}

/// A peer's requests are refused once it would hold this many times what is left: more than once, because a refusal costs
/// more than an acknowledgement that waits.
const REQUESTS_PART: u64 = 4;

/// A peer's requests within this part of the same are taken whatever the others have: 64 KiB of 256 MiB, hundreds of
/// small ones.
const SHARES: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        hold::Receipt,
        liveness::Heartbeats,
        tests::{introduction, start},
    };

    #[test]
    fn peer_that_holds_the_least_is_relieved_first_and_none_beyond_its_own_limit() {
        let limits = HoldLimits { peer_bytes_max: 50, total_bytes_max: 300 };
        let mut table = Table::default().with_limits(limits);
        for (peer, bytes) in [(1, 70), (2, 30), (3, 10)] {
            let (now, heartbeats) = (start(), Heartbeats::default());
            table.entry(Peer(peer), || Link::introducing(now, heartbeats)).introduce(now, heartbeats, &introduction());
            table.account(Peer(peer), |link| link.hold_request(bytes));
            table.account(Peer(peer), |link| link.defer(Receipt { from: Peer(9), bytes: 5 }));
        }
        // The first one counts as 50, so 10 are left.
        assert_eq!((table.next_relieved(), table.room_for(Peer(3))), (None, 0));
        table.account(Peer(2), |link| link.forget_request(20));
        assert_eq!((table.next_relieved(), table.room_for(Peer(3))), (Some(Peer(2)), 10));
        table.remove(Peer(2));
        assert_eq!((table.next_relieved(), table.room_for(Peer(3))), (Some(Peer(3)), 15));
        table.remove(Peer(3));
        assert_eq!(table.next_relieved(), None, "there is room, but not for that one");
    }
}
