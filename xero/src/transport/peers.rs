//! The numbers of a ROUTER's peers, and the identities behind them.

use std::{collections::HashMap, mem};

use bytes::Bytes;

use super::contract::PEERS_MAX;
use crate::proto::message::Peer;

/// The numbers of a ROUTER's peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_identity: HashMap<Bytes, Entry>,
    by_number: HashMap<Peer, Bytes>,
    last: u64,
}

#[derive(Debug, Default)]
struct Entry {
    /// Given at the first message.
    peer: Option<Peer>,
    /// Whether the monitor has reported the connection; messages may precede that.
    accepted: bool,
}

/// Whether a new connection may stay.
#[derive(Debug)]
pub(super) enum Admission {
    Fresh,
    Full,
    /// Another connection has this identity; its entry is removed.
    Taken(Option<Peer>),
}

impl Peers {
    /// Records a connection that the transport has accepted.
    pub(super) fn accept(&mut self, identity: &[u8]) -> Admission {
        if let Some(entry) = self.by_identity.get_mut(identity) {
            if mem::replace(&mut entry.accepted, true) {
                return Admission::Taken(self.forget(identity));
            }
        } else if self.make_room() {
            self.by_identity.insert(Bytes::copy_from_slice(identity), Entry { peer: None, accepted: true });
        } else {
            return Admission::Full;
        }
        Admission::Fresh
    }

    /// The number of a peer that has sent a message, unless there are too many peers.
    pub(super) fn number(&mut self, identity: &[u8]) -> Option<Peer> {
        if let Some(Entry { peer: Some(peer), .. }) = self.by_identity.get(identity) {
            return Some(*peer);
        }
        if !self.by_identity.contains_key(identity) && !self.make_room() {
            return None;
        }
        self.last += 1;
        let peer = Peer(self.last);
        // A copy, because the frame shares its memory with the whole receive buffer.
        let identity = Bytes::copy_from_slice(identity);
        self.by_number.insert(peer, identity.clone());
        self.by_identity.entry(identity).or_default().peer = Some(peer);
        Some(peer)
    }

    /// Removes the peer with this identity; returns its number, if it had one.
    pub(super) fn forget(&mut self, identity: &[u8]) -> Option<Peer> {
        let peer = self.by_identity.remove(identity)?.peer?;
        self.by_number.remove(&peer);
        Some(peer)
    }

    /// Removes the peer with this number; returns its identity, if there was one.
    pub(super) fn remove(&mut self, peer: Peer) -> Option<Bytes> {
        let identity = self.by_number.remove(&peer)?;
        self.by_identity.remove(&identity);
        Some(identity)
    }

    /// Whether there is room for one more.
    ///
    /// Silent connections make way: their entries only serve to notice that another connection takes their identity
    /// over.
    fn make_room(&mut self) -> bool {
        if self.by_identity.len() >= PEERS_MAX {
            self.by_identity.retain(|_, entry| entry.peer.is_some());
        }
        self.by_identity.len() < PEERS_MAX
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
            assert!(matches!(peers.accept(&name(n)), Admission::Fresh));
        }
        for n in 0..PEERS_MAX {
            assert!(peers.number(&name(PEERS_MAX + n)).is_some());
        }
        assert_eq!(peers.number(&name(0)), None);
        assert!(matches!(peers.accept(&name(0)), Admission::Full));
        let first = peers.forget(&name(PEERS_MAX)).expect("a peer");
        assert!(peers.number(&name(0)).is_some_and(|peer| peer > first));
        assert_eq!(peers.by_identity.len(), peers.by_number.len());
    }
}
