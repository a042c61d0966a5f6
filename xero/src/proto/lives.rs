//! The connections of each process, by its incarnation: which of them may be dead (`PROTOCOL.md` §5).
//!
//! A process that comes back over a new connection may leave an old one behind, whose end nobody has noticed. It may as
//! well hold several on purpose. So a new connection casts doubt on those that it had before, until they are heard from.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{ids::IdMap, message::Peer};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    peers: BTreeMap<Uuid, BTreeSet<Peer>>,
    incarnations: IdMap<Peer, Uuid>,
    doubted: BTreeSet<Peer>,
}

impl Lives {
    /// A peer has introduced itself. Returns the connections that come into doubt: those that the process had before
    /// a new one.
    pub(crate) fn introduce(&mut self, peer: Peer, incarnation: Uuid) -> Vec<Peer> {
        let before = self.incarnations.insert(peer, incarnation);
        if before == Some(incarnation) {
            return Vec::new();
        }
        if let Some(before) = before {
            self.part(peer, before);
        }
        let own = self.peers.entry(incarnation).or_default();
        let others = own.iter().rev().take(DOUBTED_MAX).copied();
        let fresh: Vec<_> = others.filter(|other| before.is_none() && self.doubted.insert(*other)).collect();
        own.insert(peer);
        fresh
    }

    /// A message has come from the peer. Whether that ends a doubt.
    pub(crate) fn hear(&mut self, peer: Peer) -> bool {
        !self.doubted.is_empty() && self.doubted.remove(&peer)
    }

    /// The peer's connection is gone.
    pub(crate) fn forget(&mut self, peer: Peer) {
        if let Some(incarnation) = self.incarnations.remove(&peer) {
            self.part(peer, incarnation);
        }
        self.doubted.remove(&peer);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.incarnations.is_empty()
    }

    fn part(&mut self, peer: Peer, incarnation: Uuid) {
        if let Some(own) = self.peers.get_mut(&incarnation) {
            own.remove(&peer);
            if own.is_empty() {
                self.peers.remove(&incarnation);
            }
        }
    }
}

/// How many connections one new one casts doubt on, the latest first: more than a process has to one dispatcher.
const DOUBTED_MAX: usize = 16;
