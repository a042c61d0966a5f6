//! Which peers wait for which others to take their messages.

use std::collections::BTreeMap;

use crate::proto::{hold::Receipt, message::Peer};

/// The bytes of the kept receipts, by the peer that waits for them and the peer that they are kept for.
#[derive(Debug, Default)]
pub(super) struct Owed(BTreeMap<(Peer, Peer), u64>);

impl Owed {
    pub(super) fn add(&mut self, to: Peer, receipt: &Receipt) {
        *self.0.entry((receipt.from, to)).or_default() += receipt.bytes;
    }

    pub(super) fn subtract(&mut self, to: Peer, receipt: &Receipt) {
        if let Some(bytes) = self.0.get_mut(&(receipt.from, to)) {
            *bytes = bytes.saturating_sub(receipt.bytes);
            if *bytes == 0 {
                self.0.remove(&(receipt.from, to));
            }
        }
    }

    /// Forgets a peer that waits no more. Returns the peers that it has waited for.
    pub(super) fn forget(&mut self, from: Peer) -> Vec<Peer> {
        let waits = self.0.range((from, Peer(0))..=(from, Peer(u64::MAX)));
        let waits: Vec<_> = waits.map(|((_, to), _)| *to).collect();
        for to in &waits {
            self.0.remove(&(from, *to));
        }
        waits
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
