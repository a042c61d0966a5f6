//! The connections of each process, by its incarnation, and which may be dead (`PROTOCOL.md` §5).
//!
//! A process that reconnects may leave an old connection behind, whose end nobody has noticed. It may also hold several
//! on purpose. So a new connection casts doubt on the earlier ones, until a message arrives on them.

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
    /// Handles an introduction. Returns the connections now in doubt: the process's earlier ones, if this one is new.
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

    /// Handles a message from the peer; returns whether it ends a doubt.
    pub(crate) fn hear(&mut self, peer: Peer) -> bool {
        !self.doubted.is_empty() && self.doubted.remove(&peer)
    }

    /// Handles the end of the peer's connection.
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

/// The connections that one new one casts doubt on, the latest first: more than a process has to one dispatcher.
const DOUBTED_MAX: usize = 16;
