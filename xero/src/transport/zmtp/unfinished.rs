//! The memory of messages that have not arrived whole, of all peers of a socket.

use std::collections::BTreeMap;

use crate::{proto::message::Peer, transport::contract::Limits};

/// How much the peers of a socket hold, and who has held it for longest.
#[derive(Debug)]
pub(super) struct Unfinished {
    bytes: usize,
    bytes_max: usize,
    /// By the order in which their unfinished messages began.
    by_age: BTreeMap<u64, Peer>,
    last: u64,
}

/// What one peer holds.
#[derive(Debug, Default)]
pub(super) struct Share {
    bytes: usize,
    age: u64,
}

impl Unfinished {
    pub(super) fn new(limits: &Limits) -> Self {
        Self::bounded(limits.payload_bytes_max.saturating_mul(4).max(BYTES_MAX))
    }

    pub(super) fn bounded(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, by_age: BTreeMap::new(), last: 0 }
    }

    /// Records what a peer holds now. A message that has `begun` since the last time is younger than all others.
    pub(super) fn update(&mut self, peer: Peer, share: &mut Share, bytes: usize, begun: bool) {
        if share.bytes > 0 && (begun || bytes == 0) {
            self.by_age.remove(&share.age);
        }
        if bytes > 0 && (begun || share.bytes == 0) {
            self.last += 1;
            share.age = self.last;
            self.by_age.insert(self.last, peer);
        }
        self.bytes = self.bytes - share.bytes + bytes;
        share.bytes = bytes;
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.by_age.is_empty()
    }

    /// The peer to end because all together hold too much: the one whose unfinished message is the oldest.
    ///
    /// A working peer completes its message soon, so it is seldom the oldest.
    pub(super) fn excess(&self) -> Option<Peer> {
        if self.bytes <= self.bytes_max {
            return None;
        }
        self.by_age.first_key_value().map(|(_, peer)| *peer)
    }
}

/// The memory for the unfinished messages of all peers, unless the payload limit needs more.
///
/// It is room for eight of the largest messages at once, by default.
const BYTES_MAX: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_whose_message_is_oldest_goes_first() {
        let mut unfinished = Unfinished::new(&Limits { payload_bytes_max: 1, ..Limits::default() });
        let (mut busy, mut slow, mut late) = (Share::default(), Share::default(), Share::default());
        unfinished.update(Peer(1), &mut busy, BYTES_MAX / 2, false);
        unfinished.update(Peer(2), &mut slow, 1, false);
        unfinished.update(Peer(1), &mut busy, BYTES_MAX / 2 - 1, true);
        unfinished.update(Peer(2), &mut slow, BYTES_MAX / 2, false);
        assert_eq!(unfinished.excess(), None);
        unfinished.update(Peer(3), &mut late, 2, false);
        assert_eq!(unfinished.excess(), Some(Peer(2)));
        unfinished.update(Peer(2), &mut slow, 0, false);
        assert_eq!((unfinished.excess(), unfinished.by_age.len()), (None, 2));
        unfinished.update(Peer(1), &mut busy, 0, true);
        unfinished.update(Peer(3), &mut late, 0, true);
        assert_eq!((unfinished.bytes, unfinished.by_age.len()), (0, 0));
    }

    #[test]
    fn large_payload_limit_raises_the_bound() {
        let unfinished = Unfinished::new(&Limits { payload_bytes_max: 1 << 30, ..Limits::default() });
        assert_eq!(unfinished.bytes_max, 4 << 30);
    }
}
