//! The numbers of a ROUTER's peers, and the identities behind them.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
};

use bytes::Bytes;

use super::contract::PEERS_MAX;
use crate::proto::message::Peer;

/// The numbers of a ROUTER's peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_identity: HashMap<Bytes, Entry>,
    by_number: HashMap<Peer, Bytes>,
    /// Those that have sent nothing.
    silent: BTreeSet<Peer>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    /// Whether the monitor has reported the connection; messages may precede that.
    is_accepted: bool,
}

/// Whether a new connection may stay.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is a new peer.
    Fresh(Peer),
    /// Its messages have made it known already.
    Known,
    Full,
    /// Another connection has this identity; its entry is removed.
    Taken(Peer),
}

impl Peers {
    /// Records a connection that the transport has accepted.
    pub(super) fn accept(&mut self, identity: &[u8]) -> Admission {
        let Some(entry) = self.by_identity.get_mut(identity) else {
            return self.add(identity, true).map_or(Admission::Full, Admission::Fresh);
        };
        if !mem::replace(&mut entry.is_accepted, true) {
            return Admission::Known;
        }
        self.forget(identity).map_or(Admission::Full, Admission::Taken)
    }

    /// The number of a peer that has sent a message, unless there are too many peers.
    pub(super) fn hear(&mut self, identity: &[u8]) -> Option<Peer> {
        let known = self.by_identity.get(identity).map(|entry| entry.peer);
        let peer = known.or_else(|| self.add(identity, false))?;
        self.silent.remove(&peer);
        Some(peer)
    }

    /// Removes the peer with this identity; returns its number, if there was one.
    pub(super) fn forget(&mut self, identity: &[u8]) -> Option<Peer> {
        let peer = self.by_identity.remove(identity)?.peer;
        self.by_number.remove(&peer);
        self.silent.remove(&peer);
        Some(peer)
    }

    /// Removes the peer with this number; returns its identity, if there was one.
    pub(super) fn remove(&mut self, peer: Peer) -> Option<Bytes> {
        let identity = self.by_number.remove(&peer)?;
        self.by_identity.remove(&identity);
        self.silent.remove(&peer);
        Some(identity)
    }

    /// The peers that have sent nothing: they make way for others once there is no room.
    pub(super) fn silent(&self) -> Vec<Peer> {
        self.silent.iter().copied().collect()
    }

    fn add(&mut self, identity: &[u8], is_accepted: bool) -> Option<Peer> {
        if self.by_identity.len() >= PEERS_MAX {
            return None;
        }
        self.last += 1;
        let peer = Peer(self.last);
        // A copy, because the frame shares its memory with the whole receive buffer.
        let identity = Bytes::copy_from_slice(identity);
        self.by_number.insert(peer, identity.clone());
        self.silent.insert(peer);
        self.by_identity.insert(identity, Entry { peer, is_accepted });
        Some(peer)
    }

    pub(super) fn identity(&self, peer: Peer) -> Option<Bytes> {
        self.by_number.get(&peer).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_peers_make_way_for_those_that_send() {
        let mut peers = Peers::default();
        let name = |n: usize| n.to_be_bytes();
        for n in 0..PEERS_MAX {
            assert!(matches!(peers.accept(&name(n)), Admission::Fresh(_)));
        }
        assert!(matches!(peers.accept(&name(PEERS_MAX)), Admission::Full));
        let heard = peers.hear(&name(7)).expect("a peer");
        let silent = peers.silent();
        assert_eq!(silent.len(), PEERS_MAX - 1);
        silent.into_iter().for_each(|peer| assert!(peers.remove(peer).is_some()));
        assert_eq!((peers.hear(&name(7)), peers.by_identity.len()), (Some(heard), 1));
        for n in 1..PEERS_MAX {
            assert!(peers.hear(&name(PEERS_MAX + n)).is_some());
        }
        assert!(peers.silent().is_empty());
        assert_eq!(peers.hear(&name(0)), None);
        let first = peers.forget(&name(PEERS_MAX + 1)).expect("a peer");
        assert!(peers.hear(&name(0)).is_some_and(|peer| peer > first));
        assert_eq!(peers.by_identity.len(), peers.by_number.len());
    }

    #[test]
    fn second_connection_under_an_identity_takes_the_place_of_the_first() {
        let mut peers = Peers::default();
        let first = peers.hear(b"one").expect("a peer");
        assert!(matches!(peers.accept(b"one"), Admission::Known));
        assert!(matches!(peers.accept(b"one"), Admission::Taken(peer) if peer == first));
        assert!(peers.identity(first).is_none());
    }
}
