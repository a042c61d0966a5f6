//! How much one side may hold of its peers, and what it still has to acknowledge (`PROTOCOL.md` §9).

use std::collections::{BTreeMap, VecDeque};

use super::message::Peer;

/// Bytes that one side may hold of its peers' requests and replies.
///
/// Further messages are acknowledged only once there is room, so they stay with their sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// For each peer: its open requests, and the replies that it has not acknowledged. Default 64 MiB, one largest
    /// payload.
    pub peer_bytes_max: u64,
    /// For all peers together. Default 768 MiB.
    ///
    /// A peer's messages are acknowledged while it holds less than what all leave of a third of this. Its requests are
    /// refused once they would be more than four times what the requests of all leave of that third, and more than a
    /// 4,096th of it; or if the requests of all would be more than half of this. So the others never lock a peer out.
    /// One request alone may take four fifteenths of this: a larger one never finds room.
    ///
    /// Large replies of procedures become errors beyond three quarters of it. Beyond the whole, the peers that take
    /// nothing and hold the most are disconnected. Replies that still wait for their acknowledgement come on top: they
    /// are within the windows that a broker grants its workers.
    pub total_bytes_max: u64,
}

impl HoldLimits {
    /// What all peers together may hold before senders wait.
    pub(crate) fn shared_bytes(&self) -> u64 {
        self.total_bytes_max / 3
    }

    /// The most that is held with a large reply of this side's own: what is left is for small ones.
    pub(crate) fn replies_bytes_max(&self) -> u64 {
        self.total_bytes_max - self.total_bytes_max / 4
    }

    /// The most that the requests of all peers may take.
    pub(crate) fn requests_bytes_max(&self) -> u64 {
        self.total_bytes_max / 2
    }

    /// The most that one request may take: it is then four times what it leaves of the shared third.
    pub(crate) fn request_bytes_max(&self) -> u64 {
        let shared = self.shared_bytes();
        shared - shared.div_ceil(5)
    }

    /// The least `total_bytes_max` with which one request may take that many bytes.
    pub(crate) fn total_for(request_bytes: u64) -> u64 {
        request_bytes.saturating_mul(5).div_ceil(4).saturating_mul(3)
    }
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self { peer_bytes_max: 64 << 20, total_bytes_max: 768 << 20 }
    }
}

/// Received bytes to acknowledge; an intermediary does so once they have left.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the peer's window stays full until the bytes are released"]
pub struct Receipt {
    pub(crate) from: Peer,
    pub(crate) bytes: u64,
}

impl Receipt {
    /// Nothing to acknowledge.
    pub(crate) const NONE: Self = Self { from: Peer(0), bytes: 0 };

    pub(crate) fn is_none(&self) -> bool {
        self.bytes == 0
    }
}

/// Receipts that are kept, as one of each sender: however many replies there are, they cost what their senders do.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    bytes: BTreeMap<Peer, u64>,
    /// The senders, in turns.
    order: VecDeque<Peer>,
}

impl Receipts {
    pub(crate) fn add(&mut self, Receipt { from, bytes }: Receipt) {
        let kept = self.bytes.entry(from).or_default();
        if *kept == 0 {
            self.order.push_back(from);
        }
        *kept += bytes;
    }

    /// Takes as many bytes of the next sender; what is left of its receipt has another turn.
    pub(crate) fn take_part(&mut self, max: u64) -> Option<Receipt> {
        let from = if max == 0 { None } else { self.order.pop_front() }?;
        let kept = self.bytes.get_mut(&from)?;
        let bytes = max.min(*kept);
        *kept -= bytes;
        match *kept {
            0 => drop(self.bytes.remove(&from)),
            _ => self.order.push_back(from),
        }
        Some(Receipt { from, bytes })
    }

    /// Takes all receipts of one sender, as their bytes.
    pub(crate) fn take_of(&mut self, from: Peer) -> u64 {
        let Some(bytes) = self.bytes.remove(&from) else { return 0 };
        self.order.retain(|peer| *peer != from);
        bytes
    }

    pub(crate) fn take_all(&mut self) -> Vec<Receipt> {
        let Self { mut bytes, order } = std::mem::take(self);
        order.into_iter().filter_map(|from| Some(Receipt { from, bytes: bytes.remove(&from)? })).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_total_for_a_request_is_the_first_one_with_room_for_it() {
        let with = |total_bytes_max| HoldLimits { total_bytes_max, ..HoldLimits::default() };
        for bytes in (1..2_000).chain([1 << 20, (64 << 20) + 1]) {
            let total = HoldLimits::total_for(bytes);
            assert!(with(total).request_bytes_max() >= bytes, "{bytes} bytes");
            assert!(with(total - 1).request_bytes_max() < bytes, "{bytes} bytes");
        }
        assert_eq!(with(3 << 20).request_bytes_max(), 838_860);
        assert!(with(u64::MAX).request_bytes_max() > u64::MAX / 4);
        assert_eq!(HoldLimits::total_for(u64::MAX), u64::MAX / 4 * 3 + 3);
    }
}
