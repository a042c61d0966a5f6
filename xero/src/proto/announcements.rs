//! The peers that still need this side's READY, and how many get it in one turn (`PROTOCOL.md` §5).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{ids::IdMap, message::Peer};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    /// In order: peers without any READY first, then those that have waited longest.
    due: BTreeMap<Place, Peer>,
    places: IdMap<Peer, Place>,
    /// Peers whose errors wait for an offer that is yet to be made.
    expecting: BTreeSet<Peer>,
    last: u64,
    /// When the next turn is due, while there are such peers.
    due_at: Option<Instant>,
    /// The bytes of READY in this turn.
    bytes: usize,
}

/// Whether the peer has had a READY, and the order of arrival.
type Place = (bool, u64);

impl Announcements {
    /// Adds a peer that needs READY, its first one or a later one.
    pub(crate) fn add(&mut self, now: Instant, peer: Peer, is_first: bool) {
        if !self.places.contains_key(&peer) {
            self.last += 1;
            let place = (!is_first, self.last);
            self.places.insert(peer, place);
            self.due.insert(place, peer);
            self.due_at.get_or_insert(now);
        }
    }

    /// Removes a peer, because it gets READY; `false` if it needs none.
    pub(crate) fn remove(&mut self, peer: Peer) -> bool {
        let place = self.places.remove(&peer);
        if let Some(place) = &place {
            self.due.remove(place);
        }
        if self.due.is_empty() {
            self.due_at = None;
        }
        place.is_some()
    }

    /// Notes that errors to the peer wait for the next offer.
    pub(crate) fn expect(&mut self, peer: Peer) {
        self.expecting.insert(peer);
    }

    /// Whether errors to the peer wait for the next offer.
    pub(crate) fn is_expecting(&self, peer: Peer) -> bool {
        self.expecting.contains(&peer)
    }

    /// Takes the peers whose errors wait for the next offer.
    pub(crate) fn take_expecting(&mut self) -> BTreeSet<Peer> {
        std::mem::take(&mut self.expecting)
    }

    /// Forgets a peer that is gone.
    pub(crate) fn forget(&mut self, peer: Peer) {
        self.remove(peer);
        self.expecting.remove(&peer);
    }

    /// Whether the peer needs READY.
    pub(crate) fn has(&self, peer: Peer) -> bool {
        self.places.contains_key(&peer)
    }

    /// The next peer, unless this turn has had enough.
    pub(crate) fn next(&self) -> Option<Peer> {
        self.due.values().next().copied().filter(|_| self.bytes < BYTES_OF_A_TURN)
    }

    /// Notes that a READY of this size leaves in this turn.
    pub(crate) fn note_sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Starts a turn. Another one is due at once while a peer is left.
    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.bytes = 0;
        // Not the instant of the first one: that would look as if this thread were late.
        if let Some(due_at) = &mut self.due_at {
            *due_at = now;
        }
    }

    /// When the next turn is due.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.expecting.is_empty()
    }
}

/// The bytes of READY after which a turn ends: some milliseconds of encoding.
///
/// A long offer for hundreds of clients would else hold heartbeats and calls up.
const BYTES_OF_A_TURN: usize = 1 << 20;
