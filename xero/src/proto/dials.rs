//! The peers that one side dials, and dials again after each loss (`PROTOCOL.md` §6).

use std::{collections::BTreeMap, time::Duration};

use super::{
    message::Peer,
    retry::{Backoff, BackoffConfig},
};

/// The peers 0, 1, 2 …, each with its back-off.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    peers: BTreeMap<Peer, Dial>,
}

#[derive(Debug)]
struct Dial {
    backoff: Backoff,
    /// Its last refusal, which is not logged again.
    refusal: Option<String>,
    /// Its endpoint, for the logs.
    endpoint: Option<String>,
}

impl Dials {
    /// The jitter of each peer's back-off is drawn from the seed and its number.
    pub(crate) fn new(peers: u64, backoff: BackoffConfig, seed: u64) -> Self {
        let dial = |peer: u64| {
            let backoff = Backoff::new(backoff, seed.wrapping_add(peer));
            (Peer(peer), Dial { backoff, refusal: None, endpoint: None })
        };
        Self { peers: (0..peers).map(dial).collect() }
    }

    /// Names the peers' endpoints, in their order.
    pub(crate) fn name_endpoints(&mut self, endpoints: impl IntoIterator<Item = String>) {
        for (dial, endpoint) in self.peers.values_mut().zip(endpoints) {
            dial.endpoint = Some(endpoint);
        }
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = Peer> {
        self.peers.keys().copied()
    }

    pub(crate) fn has(&self, peer: Peer) -> bool {
        self.peers.contains_key(&peer)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(crate) fn endpoint(&self, peer: Peer) -> Option<&str> {
        self.peers.get(&peer)?.endpoint.as_deref()
    }

    /// Handles a peer's answer: its next refusal is news.
    pub(crate) fn note_accepted(&mut self, peer: Peer) {
        if let Some(dial) = self.peers.get_mut(&peer) {
            dial.refusal = None;
        }
    }

    /// Handles the end of a connection that has lasted: its back-off starts over.
    pub(crate) fn note_lasting(&mut self, peer: Peer) {
        if let Some(dial) = self.peers.get_mut(&peer) {
            dial.backoff.reset();
        }
    }

    /// Handles a peer's refusal; returns whether it gave the same reason as before.
    pub(crate) fn is_refused_again(&mut self, peer: Peer, reason: &str) -> bool {
        let Some(dial) = self.peers.get_mut(&peer) else { return false };
        dial.refusal.replace(reason.to_owned()).as_deref() == Some(reason)
    }

    /// The wait before the next dial of a peer, if it is dialed.
    pub(crate) fn next_wait(&mut self, peer: Peer) -> Option<Duration> {
        self.peers.get_mut(&peer).map(|dial| dial.backoff.next())
    }
}
