//! The peers that still need this side's READY, and how many get it in one turn (`PROTOCOL.md` §5).

use std::{collections::BTreeSet, time::Instant};

use super::message::Peer;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    due: BTreeSet<Peer>,
    /// Since when there are such peers.
    since: Option<Instant>,
    /// The bytes of READY in this turn.
    bytes: usize,
}

impl Announcements {
    /// Adds a peer that needs READY.
    pub(crate) fn add(&mut self, now: Instant, peer: Peer) {
        self.due.insert(peer);
        self.since.get_or_insert(now);
    }

    /// Removes a peer, because it gets READY or is gone; `false` if it needs none.
    pub(crate) fn remove(&mut self, peer: Peer) -> bool {
        let is_due = self.due.remove(&peer);
        if self.due.is_empty() {
            self.since = None;
        }
        is_due
    }

    /// The next peer, unless this turn has had enough.
    pub(crate) fn next(&self) -> Option<Peer> {
        self.due.first().copied().filter(|_| self.bytes < BYTES_OF_A_TURN)
    }

    /// Notes that a READY of this size leaves in this turn.
    pub(crate) fn note_sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Starts a turn. One is due at once while a peer is left.
    pub(crate) fn begin_turn(&mut self) {
        self.bytes = 0;
    }

    /// When the next turn is due.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.since
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

/// The bytes of READY after which a turn ends: some milliseconds of encoding.
///
/// A long offer for hundreds of clients would else hold heartbeats and calls up.
const BYTES_OF_A_TURN: usize = 1 << 20;
